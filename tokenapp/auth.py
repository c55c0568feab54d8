"""The auth blueprint: sign in, refresh, sign out, and a protected route to try them on."""

from datetime import UTC, datetime

import msgspec
from flask import Blueprint, Response, g

from tokenapp import accounts, incoming, sessions, tokens
from tokenapp.models import Grant

bp = Blueprint("auth", __name__, url_prefix="/api")


class LoginBody(msgspec.Struct):
    """What signs a person in."""

    username: str
    password: str


class TokenReply(msgspec.Struct, rename="camel"):
    """An access token, good for `expires_in` seconds; the refresh token goes into the cookie."""

    access_token: str
    token_type: str
    expires_in: int
    message: str | msgspec.UnsetType = msgspec.UNSET


class Greeting(msgspec.Struct):
    """What a protected route has to say."""

    message: str


@bp.post("/login")
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
    return _reply(grant, now, message="Logged in successfully.")


@bp.post("/token")
def refresh() -> Response:
    """Answer a good refresh token with a new access token and the session's current refresh token."""
    incoming.refuse_cross_site()
    now = datetime.now(UTC)
    grant = sessions.refresh(tokens.require_refresh(), now)
    return _reply(grant, now)


@bp.post("/logout")
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
def protected() -> Response:
    """Greet whoever has a good access token."""
    claims = tokens.require_access()
    return incoming.reply(Greeting(f"Welcome, {claims.username}! This is protected data."))


def _reply(grant: Grant, now: datetime, *, message: str | msgspec.UnsetType = msgspec.UNSET) -> Response:
    g.grant = grant
    minted = tokens.mint(grant, now)
    response = incoming.reply(TokenReply(minted.access_token, "Bearer", minted.expires_in, message))
    tokens.set_cookie(response, minted)
    return response
