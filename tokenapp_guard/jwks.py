"""The service's public keys, kept for as long as it allows; an unknown one is looked for once in a while."""

import threading
import time
from typing import Any, Final

import jwt

from tokenapp_guard.fetching import FetchError, check_url, fetch_json

KEEP: Final = 300
ASK_AGAIN_AFTER: Final = 10
_ALGORITHMS: Final = {"ES256", "RS256", "EdDSA"}


class JWKS:
    """The key set of one issuer, by kid."""

    def __init__(self, issuer: str) -> None:
        check_url(issuer)
        self._url = f"{issuer}/.well-known/jwks.json"
        self._keys: dict[str, jwt.PyJWK] = {}
        self._asked_at = -KEEP * 2.0
        self._fetched_at = -KEEP * 2.0
        self._lock = threading.Lock()

    def find(self, kid: Any) -> jwt.PyJWK | None:
        """Return the key named `kid`, if the issuer has it and it is for signatures."""
        if not isinstance(kid, str):
            return None
        now = time.monotonic()
        if kid not in self._keys or now - self._fetched_at > KEEP:
            with self._lock:
                if (kid not in self._keys or now - self._fetched_at > KEEP) and now - self._asked_at > ASK_AGAIN_AFTER:
                    self._renew()
        return self._keys.get(kid)

    def _renew(self) -> None:
        self._asked_at = time.monotonic()
        try:
            listed = fetch_json(self._url).get("keys", [])
            usable = [jwk for jwk in listed if jwk.get("alg") in _ALGORITHMS and jwk.get("use", "sig") == "sig"]
            self._keys = {jwk["kid"]: jwt.PyJWK.from_dict(jwk) for jwk in usable}
            self._fetched_at = self._asked_at
        except (FetchError, jwt.PyJWTError, KeyError, AttributeError, TypeError):
            return  # the keys of before go on; a token of theirs is no worse for it
