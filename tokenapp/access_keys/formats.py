"""The form of an access key: a prefix, 178 random bits and a checksum.

Programs that look for secrets find keys by the pattern, and the checksum rules out other texts of that form. It also
rejects a mistyped key without a database query.
"""

import hashlib
import re
import secrets
import string
import zlib
from typing import Final

PREFIX: Final = "tokenapp_"
PATTERN: Final = f"{PREFIX}[0-9A-Za-z]{{36}}"
RANDOM: Final = 30
_CHECKSUM: Final = 6
_ALPHABET: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
_FORM: Final = re.compile(PATTERN)


def generate() -> str:
    """Return a new access key."""
    random = "".join(secrets.choice(_ALPHABET) for _ in range(RANDOM))
    return PREFIX + random + checksum(random)


def is_well_formed(key: str) -> bool:
    """Return whether a text has the form and the checksum of an access key."""
    if not _FORM.fullmatch(key):
        return False
    random = key[len(PREFIX) : -_CHECKSUM]
    return checksum(random) == key[-_CHECKSUM:]


def checksum(random: str) -> str:
    """Return the CRC-32 of the random part, in six digits of base 62."""
    number, digits = zlib.crc32(random.encode()), ""
    for _ in range(_CHECKSUM):
        number, digit = divmod(number, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits


def digest(key: str) -> str:
    """Return what is stored of a key. Its 178 random bits need no slow hash."""
    return hashlib.sha256(key.encode()).hexdigest()
