"""The names of users: one canonical form, and what a new name may contain."""

import unicodedata
from typing import Final

from tokenapp import errors

MAX_USERNAME: Final = 64
_INVISIBLE_CATEGORIES: Final = ("C", "Zl", "Zp")
_SCRIPTS: Final = ("LATIN", "GREEK", "CYRILLIC", "ARMENIAN", "HEBREW", "ARABIC", "CHEROKEE")


def canonical(username: str) -> str:
    """Return the canonical form of `username`: NFKC, casefolded and trimmed."""
    folded = username
    for _ in range(3):
        previous, folded = folded, unicodedata.normalize("NFKC", folded).casefold().strip()
        if previous == folded:
            break
    return folded


def check_username(username: str) -> str:
    """Return the canonical form of the name of a new user.

    Raises:
        errors.UsernameRejected: with the reason as its detail.
    """
    name = canonical(username)
    if not 1 <= len(name) <= MAX_USERNAME:
        raise errors.UsernameRejected(detail=f"A user name must have 1 to {MAX_USERNAME} characters.")
    if any(unicodedata.category(char).startswith(_INVISIBLE_CATEGORIES) for char in name):
        raise errors.UsernameRejected(detail="A user name must not contain control or invisible characters.")
    if len(_scripts(name)) > 1:
        raise errors.UsernameRejected(detail="A user name must not mix scripts that look alike.")
    return name


def _scripts(name: str) -> set[str]:
    return {script for char in name for script in _SCRIPTS if unicodedata.name(char, "").startswith(script)}
