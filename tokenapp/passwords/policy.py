"""The policy for new passwords: length, and an estimate of their strength.

There are no composition rules, such as "at least one digit".
"""

import unicodedata
from typing import Final

from zxcvbn import zxcvbn

from tokenapp import config, errors

MAX_BYTES: Final = 1024
MIN_GUESSES: Final = 10**10
_ESTIMATED: Final = 100  # characters; the estimate of 1,000 can take more than a minute
_SERVICE_NAME: Final = "tokenapp"


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
    estimate = zxcvbn(password[:_ESTIMATED], user_inputs=[username, _SERVICE_NAME], max_length=_ESTIMATED)
    if estimate["guesses"] < MIN_GUESSES:
        raise errors.PasswordRejected(detail="This password is too easy to guess.")
