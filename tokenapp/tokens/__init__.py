"""JWTs in and out: the strict gate, minting, and the JWTManager through which flask-jwt-extended uses both.

All of the library's public functions work as its documentation says; beneath them, tokens are signed with our keyring
and read by our gate, which sees a token before the library does. Our own routes read tokens by ``decode_token``:
``verify_jwt_in_request`` does the same, and has PyJWT read the header of each token once more.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NoReturn

import jwt
import msgspec
from flask import Flask, Response, current_app, g, request
from flask_jwt_extended import (
    create_access_token,
    create_refresh_token,
    decode_token,
    unset_refresh_cookies,
    verify_jwt_in_request,
)
from flask_jwt_extended.exceptions import FreshTokenRequired, JWTExtendedException

from tokenapp import config, errors
from tokenapp.config import Settings
from tokenapp.models import Grant, RefreshClaims
from tokenapp.tokens import gate
from tokenapp.tokens.gate import AccessClaims
from tokenapp.tokens.manager import Manager

__all__ = [
    "AccessClaims",
    "Minted",
    "clear_cookie",
    "init_app",
    "mint",
    "require_access",
    "require_refresh",
    "set_cookie",
    "sids_of_bearer",
    "sids_of_cookies",
    "try_read",
]

FRESH_FOR: Final = 900
_BEARER_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750, 2.1
_CREDENTIAL: Final = re.compile(r"\s*[!#$%&'*+.^_`|~\w-]+\s+[^=\s]")


class Minted(msgspec.Struct, frozen=True):
    """The tokens for one answer; `expires_in` and `max_age` in seconds."""

    access_token: str
    expires_in: int
    refresh_token: str
    max_age: int


def init_app(app: Flask, settings: Settings, has_ended: Callable[[str, datetime], bool]) -> None:
    """Give `app` a JWTManager of ours; `has_ended` tells of a session id whether its access tokens are dead."""
    app.config.update(
        JWT_TOKEN_LOCATION=("headers",),
        JWT_ACCESS_TOKEN_EXPIRES=timedelta(seconds=settings.access_lifetime),
        JWT_REFRESH_TOKEN_EXPIRES=timedelta(seconds=settings.refresh_lifetime),
        JWT_REFRESH_COOKIE_NAME=settings.cookie_name,
        JWT_REFRESH_COOKIE_PATH="/",
        JWT_COOKIE_SECURE=settings.production,
        JWT_COOKIE_SAMESITE="Strict",
        JWT_COOKIE_CSRF_PROTECT=False,  # the Sec-Fetch-Site and Origin rule of the auth blueprint stands in its place
    )
    Manager(app, settings, has_ended)
    app.register_error_handler(errors.AccessTokenInvalid, _render_invalid)


def mint(grant: Grant, now: datetime) -> Minted:
    """Make the access token and the refresh token for `grant`; the same grant gives the same refresh jti."""
    settings = config.current()
    issued = int(now.timestamp())
    ends = int(min(grant.expires_at, grant.ends_at).timestamp())
    expires = min(issued + settings.access_lifetime, ends)
    authenticated = int(grant.authenticated_at.timestamp())
    access = {
        "sid": grant.sid,
        "iat": issued,
        "exp": expires,
        "auth_time": authenticated,
        "username": grant.username,
    }
    refresh_expires = int(grant.expires_at.timestamp())
    refresh = {
        "sid": grant.sid,
        "jti": grant.jti,
        "gen": grant.generation,
        "iat": int(grant.issued_at.timestamp()),
        "exp": refresh_expires,
    }
    return Minted(
        access_token=create_access_token(grant.user_id, fresh=authenticated + FRESH_FOR, additional_claims=access),
        expires_in=expires - issued,
        refresh_token=create_refresh_token(grant.user_id, additional_claims=refresh),
        max_age=max(1, refresh_expires - issued),
    )


def set_cookie(response: Response, minted: Minted) -> None:
    """Put the refresh token into the refresh cookie."""
    manager: Manager = current_app.extensions["flask-jwt-extended"]
    response.headers.add("Set-Cookie", manager.cookie(minted.refresh_token, minted.max_age))


def clear_cookie(response: Response) -> None:
    """Delete the refresh cookie, repeating every attribute."""
    unset_refresh_cookies(response)


def require_refresh() -> RefreshClaims:
    """Return what the request's refresh cookie says, once it has passed the gate; no database work.

    Raises:
        errors.RefreshTokenMissing, errors.RefreshTokenExpired, errors.RefreshTokenRevoked
    """
    cookies = request.cookies.getlist(config.current().cookie_name)
    if len(cookies) > 1:
        raise errors.RefreshTokenRevoked(reason="two refresh cookies")
    if not any(cookies):
        raise errors.RefreshTokenMissing
    try:
        claims = g.claims = decode_token(cookies[0])
    except jwt.ExpiredSignatureError:
        raise errors.RefreshTokenExpired(reason="token expired") from None
    except jwt.PyJWTError as error:
        raise errors.RefreshTokenRevoked(reason=str(error)) from None
    if claims["type"] != "refresh":
        raise errors.RefreshTokenRevoked(reason="not a refresh token")
    return RefreshClaims(sid=claims["sid"], jti=claims["jti"], gen=claims["gen"])


def try_read(token: str, now: datetime, *, allow_expired: bool = False) -> dict[str, Any] | None:
    """Return the claims of a token of either kind, or None for one that does not pass the gate."""
    try:
        return gate.read(token, now=now, allow_expired=allow_expired)
    except jwt.PyJWTError:
        return None


def sids_of_cookies(*, most: int | None = None) -> list[str]:
    """Return the sessions that the request's authentic refresh cookies name, expired or not.

    Raises:
        errors.InvalidRequest: there are more than `most` cookies.
    """
    cookies = request.cookies.getlist(config.current().cookie_name)
    if most is not None and len(cookies) > most:
        raise errors.InvalidRequest(reason="two refresh cookies", detail="Only one refresh cookie is allowed.")
    return [sid for cookie in cookies for sid in _sid_of(cookie, "refresh")]


def sids_of_bearer() -> list[str]:
    """Return the session that the request's bearer token names, if the token is good."""
    scheme, token = _authorization()
    return _sid_of(token, "access") if scheme == "bearer" else []


def require_access(*, fresh: bool = False) -> AccessClaims:
    """Return what the request's bearer token says, once it has passed the gate and its session has not ended.

    With `fresh`, the password must have been given within the last 15 minutes.

    Raises:
        errors.AccessTokenMissing, errors.AccessTokenInvalid, errors.InvalidRequest (RFC 6750, 3.1)
        errors.ReauthenticationRequired (RFC 9470, 3)
    """
    token = _bearer_token()
    manager: Manager = current_app.extensions["flask-jwt-extended"]
    try:
        claims = decode_token(token)
        if claims["type"] != "access":
            _refuse_access("not an access token")
        if manager.has_ended(claims["sid"], datetime.now(UTC)):
            _refuse_access("session ended")
        g.claims = claims
        if fresh:  # only now: a dead token must not be told that it is merely stale
            verify_jwt_in_request(fresh=True, locations="headers")
    except FreshTokenRequired:
        challenge = f'{_challenge()}, error="insufficient_user_authentication", max_age="{FRESH_FOR}"'
        raise errors.ReauthenticationRequired(headers={"WWW-Authenticate": challenge}) from None
    except (JWTExtendedException, jwt.PyJWTError) as error:
        _refuse_access(str(error))
    return msgspec.convert(claims, AccessClaims)


def _sid_of(token: str, kind: str) -> list[str]:
    try:
        claims = decode_token(token, allow_expired=kind == "refresh")
    except jwt.PyJWTError:
        return []
    return [claims["sid"]] if claims["type"] == kind else []


def _bearer_token() -> str:
    """Return the one well-formed bearer token of the request, and write it as the library wants it."""
    header = request.headers.get("Authorization", "")
    if sum(1 for part in header.split(",") if _CREDENTIAL.match(part)) > 1:
        raise errors.InvalidRequest(reason="two credentials", detail="Only one credential is allowed.")
    scheme, token = _authorization()
    if scheme != "bearer" or not token:
        raise errors.AccessTokenMissing(headers={"WWW-Authenticate": _challenge()})
    if not _BEARER_TOKEN.fullmatch(token):
        _refuse_access("malformed header")
    request.environ["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    return token


def _authorization() -> tuple[str, str]:
    """Return the scheme, in lower case because case does not matter (RFC 9110, 11.1), and what follows it."""
    scheme, _, token = request.headers.get("Authorization", "").strip(" \t").partition(" ")
    return scheme.lower(), token.strip(" \t")


def _refuse_access(reason: str) -> NoReturn:
    raise errors.AccessTokenInvalid(reason=reason)


def _render_invalid(refusal: errors.AccessTokenInvalid) -> Response:
    """Answer, whoever refused the token, with the challenge of RFC 6750 and the status that is set."""
    refusal.status = config.current().invalid_token_status
    refusal.headers = {"WWW-Authenticate": _challenge() + ', error="invalid_token"'}
    return errors.render(refusal)


def _challenge() -> str:
    return f'Bearer realm="{config.current().audience}"'
