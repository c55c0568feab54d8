"""The policy for new passwords: length, and an estimate of their strength.

There are no composition rules, such as "at least one digit".
"""

import threading
import unicodedata
from collections.abc import Iterator
from typing import Final

from zxcvbn import zxcvbn

from tokenapp import config, errors

# NIST SP 800-63B-4, 3.1.1.2
SHORTEST_WITH_FACTOR: Final = 8
MIN_GUESSES_WITH_FACTOR: Final = 10**8
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


def check(password: str, username: str, *, second_factor: bool = False) -> None:
    """Reject a new password that is too short, too long or easy to guess.

    Args:
        second_factor: whether the password alone never signs the user in, so that it can be shorter.

    Raises:
        errors.PasswordRejected: its detail states the reason.
    """
    password = normalize(password)
    shortest, guesses = config.current().password_min_length, MIN_GUESSES
    if second_factor:
        shortest, guesses = min(shortest, SHORTEST_WITH_FACTOR), MIN_GUESSES_WITH_FACTOR
    if len(password) < shortest:
        raise errors.PasswordRejected(detail=f"The password must have at least {shortest} characters.")
    if len(password.encode()) > MAX_BYTES:
        raise errors.PasswordRejected(detail=f"The password must have at most {MAX_BYTES} bytes.")
    if "\x00" in password:
        raise errors.PasswordRejected(detail="The password must not contain a NUL character.")
    names = [*_pieces(_SERVICE_NAME), *_pieces(username)]
    if not any(_guesses(part, names) >= guesses for part in _parts(password)):
        raise errors.PasswordRejected(detail="This password is too easy to guess.")


def protects_alone(password: str, username: str) -> bool:
    """Return whether a password is good enough without a second factor."""
    try:
        check(password, username)
    except errors.PasswordRejected:
        return False
    return True


def _parts(password: str) -> list[str]:
    return [password[start : start + _PART] for start in range(0, min(len(password), _ESTIMATED), _PART)]


def _guesses(part: str, names: list[str]) -> int:
    with _estimating:
        return int(zxcvbn(part, user_inputs=names)["guesses"])


def _pieces(name: str) -> Iterator[str]:
    """Yield the substrings of `name`: a part can begin or end within it."""
    for length in range(min(len(name), _PART), _MIN_PIECE - 1, -1):
        for start in range(len(name) - length + 1):
            yield name[start : start + length]
