"""The service's public keys, kept for as long as it allows; an unknown one is looked for once in a while."""

import math
import threading
from time import monotonic
from typing import Any, Final

import jwt

from tokenapp_guard.fetching import FetchError, check_url, fetch_json

KEEP: Final = 300
ASK_AGAIN_AFTER: Final = 10.0
RETRY_AFTER: Final = 1.0
_ALGORITHMS: Final = {"ES256", "RS256", "EdDSA"}


class KeysAway(Exception):  # noqa: N818 -- a state
    """Whether there is such a key cannot be told: the issuer does not answer."""


class JWKS:
    """The key set of one issuer, by kid."""

    def __init__(self, issuer: str) -> None:
        check_url(issuer)
        self._url = f"{issuer}/.well-known/jwks.json"
        self._keys: dict[str, jwt.PyJWK] = {}
        self._keep_until = self._ask_from = -math.inf
        self._away = False
        self._lock = threading.Lock()

    def find(self, kid: Any) -> jwt.PyJWK | None:
        """Return the key named `kid`, if the issuer has it and it is for signatures.

        Raises:
            KeysAway
        """
        if not isinstance(kid, str):
            return None
        # Who knows the key need not wait while somebody renews the set; who does not know it must.
        if self._is_due(kid) and self._lock.acquire(blocking=kid not in self._keys):
            try:
                if self._is_due(kid):
                    self._renew()
            finally:
                self._lock.release()
        key = self._keys.get(kid)
        if key is None and self._away:
            raise KeysAway
        return key

    def _is_due(self, kid: str) -> bool:
        now = monotonic()
        return now >= self._ask_from and (kid not in self._keys or now >= self._keep_until)

    def _renew(self) -> None:
        """Ask for the set; when there is no answer, the keys of before go on: tokens of theirs are no worse for it."""
        began = monotonic()
        try:
            answer = fetch_json(self._url)
            listed = list(answer.document["keys"])
        except (FetchError, KeyError, TypeError):
            self._away, self._ask_from = True, monotonic() + RETRY_AFTER
            return
        keys = map(_usable, listed)
        self._keys = {key.key_id: key for key in keys if key is not None and key.key_id is not None}
        self._keep_until = began + min(KEEP, KEEP if answer.max_age is None else answer.max_age)
        self._away, self._ask_from = False, monotonic() + ASK_AGAIN_AFTER


def _usable(jwk: Any) -> jwt.PyJWK | None:
    """Return the key, if it is one that we can use; one that we cannot must not spoil the others."""
    try:
        if jwk["alg"] in _ALGORITHMS and jwk.get("use", "sig") == "sig" and isinstance(jwk["kid"], str):
            return jwt.PyJWK.from_dict(jwk)
    except (jwt.PyJWTError, AttributeError, KeyError, TypeError, ValueError):
        return None
    return None
