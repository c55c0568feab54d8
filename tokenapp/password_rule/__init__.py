"""The rule for new passwords: long, and not among those that everybody tries first. No composition rules."""

import unicodedata
from functools import cache
from importlib.resources import files
from typing import Final

from tokenapp import config, errors

MAX_BYTES: Final = 1024
_SHORTEST_TELLING_NAME: Final = 3
_LONGEST_UNIT: Final = 8
_SERVICE_NAME: Final = "tokenapp"


def normalize(password: str) -> str:
    """Bring `password` to the one form (NFC) in which it is hashed, so that every keyboard gives the same bytes."""
    return unicodedata.normalize("NFC", password)


def check(password: str, username: str) -> None:
    """Refuse a new password that is too short, too long, or easily guessed.

    Raises:
        errors.PasswordRejected: with the reason as its detail.
    """
    password = normalize(password)
    shortest = config.current().password_min_length
    folded = password.casefold()
    if len(password) < shortest:
        raise errors.PasswordRejected(detail=f"The password must have at least {shortest} characters.")
    if len(password.encode()) > MAX_BYTES:
        raise errors.PasswordRejected(detail=f"The password must have at most {MAX_BYTES} bytes.")
    if "\x00" in password:
        raise errors.PasswordRejected(detail="The password must not hold a NUL character.")
    if len(username) >= _SHORTEST_TELLING_NAME and username in folded:
        raise errors.PasswordRejected(detail="The password must not contain the user name.")
    if _SERVICE_NAME in folded:
        raise errors.PasswordRejected(detail="The password must not contain the name of the service.")
    if _is_repetition(folded) or _is_common(folded):
        raise errors.PasswordRejected(detail="The password is among those that are tried first.")


def _is_repetition(password: str) -> bool:
    """Whether `password` is a short piece over and over, as in ``abcabcabcabcabc``."""
    period = (password + password).find(password, 1)
    return period <= _LONGEST_UNIT and period < len(password)


def _is_common(password: str) -> bool:
    """Whether `password` is a common one, or two of them joined: a long minimum makes people do just that."""
    common = _common_passwords()
    return password in common or any(
        password[:cut] in common and password[cut:] in common for cut in range(1, len(password))
    )


@cache
def _common_passwords() -> frozenset[str]:
    return frozenset(files(__package__).joinpath("common.txt").read_text(encoding="utf-8").split("\n"))
