"""The account blueprint: one's own account, password and re-authentication."""

from datetime import datetime
from typing import Annotated, ClassVar, Literal

import msgspec
from flask import Blueprint, Response, g

from tokenapp import accounts, errors, factors, sign_in, tokens
from tokenapp.api.passkey_credentials import StepCredential
from tokenapp.http import requests
from tokenapp.http.endpoint import endpoint, password, text
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


SecondMethod = Literal["totp", "recovery_code", "passkey"]
Code = Annotated[str, text(64, "The code of an authenticator app, or a recovery code.", "123456")]


class Me(msgspec.Struct, rename="camel", omit_defaults=True):
    """The account of the caller. What is not known is left out."""

    id: str
    username: str
    created_at: datetime
    email: str | None = None
    email_verified_at: datetime | None = None
    locale: str | None = None
    has_password: Annotated[bool, msgspec.Meta(description="False if only passkeys sign in.")] = True


class NewPasswordBody(msgspec.Struct, rename="camel"):
    """A new password, and the current one."""

    current_password: Password
    new_password: NewPassword


class ReauthenticationBody(msgspec.Struct):
    """The current password, or a second factor."""

    ANY_REQUIRED: ClassVar = ("password", "method")

    password: Password | msgspec.UnsetType = msgspec.UNSET
    method: SecondMethod | msgspec.UnsetType = msgspec.UNSET
    code: Code = ""
    credential: StepCredential | None = None


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
    known = Me(
        user.id,
        user.username,
        user.created_at,
        user.email,
        user.email_verified_at,
        user.locale,
        has_password=user.password_hash != "",
    )
    return requests.json_response(known)


@bp.put("/me/password")
@endpoint(
    body=NewPasswordBody,
    credential="bearer",
    cookie="set",
    rate_limited=True,
    errors=(errors.PasswordRejected, errors.ReauthenticationRequired),
)
def change_password(body: NewPasswordBody, principal: Principal, now: datetime) -> Response:
    """Change the password, given the current one.

    All sessions are revoked, and a new one is opened: its refresh token is in the cookie.
    """
    caller = sign_in.Caller(principal.user_id, principal.sid, principal.amr)
    grant = sign_in.change_password(caller, body.current_password, body.new_password, now, requests.device())
    g.state.grant = grant
    response = requests.no_content()
    tokens.set_cookie(response, tokens.mint(grant, now))
    return response


@bp.post("/reauthenticate")
@endpoint(
    body=ReauthenticationBody,
    response=AccessResponse,
    credential="bearer",
    cookie="set",
    rate_limited=True,
    errors=(errors.InvalidCode, errors.PasskeyInvalid, errors.PasskeyUnknown, errors.SecondFactorRequired),
)
def reauthenticate(body: ReauthenticationBody, principal: Principal, now: datetime) -> Response:
    """Exchange the password or a second factor for a fresh access token.

    A new session replaces the current one: its refresh token is in the cookie. A second factor is added to what the
    session has proved. For an account with a second factor, the password alone leads to the second step of a sign-in.
    """
    caller = sign_in.Caller(principal.user_id, principal.sid, principal.amr)
    if body.method is not msgspec.UNSET:
        answer = factors.Answer(body.method, body.code, msgspec.to_builtins(body.credential))
        grant = sign_in.step_up(caller, answer, now, requests.device())
    elif body.password is not msgspec.UNSET:
        grant = sign_in.reauthenticate(caller, body.password, now, requests.device())
    else:
        raise errors.InvalidRequest(detail="`password` or `method` is missing.")
    g.state.grant = grant
    minted = tokens.mint(grant, now)
    response = requests.json_response(AccessResponse(minted.access_token, "Bearer", minted.expires_in))
    tokens.set_cookie(response, minted)
    return response
