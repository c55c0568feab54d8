"""The policy for new passwords: length, and an estimate of their strength.

There are no composition rules, such as "at least one digit".
"""

import threading
import unicodedata
from collections.abc import Iterator
from typing import Final

from zxcvbn import zxcvbn

from tokenapp import config, errors

MAX_BYTES: Final = 1024
MIN_GUESSES: Final = 10**10
# Characters that are estimated at once, and in all. The estimate of 100 at once can take seconds.
_PART: Final = 20
_ESTIMATED: Final = 100
_SERVICE_NAME: Final = "tokenapp"
_MIN_PIECE: Final = 3
_estimating: Final = threading.Lock()  # zxcvbn keeps the names of a call in a global dictionary


def normalize(password: str) -> str:
    """Return the form in which passwords are hashed (NFC).

    It makes passwords independent of how a keyboard composes letters.
    """
    return unicodedata.normalize("NFC", password)


def check(password: str, username: str) -> None:
    """Reject a new password that is too short, too long or easy to guess.

    Raises:
        errors.PasswordRejected: its detail states the reason.
    """
    password = normalize(password)
    shortest = config.current().password_min_length
    if len(password) < shortest:
        raise errors.PasswordRejected(detail=f"The password must have at least {shortest} characters.")
    if len(password.encode()) > MAX_BYTES:
        raise errors.PasswordRejected(detail=f"The password must have at most {MAX_BYTES} bytes.")
    if "\x00" in password:
        raise errors.PasswordRejected(detail="The password must not contain a NUL character.")
    names = [*_pieces(_SERVICE_NAME), *_pieces(username)]
    if not any(_is_strong(part, names) for part in _parts(password)):
        raise errors.PasswordRejected(detail="This password is too easy to guess.")


def _parts(password: str) -> list[str]:
    return [password[start : start + _PART] for start in range(0, min(len(password), _ESTIMATED), _PART)]


def _is_strong(part: str, names: list[str]) -> bool:
    with _estimating:
        return bool(zxcvbn(part, user_inputs=names)["guesses"] >= MIN_GUESSES)


def _pieces(name: str) -> Iterator[str]:
    """Yield the substrings of `name`: a part can begin or end within it."""
    for length in range(min(len(name), _PART), _MIN_PIECE - 1, -1):
        for start in range(len(name) - length + 1):
            yield name[start : start + length]
