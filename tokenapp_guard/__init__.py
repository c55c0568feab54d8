"""Protect the views of a Flask application with the access tokens of tokenapp.

    guard = Guard("https://login.example.com", audience="tokenapp-api")

    @app.get("/orders")
    @guard.required
    def orders():
        return {"for": guard.claims["username"]}

The guard verifies a token's signature, issuer, audience, type and lifetime with the public keys of the service. It
needs no database. With client credentials it also follows the service's feed of revoked sessions, without a call per
request; without them it accepts the tokens of a revoked session until they expire.

Why a request was rejected is logged by the logger ``tokenapp_guard``: each reason at most once a minute.
"""

import functools
import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Final, ParamSpec

import jwt
from flask import Response, g, jsonify, request

from tokenapp_guard.cache import MAX_AGE
from tokenapp_guard.feed import Feed
from tokenapp_guard.fetching import FetchError
from tokenapp_guard.issuer import JWKS, Lifetime

__all__ = ["AccessError", "Guard"]

MAX_TOKEN_BYTES: Final = 8192
CLOCK_LEEWAY: Final = 60
LOG_INTERVAL: Final = 60.0
_CLAIMS: Final = ["iss", "aud", "sub", "sid", "jti", "iat", "exp", "type", "username"]
_TEXT_CLAIMS: Final = ("sub", "sid", "jti", "username")
_INVALID: Final = (403, "access_token_invalid", "Access token invalid or expired.")
# What the library's errors mean. Their own texts may contain parts of the token.
_REASONS: Final[tuple[tuple[type[Exception], str], ...]] = (
    (jwt.ExpiredSignatureError, "the token has expired"),
    (jwt.InvalidAudienceError, "the token is for another audience"),
    (jwt.InvalidIssuerError, "the token is another issuer's"),
    (jwt.MissingRequiredClaimError, "the token lacks a claim"),
    (jwt.InvalidSignatureError, "the signature is invalid"),
)
_log: Final = logging.getLogger(__name__)
_Parameters = ParamSpec("_Parameters")


class _RejectedError(Exception):
    """The token is invalid, for a reason that is logged."""


class AccessError(Exception):
    """The request has no valid access token, or its token cannot be verified."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail


class Guard:
    """Verifies bearer tokens that `issuer` signed for `audience`.

    Args:
        issuer: the public URL of the service, its ``TOKENAPP_ISSUER``; https, except on loopback.
        audience: the ``TOKENAPP_AUDIENCE`` of the service.
        max_lifetime: the longest lifetime of an accepted token, in seconds; by default the one that the service
            publishes in its metadata, its ``TOKENAPP_ACCESS_LIFETIME``.
        client_id, client_secret: credentials from ``flask clients create``. With them, the guard follows the feed of
            revoked sessions.
        feed_interval: the seconds between two reads of the feed.
        feed_patience: when the feed was last read longer ago than this, in seconds, requests get a 503.
    """

    def __init__(  # noqa: PLR0913 -- each is a setting of its own, by keyword
        self,
        issuer: str,
        *,
        audience: str,
        max_lifetime: int | None = None,
        client_id: str | None = None,
        client_secret: str | None = None,
        feed_interval: float = 1.0,
        feed_patience: float = 10.0,
    ) -> None:
        self._issuer = issuer.rstrip("/")
        self._audience = audience
        self._max_lifetime = max_lifetime
        self._keys, self._published = JWKS(self._issuer), Lifetime(self._issuer)
        self._logged_at: dict[str, float] = {}
        self._log_lock = threading.Lock()
        self._feed: Feed | None = None
        if client_id and client_secret:
            self._feed = Feed(
                self._issuer,
                client_id,
                client_secret,
                interval=feed_interval,
                patience=feed_patience,
                # The published lifetime may have grown since it was fetched, MAX_AGE ago at most.
                keep=lambda: max(self._longest(), MAX_AGE) + CLOCK_LEEWAY,
            )

    @property
    def claims(self) -> dict[str, Any]:
        """The claims of the current request's token, in a view decorated with `required`."""
        return dict(g._tokenapp_claims)  # noqa: SLF001 -- extensions prefix their names on g with an underscore

    def required(self, view: Callable[_Parameters, Any]) -> Callable[_Parameters, Any]:
        """Require a valid access token for `view`."""

        @functools.wraps(view)
        def guarded(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> Any:
            try:
                g._tokenapp_claims = self.check(request.headers.get("Authorization", ""))  # noqa: SLF001 -- as above
            except AccessError as error:
                return _response(error, self._audience)
            return view(*args, **kwargs)

        return guarded

    def check(self, authorization: str) -> dict[str, Any]:
        """Return the claims of the token in an ``Authorization`` header.

        Raises:
            AccessError: 401 without a token, 403 with an invalid one, 503 if it cannot be verified at the moment.
        """
        scheme, _, token = authorization.strip().partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise AccessError(401, "access_token_missing", "Access token required.")
        try:
            claims = self._verified(token.strip())
            if self._feed is not None and any(map(self._feed.is_revoked, (claims["sid"], claims.get("roles_id")))):
                raise _RejectedError("the session was revoked, or a role removed")  # noqa: TRY301 -- logged with the others
        except FetchError as error:
            self._warn(str(error), error.__cause__)
            raise AccessError(503, "service_unavailable", str(error)) from None
        except (_RejectedError, jwt.PyJWTError, TypeError, ValueError, OverflowError) as error:
            known = (reason for kind, reason in _REASONS if isinstance(error, kind))
            self._warn(str(error) if isinstance(error, _RejectedError) else next(known, "the token is malformed"))
            raise AccessError(*_INVALID) from None
        return claims

    def _verified(self, token: str) -> dict[str, Any]:
        if len(token) > MAX_TOKEN_BYTES:
            raise _RejectedError("the token is too long")
        header = jwt.get_unverified_header(token)
        if header.keys() != {"alg", "kid", "typ"} or header["typ"] != "at+jwt":
            raise _RejectedError("it is not an access token")
        key = self._keys.find(header["kid"])
        if key is None or key.algorithm_name != header["alg"]:
            raise _RejectedError("the issuer does not have the key of the token")
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[key.algorithm_name],
            audience=self._audience,
            issuer=self._issuer,
            options={"require": _CLAIMS, "verify_iat": False},
        )
        if claims["type"] != "access" or not all(isinstance(claims[name], str) for name in _TEXT_CLAIMS):
            raise _RejectedError("it is not an access token")
        if claims["iat"] > time.time() + CLOCK_LEEWAY:
            raise _RejectedError("the token was issued in the future: compare the clocks")
        lifetime = claims["exp"] - claims["iat"]
        if not 0 < lifetime <= self._longest(lifetime):
            raise _RejectedError("the token lives longer than max_lifetime or the issuer's metadata allow")
        return claims

    def _longest(self, at_least: int = 0) -> int:
        return self._published.get(at_least) if self._max_lifetime is None else self._max_lifetime

    def _warn(self, reason: str, cause: object = None) -> None:
        """Log `reason`, unless it was logged within the last minute."""
        now = time.monotonic()
        with self._log_lock:
            if now - self._logged_at.get(reason, -LOG_INTERVAL) < LOG_INTERVAL:
                return
            self._logged_at[reason] = now
        _log.warning("request rejected: %s%s", reason, f" ({cause})" if cause else "")


def _response(error: AccessError, realm: str) -> Response:
    response = jsonify(
        type=f"urn:tokenapp:error:{error.code}",
        title=error.code.replace("_", " ").capitalize(),
        status=error.status,
        detail=error.detail,
        code=error.code,
    )
    response.status_code = error.status
    response.mimetype = "application/problem+json"
    if error.status == 503:  # noqa: PLR2004 -- Service Unavailable
        response.headers["Retry-After"] = "1"
    else:
        parameter = ', error="invalid_token"' if error.status == 403 else ""  # noqa: PLR2004 -- Forbidden
        response.headers["WWW-Authenticate"] = f'Bearer realm="{realm}"{parameter}'
    return response
