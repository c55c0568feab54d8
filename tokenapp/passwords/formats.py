"""The formats of stored password hashes: what can be verified, and at what cost."""

import base64
import hashlib
import re
from typing import Final

from tokenapp import errors
from tokenapp.config.checks import MAX_PASSWORD_COST, MAX_PASSWORD_MEMORY

MAX_SCRYPT: Final = 1 << 20  # N times r times p
MAX_PBKDF2: Final = 2_000_000  # rounds
MAX_BCRYPT: Final = 14  # the logarithm of the rounds
_MIN_BCRYPT: Final = 4
_ARGON2: Final = re.compile(
    r"\$(argon2(?:id|i|d))\$(?:v=(16|19)\$)?m=(\d{1,7}),t=(\d{1,4}),p=(\d{1,2})\$([A-Za-z0-9+/]{11,86})\$([A-Za-z0-9+/]{16,86})",
    re.ASCII,
)
_SCRYPT: Final = re.compile(r"scrypt:(\d{4,7}):(\d{1,2}):(\d{1,2})\$[!-#%-~]{1,64}\$[0-9a-f]{128}", re.ASCII)
_PBKDF2: Final = re.compile(r"pbkdf2:(sha1|sha256|sha512):([1-9]\d{0,7})\$[!-#%-~]{1,64}\$([0-9a-f]+)", re.ASCII)
_BCRYPT: Final = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{30}[.CGKOSWaeimquy26]", re.ASCII)
# What Django, Nextcloud, LDAP servers and Spring Security put before a hash.
_LABEL: Final = re.compile(
    r"(?:argon2(?=\$argon2)|bcrypt\$(?=\$2)|[123]\|(?=\$)|\{(?:argon2(?:id|i)?|bcrypt|blf-crypt|crypt)(?:@\w+)?\}(?=\$))",
    re.IGNORECASE | re.ASCII,
)
# How databases and Python print a hash that was stored as bytes, as Flask-Bcrypt returns it.
_BYTES: Final = re.compile(r"(?:\\x|0x)(?P<hex>(?:[0-9a-f]{2})+)|b'(?P<text>[^']+)'", re.IGNORECASE | re.ASCII)
# Kinds that are named when they are rejected. The text of another hash may be a password, and is not repeated.
_OTHERS: Final = re.compile(
    r"\$(?:1|5|6|7|y|P|H|apr1|scrypt|pbkdf2(?:-sha\d+)?|bcrypt-sha256)\$|\{(?:S?SHA\d*|S?MD5)\}"
    r"|(?:pbkdf2_sha\d+|bcrypt_sha256|scrypt|sha1|md5)\$",
    re.ASCII,
)
_UNKNOWN: Final = "The password hash is neither an argon2 hash nor one of bcrypt or Werkzeug"
_TOO_EXPENSIVE: Final = (
    "The password hash is too expensive to verify ({cost}). Set a new password for this user instead."
)


def unlabelled(stored: str) -> str:
    """Return a hash without what another program put around it.

    That is a label, blanks (a column of the type CHAR), or the notation of bytes.
    """
    stored = stored.strip()
    if printed := _BYTES.fullmatch(stored):
        stored = bytes.fromhex(printed["hex"]).decode("latin-1") if printed["hex"] else printed["text"]
    label = _LABEL.match(stored)
    return stored[label.end() :] if label else stored


def kind_of(stored: str) -> str:
    """Return the kind of a stored hash: its algorithm and cost.

    Raises:
        errors.PasswordRejected: it cannot be verified, or costs so much that its sign-in would harm others.
    """
    for pattern, kind in ((_ARGON2, _argon2), (_BCRYPT, _bcrypt), (_SCRYPT, _scrypt), (_PBKDF2, _pbkdf2)):
        if (match := pattern.fullmatch(stored)) and (found := kind(match)):
            return found
    other = _OTHERS.match(stored)
    raise errors.PasswordRejected(detail=f"{_UNKNOWN} ({other[0]})." if other else f"{_UNKNOWN}.")


def is_verifiable(stored: str) -> bool:
    """Return whether a stored hash is well-formed and of a bounded cost."""
    try:
        kind_of(stored)
    except errors.PasswordRejected:
        return False
    return True


def _argon2(match: re.Match[str]) -> str | None:
    memory, passes, lanes = (int(match[group]) for group in (3, 4, 5))
    fits = passes >= 1 and lanes >= 1 and 8 * lanes <= memory
    if not fits or not _is_base64(match[6]) or not _is_base64(match[7]):
        return None
    if memory * passes > MAX_PASSWORD_COST or memory > MAX_PASSWORD_MEMORY:
        raise errors.PasswordRejected(detail=_TOO_EXPENSIVE.format(cost=f"argon2 with m={memory}, t={passes}"))
    return f"{match[1]}:{memory}:{passes}:{lanes}"


def _bcrypt(match: re.Match[str]) -> str | None:
    cost = int(match[1])
    if cost < _MIN_BCRYPT:
        return None
    if cost > MAX_BCRYPT:
        raise errors.PasswordRejected(detail=_TOO_EXPENSIVE.format(cost=f"bcrypt with a cost of {cost}"))
    return f"bcrypt:{cost}"


def _scrypt(match: re.Match[str]) -> str | None:
    rounds, block, lanes = (int(match[group]) for group in (1, 2, 3))
    if rounds.bit_count() != 1 or not block * lanes:
        return None
    if rounds * block * lanes > MAX_SCRYPT:
        raise errors.PasswordRejected(detail=_TOO_EXPENSIVE.format(cost=f"scrypt with {rounds}:{block}:{lanes}"))
    return f"scrypt:{rounds}:{block}:{lanes}"


def _pbkdf2(match: re.Match[str]) -> str | None:
    if len(match[3]) != 2 * hashlib.new(match[1]).digest_size:
        return None
    if int(match[2]) > MAX_PBKDF2:
        raise errors.PasswordRejected(detail=_TOO_EXPENSIVE.format(cost=f"PBKDF2 with {match[2]} rounds"))
    return f"pbkdf2:{match[1]}:{match[2]}"


def _is_base64(text: str) -> bool:
    """Return whether `text` is canonical base64 without padding."""
    try:
        return base64.b64encode(base64.b64decode(text + "=" * (-len(text) % 4))).decode().rstrip("=") == text
    except ValueError:
        return False
