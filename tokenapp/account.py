"""The account blueprint: what signed-in people see of, and do with, their own account and devices."""

from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec
from flask import Blueprint, Response, request

from tokenapp import accounts, addresses, devices, errors, incoming, openapi, sessions, tokens
from tokenapp.models import Session, User

bp = Blueprint("account", __name__, url_prefix="/api")
PAGE, LONGEST_PAGE = 50, 200
Password = Annotated[str, openapi.text(accounts.MAX_PASSWORD_BYTES, "At most 1,024 bytes.", secret=True)]
_ID = {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"}


class Me(msgspec.Struct, rename="camel"):
    """The account itself."""

    id: str
    username: str
    created_at: datetime


class NewPasswordBody(msgspec.Struct, rename="camel"):
    """A new password, and proof that it is the owner who sets it."""

    current_password: Password
    new_password: Password


class PasswordBody(msgspec.Struct):
    """Proof that the owner is still there."""

    password: Password


class Device(msgspec.Struct, rename="camel"):
    """One live session; `device` is a readable name made of `userAgent`."""

    id: str
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    ip_address: str | None
    user_agent: str | None
    device: str
    current: bool


class DevicePage(msgspec.Struct, rename="camel"):
    """Live sessions, newest first; `nextCursor` asks for the page after this one, if there is one."""

    items: list[Device]
    next_cursor: str | None


class AccessReply(msgspec.Struct, rename="camel"):
    """An access token, good for `expiresIn` seconds."""

    access_token: str
    token_type: Literal["Bearer"]
    expires_in: int


@bp.get("/me")
@openapi.Operation(reply=Me, credential="bearer")
def me() -> Response:
    """Tell whose token it is."""
    claims = tokens.require_access()
    user = _owner(claims)
    return incoming.reply(Me(user.id, user.username, user.created_at))


@bp.put("/me/password")
@openapi.Operation(
    body=NewPasswordBody,
    credential="bearer",
    refuses=(errors.InvalidCredentials, errors.PasswordRejected, errors.TooManyAttempts),
)
@addresses.limited
def change_password() -> Response:
    """Set a new password, given the current one; end all other sessions."""
    claims = tokens.require_access()
    body = incoming.read_json(NewPasswordBody)
    incoming.check_text("currentPassword", body.current_password, longest=accounts.MAX_PASSWORD_BYTES)
    incoming.check_text("newPassword", body.new_password, longest=incoming.MAX_BODY)
    now = datetime.now(UTC)
    user = accounts.authenticate(_owner(claims).username, body.current_password, now)
    accounts.change_password(user, body.new_password, now, keep=claims.sid)
    return incoming.no_content()


@bp.get("/sessions")
@openapi.Operation(
    reply=DevicePage,
    credential="bearer",
    parameters={
        "limit": {"type": "integer", "minimum": 1, "maximum": LONGEST_PAGE, "default": PAGE},
        "cursor": _ID | {"description": "The `nextCursor` of the page before."},
    },
)
def list_sessions() -> Response:
    """List the account's live sessions, page by page."""
    claims = tokens.require_access()
    limit = incoming.read_limit(PAGE, LONGEST_PAGE)
    page = sessions.page_of(claims.sub, datetime.now(UTC), before=incoming.read_cursor(), limit=limit)
    items = [_device(row, claims.sid) for row in page[:limit]]
    return incoming.reply(DevicePage(items, items[-1].id if len(page) > limit else None))


@bp.delete("/sessions/<sid>")
@openapi.Operation(
    credential="fresh bearer",
    cookie="cleared with its session",
    parameters={"sid": _ID},
    refuses=(errors.SessionNotFound, errors.NotFound),
)
def end_session(sid: str) -> Response:
    """End one of the account's sessions."""
    claims = tokens.require_access(fresh=True)
    if not incoming.is_id(sid) or not sessions.end_own(claims.sub, sid, datetime.now(UTC)):
        raise errors.SessionNotFound
    response = incoming.no_content()
    if sid == claims.sid:
        tokens.clear_cookie(response)
    return response


@bp.delete("/sessions")
@openapi.Operation(
    credential="fresh bearer",
    cookie="cleared with its session",
    parameters={"keep": {"const": "current", "description": "Keep the session of the access token."}},
)
def end_sessions() -> Response:
    """End all of the account's sessions, or all but the current one."""
    claims = tokens.require_access(fresh=True)
    kept = request.args.getlist("keep")
    if kept not in ([], ["current"]):
        raise errors.InvalidRequest(detail="The only thing to keep is keep=current.")
    sessions.end_all_of(claims.sub, "signed_out_everywhere", datetime.now(UTC), keep=claims.sid if kept else None)
    response = incoming.no_content()
    if not kept:
        tokens.clear_cookie(response)
    return response


@bp.post("/reauthenticate")
@openapi.Operation(
    body=PasswordBody,
    reply=AccessReply,
    credential="bearer",
    refuses=(errors.InvalidCredentials, errors.TooManyAttempts),
)
@addresses.limited
def reauthenticate() -> Response:
    """Answer the password with a fresh access token for the same session."""
    claims = tokens.require_access()
    body = incoming.read_json(PasswordBody)
    incoming.check_text("password", body.password, longest=accounts.MAX_PASSWORD_BYTES)
    now = datetime.now(UTC)
    accounts.authenticate(_owner(claims).username, body.password, now)
    minted = tokens.mint(sessions.reauthenticate(claims.sid, now), now)
    return incoming.reply(AccessReply(minted.access_token, "Bearer", minted.expires_in))


def _owner(claims: tokens.AccessClaims) -> User:
    """Return the user whose token it is, if there still is one and they may still be here."""
    try:
        user = accounts.get(claims.sub)
    except errors.UserNotFound:
        raise errors.AccessTokenInvalid(reason="user deleted", sid=claims.sid) from None
    if user.disabled_at is not None:
        raise errors.AccessTokenInvalid(reason="user disabled", sid=claims.sid)
    return user


def _device(row: Session, current: str) -> Device:
    return Device(
        id=row.id,
        created_at=row.created_at,
        last_seen_at=row.rotated_at or row.created_at,
        expires_at=row.expires_at,
        ip_address=row.ip_address,
        user_agent=row.user_agent,
        device=devices.describe(row.user_agent),
        current=row.id == current,
    )
