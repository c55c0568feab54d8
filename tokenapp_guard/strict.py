"""Read the parts of a token strictly: one encoding, one meaning.

The npm package in the folder ``guard-node`` has the same rules in ``strict.js``. Tests compare the two.
"""

import json
import math
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any, Final, NamedTuple

MAX_TOKEN_BYTES: Final = 8192
MAX_DEPTH: Final = 64
MAX_TIME: Final = 10**15  # exact in JavaScript too


class Parts(NamedTuple):
    """The parts of a token in the compact form (RFC 7515, 3.1), decoded."""

    header: dict[str, Any]
    payload: bytes
    signature: bytes
    signed: bytes


def split(token: str) -> Parts:
    """Decode the parts of `token`.

    Raises:
        ValueError: the token is malformed.
    """
    raw = token.encode("ascii")
    if len(raw) > MAX_TOKEN_BYTES:
        raise ValueError("too long")
    header, payload, signature = raw.split(b".")
    return Parts(json_object(_decode(header)), _decode(payload), _decode(signature), header + b"." + payload)


def json_object(raw: bytes) -> dict[str, Any]:
    """Parse a JSON object without duplicate members.

    Raises:
        ValueError: it is no such object, is nested deeper than `MAX_DEPTH`, or contains a lone surrogate or a number
            beyond the range of JavaScript.
    """
    try:
        value = _JSON.decode(raw.decode())
        _check(value, 1)
    except (RecursionError, OverflowError) as error:
        raise ValueError("nested too deep, or a number is too large") from error
    if not isinstance(value, dict):
        raise ValueError("not an object")  # noqa: TRY004 -- malformed, like the rest
    return value


def is_time(value: object) -> bool:
    """Return whether `value` is a time in whole seconds."""
    return type(value) is int and abs(value) < MAX_TIME


def _decode(segment: bytes) -> bytes:
    """Decode base64url without padding (RFC 7515, 2)."""
    raw = urlsafe_b64decode(segment + b"=" * (-len(segment) % 4))
    if urlsafe_b64encode(raw).rstrip(b"=") != segment:
        raise ValueError("not canonical base64url")
    return raw


def _check(value: Any, depth: int) -> None:
    if isinstance(value, dict | list) and depth > MAX_DEPTH:
        raise ValueError("nested too deep")
    if isinstance(value, str):
        value.encode()  # fails for a lone surrogate
    elif isinstance(value, int | float):
        if not math.isfinite(value):
            raise ValueError("a number is too large")
    elif isinstance(value, dict):
        for name, member in value.items():
            name.encode()
            _check(member, depth + 1)
    elif isinstance(value, list):
        for member in value:
            _check(member, depth + 1)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate member")
    return members


def _no_constant(name: str) -> Any:
    raise ValueError(name)


_JSON: Final = json.JSONDecoder(object_pairs_hook=_without_duplicates, parse_constant=_no_constant)
