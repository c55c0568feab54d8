"""The auth blueprint: sign in, refresh, sign out, and a protected example route."""

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from flask import Blueprint, Response, g, request

from tokenapp import access_keys, config, errors, sessions, sign_in, tokens
from tokenapp.api.account import NewPassword
from tokenapp.http import principal, requests
from tokenapp.http.endpoint import endpoint, password, text
from tokenapp.http.principal import Principal
from tokenapp.http.rate_limit import client_network
from tokenapp.models import Grant
from tokenapp.sessions.rotation import DeviceCheck
from tokenapp.tokens.key_tokens import mint_for_key

bp = Blueprint("auth", __name__, url_prefix="/api")


class LoginBody(msgspec.Struct, rename="camel"):
    """The credentials of a user, with a new password if theirs is temporary."""

    username: Annotated[str, text(1024, "The user name, in any spelling.", "demo")]
    password: Annotated[str, password("The password.")]
    new_password: NewPassword | None = None


class TokenResponse(msgspec.Struct, rename="camel"):
    """An access token, valid for `expiresIn` seconds.

    The refresh token is in the cookie.
    """

    access_token: str
    token_type: Literal["Bearer"]
    expires_in: int


class LoginResponse(TokenResponse):
    """An access token and a message."""

    message: str


class Greeting(msgspec.Struct):
    """The message of the protected example route."""

    message: str


@bp.post("/login")
@endpoint(
    body=LoginBody,
    response=LoginResponse,
    credential="cookie, if any",
    cookie="set",
    rate_limited=True,
    errors=(
        errors.InvalidCredentials,
        errors.PasswordChangeRequired,
        errors.PasswordRejected,
        errors.SecondFactorRequired,
    ),
)
def login(body: LoginBody, now: datetime) -> Response:
    """Sign in with a password.

    This opens a session, and revokes the session of a refresh cookie in the request.
    """
    grant = sign_in.sign_in(
        sign_in.Credentials(body.username, body.password, body.new_password),
        requests.device(),
        now,
        replaces=tokens.sid_of_cookie(),
    )
    return signed_in(grant, now)


@bp.post("/token")
@endpoint(response=TokenResponse, credential="cookie or key", cookie="set, with a cookie")
def refresh(now: datetime) -> Response:
    """Exchange the refresh token for new tokens, or a key for an access token.

    The response has a new access token, and its cookie the session's current refresh token. With an access key in
    `Authorization: Bearer`, there is no cookie.
    """
    if "HTTP_AUTHORIZATION" in request.environ and (key := principal.access_key()) is not None:
        return _exchange(key, now)
    claims = g.state.claims = tokens.read_cookie()
    bound = None if config.current().device_binding == "off" else _presented(claims.sid)
    grant = sessions.refresh(claims, now, requests.device(), bound)
    minted = _mint(grant, now)
    return _respond(TokenResponse(minted.access_token, "Bearer", minted.expires_in), minted)


@bp.post("/logout")
@endpoint(credential="cookie or bearer, if any", cookie="cleared", headers=("Clear-Site-Data",))
def logout(now: datetime) -> Response:
    """Sign out.

    This revokes the session of the refresh cookie or, without one, of the bearer token.
    """
    for sid in tokens.sids_of_cookies() or principal.sids_of_bearer():
        sessions.revoke(sid, "logout", now)
        g.state.sid = sid
    response = requests.no_content()
    response.headers["Clear-Site-Data"] = '"cache"'
    tokens.clear_cookie(response)
    return response


@bp.get("/protected")
@endpoint(response=Greeting, credential="bearer or key's")
def protected(principal: Principal) -> Response:
    """Greet the owner of a valid access token."""
    return requests.json_response(Greeting(f"Welcome, {principal.username}! This is protected data."))


def signed_in(grant: Grant, now: datetime) -> Response:
    """Return the response to a sign-in, with the tokens of the session in `grant`."""
    minted = _mint(grant, now)
    reply = LoginResponse(minted.access_token, "Bearer", minted.expires_in, "Logged in successfully.")
    return _respond(reply, minted)


def _exchange(key: str, now: datetime) -> Response:
    holder = access_keys.look_up(key, client_network(), now)
    principal.keep_holder(holder)
    token, expires_in = mint_for_key(holder, now)
    return requests.json_response(TokenResponse(token, "Bearer", expires_in))


def _presented(sid: str) -> DeviceCheck:
    from tokenapp.api import device_binding  # noqa: PLC0415 -- loaded only if sessions are bound

    return device_binding.presented(sid)


def _mint(grant: Grant, now: datetime) -> tokens.Minted:
    g.state.grant = grant
    return tokens.mint(grant, now)


def _respond(body: TokenResponse, minted: tokens.Minted) -> Response:
    response = requests.json_response(body)
    tokens.set_cookie(response, minted)
    return response
