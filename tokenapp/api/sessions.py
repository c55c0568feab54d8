"""The sessions blueprint: list and revoke one's own sessions."""

from datetime import datetime
from typing import Annotated, Final, Literal

import msgspec
from flask import Blueprint, Response

from tokenapp import errors, sessions, tokens
from tokenapp.http import requests
from tokenapp.http.endpoint import PathId, endpoint
from tokenapp.http.principal import Principal
from tokenapp.models import Session
from tokenapp.sessions.device_names import describe

bp = Blueprint("sessions", __name__, url_prefix="/api")
_SID: Final = PathId(errors.SessionNotFound)


class PageQuery(msgspec.Struct):
    """Which page of a list to return."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=200, description="The number of items.")] = 50
    cursor: (
        Annotated[str, msgspec.Meta(pattern=_SID.pattern, description="The `nextCursor` of the previous page.")]
        | msgspec.UnsetType
    ) = msgspec.UNSET


class RevokeQuery(msgspec.Struct):
    """Which sessions to keep."""

    # Not None, which a query could state: keep=null would revoke every session.
    keep: (
        Annotated[Literal["current"], msgspec.Meta(description="Keep the session of the access token.")]
        | msgspec.UnsetType
    ) = msgspec.UNSET


class Device(msgspec.Struct, rename="camel"):
    """One live session, with the address and browser of its last refresh.

    `device` is a readable name derived from `userAgent`. `boundAt` is when the session was bound to a key of the
    device, and `unprovedAt` when it was last refreshed without that key.
    """

    id: str
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    ip_address: str | None
    user_agent: str | None
    device: str
    current: bool
    bound_at: datetime | None
    unproved_at: datetime | None


class DevicePage(msgspec.Struct, rename="camel"):
    """Live sessions, newest first.

    `nextCursor` requests the next page, if there is one.
    """

    items: list[Device]
    next_cursor: str | None


@bp.get("/sessions")
@endpoint(response=DevicePage, query=PageQuery, credential="bearer")
def list_sessions(query: PageQuery, principal: Principal, now: datetime) -> Response:
    """List the live sessions of the account."""
    page = sessions.page_of(principal.user_id, now, before=query.cursor or None, limit=query.limit)
    items = [_device(row, principal.sid) for row in page[: query.limit]]
    return requests.json_response(DevicePage(items, items[-1].id if len(page) > query.limit else None))


@bp.delete("/sessions/<sid>")
@endpoint(credential="fresh bearer", cookie="cleared with its session", path={"sid": _SID}, errors=(errors.NotFound,))
def revoke_session(sid: str, principal: Principal, now: datetime) -> Response:
    """Revoke one session of the account."""
    if not sessions.revoke_own(principal.user_id, sid, now, by=principal.sid):
        raise errors.SessionNotFound
    return _done(cleared=sid == principal.sid)


@bp.delete("/sessions")
@endpoint(query=RevokeQuery, credential="fresh bearer", cookie="cleared with its session")
def revoke_sessions(query: RevokeQuery, principal: Principal, now: datetime) -> Response:
    """Revoke all sessions of the account, or all except the current one."""
    keep = principal.sid if query.keep else None
    sessions.revoke_all_of(principal.user_id, "signed_out_everywhere", now, keep=keep, by=principal.sid)
    return _done(cleared=keep is None)


def _done(*, cleared: bool) -> Response:
    response = requests.no_content()
    if cleared:
        tokens.clear_cookie(response)
    return response


def _device(row: Session, current: str) -> Device:
    return Device(
        id=row.id,
        created_at=row.created_at,
        last_seen_at=row.rotated_at or row.created_at,
        expires_at=row.expires_at,
        ip_address=row.last_ip_address,
        user_agent=row.last_user_agent,
        device=describe(row.last_user_agent),
        current=row.id == current,
        bound_at=row.bound_at,
        unproved_at=row.unproved_at,
    )
