"""Verify access tokens, without a framework."""

import logging
import re
import time
from typing import Any, Final

import jwt

from tokenapp_guard import strict
from tokenapp_guard.cache import MAX_AGE
from tokenapp_guard.errors import AccessError
from tokenapp_guard.feed import Feed
from tokenapp_guard.fetching import FetchError
from tokenapp_guard.issuer import JWKS, Lifetime
from tokenapp_guard.locking import Locking
from tokenapp_guard.principal import Principal

CLOCK_LEEWAY: Final = 60
LOG_INTERVAL: Final = 60.0
_ID: Final = re.compile(r"[!-~]{1,128}")
_log: Final = logging.getLogger("tokenapp_guard")


class _RejectedError(Exception):
    """The token is invalid, for a reason that is logged."""


class Verifier(Locking):
    """Verifies access tokens that `issuer` signed for `audience`.

    Args:
        issuer: the public URL of the service, its ``TOKENAPP_ISSUER``; https, except on loopback.
        audience: the ``TOKENAPP_AUDIENCE`` of the service.
        max_lifetime: the longest lifetime of an accepted token, in seconds; by default the one that the service
            publishes in its metadata, its ``TOKENAPP_ACCESS_LIFETIME``.
        client_id, client_secret: credentials from ``flask clients create``. With them, the verifier follows the feed
            of revoked sessions, access keys and roles.
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
        super().__init__()
        self._issuer = issuer.rstrip("/")
        self._audience = audience
        self._max_lifetime = max_lifetime
        self._keys, self._published = JWKS(self._issuer), Lifetime(self._issuer)
        self._logged_at: dict[str, float] = {}
        self._feed: Feed | None = None
        if bool(client_id) != bool(client_secret):
            raise ValueError("client_id and client_secret belong together")
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

    def verify(self, token: str, *, fetch: bool = True) -> Principal:
        """Return the principal of `token`.

        Args:
            fetch: whether to fetch from the issuer when something is missing, which can take seconds.

        Raises:
            AccessError: 403 for an invalid token, 503 if it cannot be verified at the moment.
            FetchNeededError: something must be fetched, and `fetch` is false.
        """
        try:
            claims = self._verified(token, fetch=fetch)
            # Removing a role revokes the id of the set of roles.
            ids = (claims["sid"], claims.get("roles_id"))
            if self._feed is not None and self._feed.is_revoked(*ids, fetch=fetch):
                raise _RejectedError("the session, access key or role was revoked")  # noqa: TRY301 -- logged below
        except FetchError as error:
            self._warn(str(error), error.__cause__)
            raise AccessError(503, "service_unavailable", str(error)) from None
        except _RejectedError as error:
            self._warn(str(error))
            raise AccessError(403, "access_token_invalid", "Access token invalid or expired.") from None
        return Principal(
            claims["sub"],
            claims["sid"],
            claims["username"],
            tuple(claims.get("roles", ())),
            tuple(claims.get("scope", "").split()),
            tuple(claims.get("amr", ())),
            claims.get("acr", "1"),
            claims,
        )

    def authenticate(self, authorization: str, *, fetch: bool = True) -> Principal:
        """Return the principal of the token in an ``Authorization`` header.

        Raises:
            AccessError: 401 without a token, and as `verify`.
            FetchNeededError: as `verify`.
        """
        scheme, _, token = authorization.strip().partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise AccessError(401, "access_token_missing", "Access token required.")
        return self.verify(token.strip(), fetch=fetch)

    def _verified(self, token: str, *, fetch: bool) -> dict[str, Any]:
        try:
            parts = strict.split(token)
        except ValueError:
            raise _RejectedError("the token is malformed") from None
        header = parts.header
        if header.keys() != {"alg", "kid", "typ"} or header["typ"] != "at+jwt":
            raise _RejectedError("it is not an access token")
        key = self._keys.find(header["kid"], fetch=fetch)
        if key is None or key.algorithm_name != header["alg"]:
            raise _RejectedError("the issuer does not have the key of the token")
        if not _verifies(key, parts):
            raise _RejectedError("the signature is invalid")
        try:
            claims = strict.json_object(parts.payload)
        except ValueError:
            raise _RejectedError("the token is malformed") from None
        self._check(claims, fetch=fetch)
        return claims

    def _check(self, claims: dict[str, Any], *, fetch: bool) -> None:
        _check_types(claims)
        now = time.time()
        if claims["type"] != "access":
            raise _RejectedError("it is not an access token")
        if claims["iss"] != self._issuer:
            raise _RejectedError("the token is another issuer's")
        if claims["aud"] != self._audience:
            raise _RejectedError("the token is for another audience")
        if claims["exp"] <= now:
            raise _RejectedError("the token has expired")
        if max(claims["iat"], claims.get("nbf", claims["iat"])) > now + CLOCK_LEEWAY:
            raise _RejectedError("the token was issued in the future: compare the clocks")
        lifetime = claims["exp"] - claims["iat"]
        if not 0 < lifetime <= self._longest(lifetime, fetch=fetch):
            raise _RejectedError("the token lives longer than max_lifetime or the issuer's metadata allow")

    def _longest(self, at_least: int = 0, *, fetch: bool = True) -> int:
        return self._published.get(at_least, fetch=fetch) if self._max_lifetime is None else self._max_lifetime

    def _warn(self, reason: str, cause: object = None) -> None:
        """Log `reason`, unless it was logged within the last minute."""
        now = time.monotonic()
        with self._lock:
            if now - self._logged_at.get(reason, -LOG_INTERVAL) < LOG_INTERVAL:
                return
            self._logged_at[reason] = now
        _log.warning("request rejected: %s%s", reason, f" ({cause})" if cause else "")


def _verifies(key: jwt.PyJWK, parts: strict.Parts) -> bool:
    try:
        return bool(key.Algorithm.verify(parts.signed, key.key, parts.signature))
    except (jwt.PyJWTError, TypeError, ValueError):
        return False


def _check_types(claims: dict[str, Any]) -> None:
    """Check that no required claim is missing, and the types of known claims."""
    ids = all(isinstance(claims.get(name), str) and _ID.fullmatch(claims[name]) for name in ("sub", "sid", "jti"))
    texts = all(isinstance(claims.get(name), str) for name in ("iss", "aud", "type", "username"))
    times = all(strict.is_time(claims.get(name)) for name in ("iat", "exp"))
    optional = all(strict.is_time(claims[name]) for name in ("nbf", "auth_time") if name in claims)
    optional = optional and all(
        isinstance(claims[name], str) for name in ("acr", "scope", "roles_id") if name in claims
    )
    lists = [claims[name] for name in ("roles", "amr") if name in claims]
    if not all(isinstance(each, list) and all(isinstance(item, str) for item in each) for each in lists):
        optional = False
    if not (ids and texts and times and optional):
        raise _RejectedError("a claim is missing or has another type: it is not an access token")
