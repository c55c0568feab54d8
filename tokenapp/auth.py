"""The auth blueprint: sign in, refresh, sign out, and a protected route to try them on."""

from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec
from flask import Blueprint, Response, g

from tokenapp import accounts, addresses, errors, incoming, openapi, sessions, tokens
from tokenapp.models import Grant

bp = Blueprint("auth", __name__, url_prefix="/api")


class LoginBody(msgspec.Struct):
    """What signs a person in."""

    username: Annotated[str, openapi.text(256, "The name, in any spelling.")]
    password: Annotated[str, openapi.text(1024, "At most 1,024 bytes.", secret=True)]


class TokenReply(msgspec.Struct, rename="camel"):
    """An access token, good for `expiresIn` seconds; the refresh token goes into the cookie."""

    access_token: str
    token_type: Literal["Bearer"]
    expires_in: int


class LoginReply(TokenReply):
    """An access token, and a word of welcome."""

    message: str


class Greeting(msgspec.Struct):
    """What a protected route has to say."""

    message: str


@bp.post("/login")
@openapi.Operation(
    body=LoginBody,
    reply=LoginReply,
    credential="cookie, if any",
    cookie="set",
    refuses=(errors.InvalidCredentials, errors.TooManyAttempts),
)
@addresses.limited
def login() -> Response:
    """Open a session for whoever knows the password; end the one that the browser had."""
    incoming.refuse_cross_site()
    body = incoming.read_json(LoginBody)
    incoming.check_text("username", body.username, longest=256)
    incoming.check_text("password", body.password, longest=1024)
    now = datetime.now(UTC)
    replaced = tokens.sids_of_cookies(most=1)
    user = accounts.authenticate(body.username, body.password, now)
    origin = {"ip_address": incoming.client_address(), "user_agent": incoming.user_agent()}
    grant = sessions.open_session(user, now, replaces=replaced[0] if replaced else None, **origin)
    minted = _mint(grant, now)
    return _reply(LoginReply(minted.access_token, "Bearer", minted.expires_in, "Logged in successfully."), minted)


@bp.post("/token")
@openapi.Operation(reply=TokenReply, credential="cookie", cookie="set")
def refresh() -> Response:
    """Answer a good refresh token with a new access token and the session's current refresh token."""
    incoming.refuse_cross_site()
    now = datetime.now(UTC)
    grant = sessions.refresh(tokens.require_refresh(), now)
    minted = _mint(grant, now)
    return _reply(TokenReply(minted.access_token, "Bearer", minted.expires_in), minted)


@bp.post("/logout")
@openapi.Operation(credential="cookie or bearer, if any", cookie="cleared")
def logout() -> Response:
    """End the session that the cookie names or, without one, that the bearer token names."""
    incoming.refuse_cross_site()
    now = datetime.now(UTC)
    for sid in tokens.sids_of_cookies() or tokens.sids_of_bearer():
        sessions.end(sid, "logout", now)
        g.sid = sid
    response = incoming.no_content()
    tokens.clear_cookie(response)
    return response


@bp.get("/protected")
@openapi.Operation(reply=Greeting, credential="bearer")
def protected() -> Response:
    """Greet whoever has a good access token."""
    claims = tokens.require_access()
    return incoming.reply(Greeting(f"Welcome, {claims.username}! This is protected data."))


def _mint(grant: Grant, now: datetime) -> tokens.Minted:
    g.grant = grant
    return tokens.mint(grant, now)


def _reply(body: TokenReply, minted: tokens.Minted) -> Response:
    response = incoming.reply(body)
    tokens.set_cookie(response, minted)
    return response
