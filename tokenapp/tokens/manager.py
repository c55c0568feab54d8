"""Tokens minted, read and set as cookies through flask-jwt-extended.

The library's public functions work as documented. Our routes use ``decode_token`` where its documentation suggests
``verify_jwt_in_request``, which parses each header once more.
"""

import re
import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

import jwt
import msgspec
from flask import Flask, Response, current_app, request
from flask_jwt_extended import (
    JWTManager,
    create_access_token,
    create_refresh_token,
    decode_token,
    set_refresh_cookies,
    unset_refresh_cookies,
)

from tokenapp import config, errors, keys
from tokenapp.config import Settings
from tokenapp.factors import levels
from tokenapp.models import Grant, RefreshClaims
from tokenapp.sessions.authorization import MULTIPLE
from tokenapp.tokens import verification

FRESH_FOR: Final = 900  # seconds
FRESH_CHALLENGE: Final = f'error="insufficient_user_authentication", max_age="{FRESH_FOR}"'  # RFC 9470, 3
IsRevoked = Callable[[str, datetime, str], bool]
Render = Callable[[errors.TokenappError], Response]
decode: Final = decode_token
_VALUE: Final = "a-token"
_AGE: Final = 1234567
_EXPIRES: Final = re.compile(r" Expires=[^;]*;")


class Minted(msgspec.Struct, frozen=True):
    """The tokens of one response; `expires_in` and `max_age` in seconds."""

    access_token: str
    expires_in: int
    refresh_token: str
    max_age: int


class Manager(JWTManager):
    """flask-jwt-extended's manager, with the keyring in place of its configuration.

    The library's hooks are not enough: they look up key and header separately, and do not know the token's use.
    """

    def __init__(self, app: Flask, settings: Settings, is_revoked: IsRevoked) -> None:
        super().__init__(app)
        self.cookie_name = settings.cookie_name
        self._cookie: str | None = None
        self.token_in_blocklist_loader(
            lambda _header, claims: is_revoked(claims["sid"], datetime.now(UTC), claims.get("roles_id", ""))
        )
        self._claims = {
            use: {"iss": settings.issuer, "aud": verification.audience(use, settings), "type": use} for use in keys.USES
        }

    def cookie(self, token: str, max_age: int) -> str:
        """Return the ``Set-Cookie`` header of the refresh token.

        The library writes it once, as a template. ``Expires`` is left out: it repeats ``Max-Age`` (RFC 6265, 5.3).
        """
        if self._cookie is None:
            response = Response()
            set_refresh_cookies(response, _VALUE, max_age=_AGE)
            line = _EXPIRES.sub("", response.headers["Set-Cookie"])
            self._cookie = line.replace(_VALUE, "{token}").replace(str(_AGE), "{max_age}")
        return self._cookie.format(token=token, max_age=max_age)

    def _encode_jwt_from_config(
        self,
        identity: Any,
        token_type: str,
        claims: dict[str, Any] | None = None,
        fresh: Any = False,  # noqa: FBT002 -- the library's signature
        expires_delta: Any = None,
        headers: Any = None,
    ) -> str:
        del expires_delta, headers  # times are claims, and the key decides the header
        use: keys.Use = "access" if token_type == keys.USES[0] else "refresh"
        key = keys.current(datetime.now(UTC)).signing[use]
        payload = {**self._claims[use], "sub": identity, **(claims or {})}
        if use == "access":
            payload |= {"jti": secrets.token_urlsafe(16), "fresh": fresh}
        message = _header(key.alg, key.kid, key.typ) + b"." + verification.encode(msgspec.json.encode(payload))
        return (message + b"." + verification.encode(key.sign(message))).decode()

    def _decode_jwt_from_config(
        self,
        encoded_token: str,
        csrf_value: Any = None,
        allow_expired: bool = False,  # noqa: FBT001, FBT002 -- the library's signature
    ) -> dict[str, Any]:
        del csrf_value
        return verification.verify(encoded_token, now=datetime.now(UTC), allow_expired=allow_expired)


def init_app(app: Flask, settings: Settings, is_revoked: IsRevoked, render: Render) -> None:
    """Give `app` its JWTManager; `is_revoked` tells if a session is revoked.

    `render` makes the responses to errors of the library's own decorators.
    """
    app.config.update(
        JWT_TOKEN_LOCATION=("headers",),
        JWT_ACCESS_TOKEN_EXPIRES=timedelta(seconds=settings.access_lifetime),
        JWT_REFRESH_TOKEN_EXPIRES=timedelta(seconds=settings.refresh_lifetime),
        JWT_REFRESH_COOKIE_NAME=settings.cookie_name,
        JWT_REFRESH_COOKIE_PATH="/",
        JWT_COOKIE_SECURE=settings.production,
        JWT_COOKIE_SAMESITE="Strict",
        JWT_COOKIE_CSRF_PROTECT=False,  # the same-site rule takes its place
    )
    _render_errors(Manager(app, settings, is_revoked), render)


def _render_errors(manager: Manager, render: Render) -> None:
    """Give the library's errors, for views with ``@jwt_required()``, our form."""

    def invalid(reason: str) -> Response:
        return render(errors.AccessTokenInvalid(reason=reason))

    manager.unauthorized_loader(lambda reason: render(errors.AccessTokenMissing(reason=reason)))
    manager.invalid_token_loader(invalid)
    manager.expired_token_loader(lambda _header, _claims: invalid("token expired"))
    manager.revoked_token_loader(lambda _header, _claims: invalid("session ended"))
    manager.token_verification_failed_loader(lambda _header, _claims: invalid("claims rejected"))
    manager.user_lookup_error_loader(lambda _header, _claims: invalid("unknown user"))
    manager.needs_fresh_token_loader(
        lambda _header, _claims: render(errors.ReauthenticationRequired(challenge=FRESH_CHALLENGE))
    )


def mint(grant: Grant, now: datetime) -> Minted:
    """Return the access token and the refresh token for `grant`."""
    settings = config.current()
    issued = int(now.timestamp())
    refresh_expires = int(grant.expires_at.timestamp())
    session_expires = int(grant.ends_at.timestamp())
    expires = min(issued + settings.access_lifetime, refresh_expires, session_expires)
    authenticated = int(grant.authenticated_at.timestamp())
    access = {
        "sid": grant.sid,
        "iat": issued,
        "exp": expires,
        "auth_time": authenticated,
        "session_expiry": session_expires,
        "amr": grant.amr,
        # As levels.acr_of does, without a call for each token.
        "acr": levels.TWO_FACTORS if MULTIPLE in grant.amr else levels.ONE_FACTOR,
        "username": grant.username,
    }
    if grant.roles:
        access["roles_id"], *access["roles"] = grant.roles
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


def read_cookie() -> RefreshClaims:
    """Return the claims of the request's refresh cookie, without any database query.

    Raises:
        errors.RefreshTokenMissing, errors.RefreshTokenExpired, errors.RefreshTokenRevoked
    """
    cookies = request.cookies.getlist(_manager().cookie_name)
    if len(cookies) > 1:
        raise errors.RefreshTokenRevoked(reason="two refresh cookies")
    if not any(cookies):
        raise errors.RefreshTokenMissing
    try:
        claims = decode_token(cookies[0])
    except jwt.ExpiredSignatureError:
        raise errors.RefreshTokenExpired(reason="token expired") from None
    except jwt.PyJWTError as error:
        raise errors.RefreshTokenRevoked(reason=str(error)) from None
    if claims["type"] != "refresh":
        raise errors.RefreshTokenRevoked(reason="not a refresh token")
    return RefreshClaims(claims["sid"], claims["jti"], claims["gen"], claims["sub"])


def set_cookie(response: Response, minted: Minted) -> None:
    """Set the refresh cookie."""
    response.headers.add("Set-Cookie", _manager().cookie(minted.refresh_token, minted.max_age))


def clear_cookie(response: Response) -> None:
    """Delete the refresh cookie, with the attributes that it was set with.

    The bound cookie of its session is deleted with it, so that the browser asks at once whether the session is live.
    """
    unset_refresh_cookies(response)
    if config.current().device_binding != "off":
        response.delete_cookie("__Host-bound", secure=True, httponly=True, samesite="Strict")


def sid_of_cookie() -> str | None:
    """Return the session of the request's authentic refresh cookie, if any.

    The cookie may have expired.

    Raises:
        errors.InvalidRequest: there are two cookies.
    """
    if len(request.cookies.getlist(_manager().cookie_name)) > 1:
        raise errors.InvalidRequest(reason="two refresh cookies", detail="Only one refresh cookie is allowed.")
    return next(iter(sids_of_cookies()), None)


def sids_of_cookies() -> list[str]:
    """Return the sessions of the request's authentic refresh cookies, expired or not."""
    cookies = request.cookies.getlist(_manager().cookie_name)
    return [sid for cookie in cookies for sid in sids_of(cookie, "refresh")]


def sids_of(token: str, use: str) -> list[str]:
    """Return the session of an authentic token of that use, in a list.

    The list is empty for any other token.

    Refresh tokens may be expired.
    """
    try:
        claims = decode_token(token, allow_expired=use == "refresh")
    except jwt.PyJWTError:
        return []
    return [claims["sid"]] if claims["type"] == use else []


def try_read(token: str, now: datetime, *, allow_expired: bool = False) -> dict[str, Any] | None:
    """Return the claims of an authentic token of either use, or None."""
    try:
        return verification.verify(token, now=now, allow_expired=allow_expired)
    except jwt.PyJWTError:
        return None


def _manager() -> Manager:
    manager: Manager = current_app.extensions["flask-jwt-extended"]
    return manager


@lru_cache(maxsize=64)
def _header(alg: str, kid: str, typ: str) -> bytes:
    return verification.encode(msgspec.json.encode({"alg": alg, "kid": kid, "typ": typ}))
