"""Protect the views of another Flask application with the access tokens of a tokenapp service. No database needed.

    guard = Guard("https://login.example.com", audience="tokenapp-api")

    @app.get("/orders")
    @guard.required
    def orders():
        return {"for": guard.claims["username"]}

Signature, issuer, audience, type and life of the token are checked here, against the service's published keys. With
client credentials the guard also follows the service's feed of ended sessions, at no call per request.
"""

import functools
import time
from collections.abc import Callable
from typing import Any, Final, ParamSpec

import jwt
from flask import Response, g, jsonify, request

from tokenapp_guard.feed import Feed, FeedStale
from tokenapp_guard.jwks import JWKS, KeysAway

__all__ = ["Guard"]

MAX_TOKEN_BYTES: Final = 8192
CLOCK_LEEWAY: Final = 60
_CLAIMS: Final = ["iss", "aud", "sub", "sid", "jti", "iat", "exp", "type", "username"]
_TEXTS: Final = ("sub", "sid", "jti", "username")
_Parameters = ParamSpec("_Parameters")


class Refused(Exception):  # noqa: N818 -- an answer, not a fault
    """The request has no good token; `status` and `code` are the answer's."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail


class Guard:
    """Checks bearer tokens that `issuer` signed for `audience`.

    Args:
        issuer: the service's public URL, as in its ``TOKENAPP_ISSUER``; https, but for loopback in development.
        audience: the service's ``TOKENAPP_AUDIENCE``.
        max_lifetime: the longest life of a token that is accepted, in seconds.
        client_id, client_secret: credentials from ``flask clients create``; with them the feed of ended sessions is
            followed, and while it cannot be for longer than `feed_patience` seconds, requests are answered 503.
    """

    def __init__(  # noqa: PLR0913 -- each is a setting of its own, by keyword
        self,
        issuer: str,
        *,
        audience: str,
        max_lifetime: int = 900,
        client_id: str | None = None,
        client_secret: str | None = None,
        feed_interval: float = 1.0,
        feed_patience: float = 10.0,
    ) -> None:
        self._issuer = issuer.rstrip("/")
        self._audience = audience
        self._max_lifetime = max_lifetime
        self._keys = JWKS(self._issuer)
        self._feed: Feed | None = None
        if client_id and client_secret:
            keep = max_lifetime + CLOCK_LEEWAY
            self._feed = Feed(
                self._issuer, client_id, client_secret, interval=feed_interval, patience=feed_patience, keep=keep
            )

    @property
    def claims(self) -> dict[str, Any]:
        """The claims of the present request's token, in a view that is `required`."""
        return dict(g._tokenapp_claims)  # noqa: SLF001 -- Flask's own place for what belongs to a request

    def required(self, view: Callable[_Parameters, Any]) -> Callable[_Parameters, Any]:
        """Let `view` answer only requests with a good access token."""

        @functools.wraps(view)
        def guarded(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> Any:
            try:
                g._tokenapp_claims = self.check(request.headers.get("Authorization", ""))  # noqa: SLF001 -- as above
            except Refused as refusal:
                return _answer(refusal, self._audience)
            return view(*args, **kwargs)

        return guarded

    def check(self, authorization: str) -> dict[str, Any]:
        """Return the claims of the token in an ``Authorization`` header.

        Raises:
            Refused: 401 without a token, 403 with a bad one, 503 when it cannot be told.
        """
        scheme, _, token = authorization.strip().partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Refused(401, "access_token_missing", "Access token required.")
        try:
            claims = self._verified(token.strip())
            ended = self._feed is not None and self._feed.has_ended(claims["sid"])
        except KeysAway:
            raise Refused(503, "service_unavailable", "Keys cannot be fetched at the moment.") from None
        except FeedStale:
            raise Refused(503, "service_unavailable", "Ended sessions cannot be told at the moment.") from None
        if ended:
            raise Refused(403, "access_token_invalid", "Access token invalid or expired.")
        return claims

    def _verified(self, token: str) -> dict[str, Any]:
        try:
            if len(token) > MAX_TOKEN_BYTES:
                raise jwt.InvalidTokenError
            header = jwt.get_unverified_header(token)
            if header.keys() != {"alg", "kid", "typ"} or header["typ"] != "at+jwt":
                raise jwt.InvalidTokenError
            key = self._keys.find(header["kid"])
            if key is None or key.algorithm_name != header["alg"]:
                raise jwt.InvalidTokenError
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],
                audience=self._audience,
                issuer=self._issuer,
                options={"require": _CLAIMS, "verify_iat": False},
            )
            lives = claims["exp"] - claims["iat"]
            too_early = claims["iat"] > time.time() + CLOCK_LEEWAY
            mistyped = not all(isinstance(claims[name], str) for name in _TEXTS)
            if claims["type"] != "access" or not 0 < lives <= self._max_lifetime or too_early or mistyped:
                raise jwt.InvalidTokenError
        except (jwt.PyJWTError, TypeError, ValueError, OverflowError):
            raise Refused(403, "access_token_invalid", "Access token invalid or expired.") from None
        return claims


def _answer(refusal: Refused, realm: str) -> Response:
    response = jsonify(
        type=f"urn:tokenapp:error:{refusal.code}",
        title=refusal.code.replace("_", " ").capitalize(),
        status=refusal.status,
        detail=refusal.detail,
        code=refusal.code,
    )
    response.status_code = refusal.status
    response.mimetype = "application/problem+json"
    if refusal.status == 503:  # noqa: PLR2004 -- Service Unavailable
        response.headers["Retry-After"] = "1"
    if refusal.status in {401, 403}:
        error = ', error="invalid_token"' if refusal.status == 403 else ""  # noqa: PLR2004 -- Forbidden
        response.headers["WWW-Authenticate"] = f'Bearer realm="{realm}"{error}'
    return response
