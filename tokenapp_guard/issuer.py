"""Fetch the keys of the service, and the lifetime of its access tokens."""

from typing import Any, Final

import jwt

from tokenapp_guard.cache import Cached
from tokenapp_guard.fetching import FetchError

_ALGORITHMS: Final = {"ES256", "RS256", "EdDSA"}
_LIFETIME: Final = "tokenapp_access_token_lifetime"
_DEFAULT_LIFETIME: Final = 900  # of services before 0.2, which do not publish it


class JWKS:
    """The key set of an issuer."""

    def __init__(self, issuer: str) -> None:
        self._keys = Cached(f"{issuer}/.well-known/jwks.json", "Keys", _usable_keys)

    def find(self, kid: Any, *, fetch: bool = True) -> jwt.PyJWK | None:
        """Return the signing key `kid`, or None if the issuer does not have it.

        Raises:
            FetchError: the key is not in the cache, and the issuer is unavailable.
            FetchNeededError: the keys must be fetched, and `fetch` is false.
        """
        if not isinstance(kid, str):
            return None
        keys = self._keys.get(lambda known: kid in known, fetch=fetch)
        return keys.get(kid) if keys else None


class Lifetime:
    """The lifetime of access tokens, from the metadata of an issuer (RFC 8414)."""

    def __init__(self, issuer: str) -> None:
        def parse(document: Any) -> int:
            seconds = document.get(_LIFETIME, _DEFAULT_LIFETIME)
            if document["issuer"] != issuer or type(seconds) is not int:  # RFC 8414, 3.3
                message = "the metadata is another issuer's"
                raise TypeError(message)
            return int(seconds)

        self._seconds = Cached(f"{issuer}/.well-known/oauth-authorization-server", "The metadata", parse)

    def get(self, at_least: int = 0, *, fetch: bool = True) -> int:
        """Return the lifetime in seconds; fetch it again if it is under `at_least`.

        Raises:
            FetchError: it is not in the cache, and the issuer is unavailable.
            FetchNeededError: it must be fetched, and `fetch` is false.
        """
        seconds = self._seconds.get(lambda known: known >= at_least, fetch=fetch)
        if seconds is None:
            raise FetchError("The metadata cannot be fetched at the moment.")
        return seconds


def _usable_keys(document: Any) -> dict[str, jwt.PyJWK]:
    keys = map(_usable, list(document["keys"]))
    return {key.key_id: key for key in keys if key is not None and key.key_id is not None}


def _usable(jwk: Any) -> jwt.PyJWK | None:
    """Return the key, or None if it cannot be used: the others of its set still can."""
    try:
        if jwk["alg"] in _ALGORITHMS and jwk.get("use", "sig") == "sig" and isinstance(jwk["kid"], str):
            return jwt.PyJWK.from_dict(jwk)
    except (jwt.PyJWTError, AttributeError, KeyError, TypeError, ValueError):
        return None
    return None
