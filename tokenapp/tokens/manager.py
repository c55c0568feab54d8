"""flask-jwt-extended's manager with our keyring and our gate beneath it."""

import re
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

import msgspec
from flask import Flask, Response
from flask_jwt_extended import JWTManager, set_refresh_cookies

from tokenapp import keys
from tokenapp.config import Settings
from tokenapp.tokens import gate

_VALUE: Final = "a-token"
_AGE: Final = 1234567
_EXPIRES: Final = re.compile(r" Expires=[^;]*;")


class Manager(JWTManager):
    """flask-jwt-extended's manager, with the keyring and the gate in place of its configuration.

    Its hooks would not do: they look up key and header apart from each other, and do not say what kind of token it is.
    """

    def __init__(self, app: Flask, settings: Settings, has_ended: Callable[[str, datetime], bool]) -> None:
        super().__init__(app)
        self.has_ended = has_ended
        self._cookie: str | None = None
        self.token_in_blocklist_loader(lambda _header, claims: has_ended(claims["sid"], datetime.now(UTC)))
        self._claims = {
            use: {"iss": settings.issuer, "aud": gate.audience(use, settings), "type": use} for use in keys.USES
        }

    def cookie(self, token: str, max_age: int) -> str:
        """Write the refresh cookie's line as the library does, which so has to work it out but once.

        Without ``Expires``, which changes with the clock and says again what ``Max-Age`` says (RFC 6265, 5.3).
        """
        if self._cookie is None:
            response = Response()
            set_refresh_cookies(response, _VALUE, max_age=_AGE)
            line = _EXPIRES.sub("", response.headers["Set-Cookie"])
            self._cookie = line.replace(_VALUE, "{token}").replace(str(_AGE), "{max_age}")
        return self._cookie.format(token=token, max_age=max_age)  # a token needs no quotes: it is base64url and dots

    def _encode_jwt_from_config(
        self,
        identity: Any,
        token_type: str,
        claims: dict[str, Any] | None = None,
        fresh: Any = False,  # noqa: FBT002 -- the library's signature
        expires_delta: Any = None,
        headers: Any = None,
    ) -> str:
        del expires_delta, headers  # times come as claims, and nobody but the key decides the header
        use: keys.Use = "access" if token_type == keys.USES[0] else "refresh"
        key = keys.current(datetime.now(UTC)).signing[use]
        payload = {**self._claims[use], "sub": identity, **(claims or {})}
        if use == "access":
            payload |= {"jti": secrets.token_urlsafe(16), "fresh": fresh}
        message = _header(key.alg, key.kid, key.typ) + b"." + gate.encode(msgspec.json.encode(payload))
        return (message + b"." + gate.encode(key.sign(message))).decode()

    def _decode_jwt_from_config(
        self,
        encoded_token: str,
        csrf_value: Any = None,
        allow_expired: bool = False,  # noqa: FBT001, FBT002 -- the library's signature
    ) -> dict[str, Any]:
        del csrf_value
        return gate.read(encoded_token, now=datetime.now(UTC), allow_expired=allow_expired)


@lru_cache(maxsize=64)
def _header(alg: str, kid: str, typ: str) -> bytes:
    return gate.encode(msgspec.json.encode({"alg": alg, "kid": kid, "typ": typ}))
