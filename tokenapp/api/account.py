"""The account blueprint: one's own account, password and re-authentication."""

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from flask import Blueprint, Response, g

from tokenapp import accounts, errors, sign_in, tokens
from tokenapp.http import requests
from tokenapp.http.endpoint import endpoint, password
from tokenapp.http.principal import Principal

bp = Blueprint("account", __name__, url_prefix="/api")
Password = Annotated[str, password("The current password.")]
NewPassword = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[^\x00]*$",
        description="The new password, of at most 1,024 bytes in UTF-8.",
        examples=["several words that are hard to guess"],
        extra_json_schema={"format": "password"},
    ),
]


class Me(msgspec.Struct, rename="camel", omit_defaults=True):
    """The account of the caller. What is not known is left out."""

    id: str
    username: str
    created_at: datetime
    email: str | None = None
    email_verified_at: datetime | None = None
    locale: str | None = None


class NewPasswordBody(msgspec.Struct, rename="camel"):
    """A new password, and the current one."""

    current_password: Password
    new_password: NewPassword


class PasswordBody(msgspec.Struct):
    """The current password."""

    password: Password


class AccessResponse(msgspec.Struct, rename="camel"):
    """An access token, valid for `expiresIn` seconds."""

    access_token: str
    token_type: Literal["Bearer"]
    expires_in: int


@bp.get("/me")
@endpoint(response=Me, credential="bearer")
def me(principal: Principal) -> Response:
    """Return the account of the caller."""
    user = accounts.get_active(principal.user_id)
    known = Me(user.id, user.username, user.created_at, user.email, user.email_verified_at, user.locale)
    return requests.json_response(known)


@bp.put("/me/password")
@endpoint(body=NewPasswordBody, credential="bearer", cookie="set", rate_limited=True, errors=(errors.PasswordRejected,))
def change_password(body: NewPasswordBody, principal: Principal, now: datetime) -> Response:
    """Change the password, given the current one.

    All sessions are revoked, and a new one is opened: its refresh token is in the cookie.
    """
    grant = sign_in.change_password(
        principal.user_id, principal.sid, body.current_password, body.new_password, now, requests.device()
    )
    g.state.grant = grant
    response = requests.no_content()
    tokens.set_cookie(response, tokens.mint(grant, now))
    return response


@bp.post("/reauthenticate")
@endpoint(body=PasswordBody, response=AccessResponse, credential="bearer", cookie="set", rate_limited=True)
def reauthenticate(body: PasswordBody, principal: Principal, now: datetime) -> Response:
    """Exchange the password for a fresh access token.

    A new session replaces the current one: its refresh token is in the cookie.
    """
    grant = sign_in.reauthenticate(principal.user_id, principal.sid, body.password, now, requests.device())
    g.state.grant = grant
    minted = tokens.mint(grant, now)
    response = requests.json_response(AccessResponse(minted.access_token, "Bearer", minted.expires_in))
    tokens.set_cookie(response, minted)
    return response
