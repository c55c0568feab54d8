"""Strict verification of tokens: encoding, signature and every claim."""

import json
from binascii import a2b_base64, b2a_base64
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final, Literal, NoReturn

import jwt
import msgspec

from tokenapp import config, keys, nesting

MAX_TOKEN_BYTES: Final = 8192
CLOCK_LEEWAY: Final = 60
_VERIFIED_MAX: Final = 4096
_NAMED_MAX: Final = 64
# As base64.urlsafe_b64encode does, with half of its function calls.
_TO_URL: Final = bytes.maketrans(b"+/", b"-_")
_FROM_URL: Final = bytes.maketrans(b"-_", b"+/")
_HEADER_MEMBERS: Final = {"alg", "kid", "typ"}
# Printable ASCII: databases cannot store NUL.
_Id = Annotated[str, msgspec.Meta(pattern=r"\A[!-~]{1,128}\Z")]


_LATEST: Final = 253402300799  # the last second that Python's dates can express


class AccessClaims(msgspec.Struct, frozen=True):
    """The claims of an access token (RFC 9068, with `sid`, `fresh` and `username`).

    Times are whole seconds.
    """

    iss: str
    aud: str
    sub: _Id
    sid: _Id
    jti: _Id
    iat: int
    exp: int
    auth_time: Annotated[int, msgspec.Meta(ge=0, le=_LATEST)]
    type: Literal["access"]
    fresh: bool | int
    username: str
    amr: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    roles_id: str = ""
    scope: str = ""
    acr: Literal["1", "2"] = "1"
    nbf: int = 0


class RefreshPayload(msgspec.Struct, frozen=True):
    """The claims of a refresh token; `gen` counts the earlier tokens of its session."""

    iss: str
    aud: str
    sub: _Id
    sid: _Id
    jti: _Id
    gen: int
    iat: int
    exp: int
    type: Literal["refresh"]
    nbf: int = 0


# Created at import, before there are threads: msgspec is not thread-safe when it prepares a type.
_DECODERS: Final[Mapping[keys.Use, Any]] = {
    "access": msgspec.json.Decoder(AccessClaims),
    "refresh": msgspec.json.Decoder(RefreshPayload),
}


def verify(token: str, *, now: datetime, allow_expired: bool = False) -> dict[str, Any]:
    """Return the claims of `token` after checking its encoding, signature and claims.

    The key named by ``kid`` decides the algorithm and the token's use. Claims are parsed only after the signature was
    verified.

    Raises:
        jwt.ExpiredSignatureError: the token is authentic and expired.
        jwt.InvalidTokenError: the token is invalid for another reason, given for the log.
    """
    ring = keys.current(now)
    claims = ring.verified.get(token)
    if claims is None:
        key, payload = _authentic(token, ring, now)
        claims = _checked(payload, key.use)
        if key.alg == "ES256":
            if len(ring.verified) >= _VERIFIED_MAX:
                ring.verified.clear()
            ring.verified[token] = claims
    moment = now.timestamp()
    if max(claims["iat"], claims.get("nbf", 0)) > moment + CLOCK_LEEWAY:
        _reject("issued in the future")
    if claims["exp"] <= moment and not allow_expired:
        expired: Any = jwt.ExpiredSignatureError("expired")
        expired.jwt_header, expired.jwt_data = {}, claims  # flask-jwt-extended's own handler reads these
        raise expired
    return dict(claims)


def audience(use: keys.Use, settings: config.Settings) -> str:
    """Return the ``aud`` of tokens: the API for access, this service for refresh."""
    return settings.audience if use == "access" else settings.issuer


def encode(raw: bytes) -> bytes:
    """Encode as base64url without padding (RFC 7515, 2)."""
    return b2a_base64(raw, newline=False).translate(_TO_URL).rstrip(b"=")


def _authentic(token: str, ring: keys.Keyring, now: datetime) -> tuple[keys.Key, bytes]:
    """Check the signature; return the key and the payload."""
    try:
        raw = token.encode("ascii")
        if len(raw) > MAX_TOKEN_BYTES:
            _reject("too long")
        header, payload, signature = raw.split(b".")
        key = ring.named.get(header) or _key_for(header, now)
        if not key.verifies(header + b"." + payload, sig=_decode(signature)):
            _reject("bad signature")
        if len(ring.named) < _NAMED_MAX and ring.by_kid.get(key.kid) is key:
            ring.named[header] = key
        return key, _decode(payload)
    except ValueError:
        _reject("malformed")


def _key_for(segment: bytes, now: datetime) -> keys.Key:
    header = _json_object(_decode(segment))
    if header.keys() != _HEADER_MEMBERS or not isinstance(header["kid"], str):
        _reject("header members")
    key = keys.find(header["kid"], now)
    if key is None:
        _reject("unknown kid")
    if header["alg"] != key.alg or header["typ"] != key.typ:
        _reject("header does not match its key")
    return key


def _checked(payload: bytes, use: keys.Use) -> dict[str, Any]:
    """Return the claims in `payload`; reject missing, mistyped and unacceptable ones."""
    try:
        claims = _json_object(payload)  # rejects duplicate members
        _DECODERS[use].decode(payload)  # rejects NaN, lone surrogates and wrong types
    except (ValueError, msgspec.DecodeError):
        _reject("claims missing or mistyped")
    settings = config.current()
    if claims["iss"] != settings.issuer or claims["aud"] != audience(use, settings):
        _reject("another issuer or audience")
    lifetime = settings.access_lifetime if use == "access" else settings.refresh_lifetime
    if not 0 < claims["exp"] - claims["iat"] <= lifetime:
        _reject("lifetime exceeds policy")
    return claims


def _reject(reason: str) -> NoReturn:
    raise jwt.InvalidTokenError(reason)


def _decode(segment: bytes) -> bytes:
    """Decode base64url without padding (RFC 7515, 2); reject non-canonical encodings."""
    raw = a2b_base64(segment.translate(_FROM_URL) + b"=" * (-len(segment) % 4))
    if encode(raw) != segment:
        message = "not canonical base64url"
        raise ValueError(message)
    return raw


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        message = "duplicate member"
        raise ValueError(message)
    return members


_JSON: Final = json.JSONDecoder(object_pairs_hook=_without_duplicates)


def _json_object(raw: bytes) -> dict[str, Any]:
    text = raw.decode()
    # Counted here as well, because no token of this service gets beyond it, and a call would cost more than the count.
    if text.count("[") + text.count("{") > nesting.MAX_DEPTH and nesting.is_too_deep(text):
        message = "nested too deep"
        raise ValueError(message)
    value = _JSON.decode(text)
    if not isinstance(value, dict):
        message = "not an object"
        raise ValueError(message)  # noqa: TRY004 -- malformed, like the rest
    return value
