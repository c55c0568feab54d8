"""Fetch and cache the service's public keys, and limit lookups of unknown ones."""

import math
import threading
from time import monotonic
from typing import Any, Final

import jwt

from tokenapp_guard.fetching import FetchError, check_url, fetch_json

MAX_AGE: Final = 300
FETCH_INTERVAL: Final = 10.0
RETRY_INTERVAL: Final = 1.0
MAX_STALE: Final = 86400.0  # seconds for which keys are accepted while the issuer is unavailable
_ALGORITHMS: Final = {"ES256", "RS256", "EdDSA"}


class JWKS:
    """The key set of an issuer."""

    def __init__(self, issuer: str) -> None:
        check_url(issuer)
        self._url = f"{issuer}/.well-known/jwks.json"
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fresh_until = self._next_fetch = self._fetched_at = -math.inf
        self._failed = False
        self._lock = threading.Lock()

    def find(self, kid: Any) -> jwt.PyJWK | None:
        """Return the signing key `kid`, or None if the issuer does not have it.

        Raises:
            FetchError: the key is not in the cache, and the issuer is unavailable.
        """
        if not isinstance(kid, str):
            return None
        # A request with a known key does not wait for another request's fetch; one with an unknown key does.
        if self._is_due(kid) and self._lock.acquire(blocking=kid not in self._keys):
            try:
                if self._is_due(kid):
                    self._fetch()
            finally:
                self._lock.release()
        key = self._keys.get(kid) if monotonic() - self._fetched_at < MAX_STALE else None
        if key is None and self._failed:
            raise FetchError("Keys cannot be fetched at the moment.")
        return key

    def _is_due(self, kid: str) -> bool:
        now = monotonic()
        return now >= self._next_fetch and (kid not in self._keys or now >= self._fresh_until)

    def _fetch(self) -> None:
        """Fetch the key set; after a failure, keep the last one for up to a day."""
        began = monotonic()
        try:
            response = fetch_json(self._url)
            keys = map(_usable, list(response.document["keys"]))
        except (FetchError, KeyError, TypeError):
            self._failed, self._next_fetch = True, monotonic() + RETRY_INTERVAL
            return
        self._keys = {key.key_id: key for key in keys if key is not None and key.key_id is not None}
        self._fetched_at = began
        self._fresh_until = began + min(MAX_AGE, MAX_AGE if response.max_age is None else response.max_age)
        self._failed, self._next_fetch = False, monotonic() + FETCH_INTERVAL


def _usable(jwk: Any) -> jwt.PyJWK | None:
    """Return the key, or None if it cannot be used: the others of its set still can."""
    try:
        if jwk["alg"] in _ALGORITHMS and jwk.get("use", "sig") == "sig" and isinstance(jwk["kid"], str):
            return jwt.PyJWK.from_dict(jwk)
    except (jwt.PyJWTError, AttributeError, KeyError, TypeError, ValueError):
        return None
    return None
