"""The names of users: one canonical form, and what a new name may contain."""

import unicodedata
from encodings.idna import ToUnicode
from typing import Final

from tokenapp import errors
from tokenapp.accounts.joiners import is_joiner_in_context

MAX_USERNAME: Final = 254
_PUNYCODE: Final = "xn--"
_INVISIBLE_CATEGORIES: Final = ("C", "Zl", "Zp")
_SCRIPTS: Final = ("LATIN", "GREEK", "CYRILLIC", "ARMENIAN", "HEBREW", "ARABIC", "CHEROKEE")


def canonical(username: str) -> str:
    """Return the canonical form of a user name or address.

    It is NFKC, casefolded and trimmed; a domain in Punycode is decoded.
    """
    folded = _fold(username)
    return _fold(_decoded(folded)) if "@" in folded and _PUNYCODE in folded else folded


def check_username(username: str) -> str:
    """Return the canonical form of the name of a new user.

    Raises:
        errors.UsernameRejected: with the reason as its detail.
    """
    name = canonical(username)
    if not 1 <= len(name) <= MAX_USERNAME:
        raise errors.UsernameRejected(detail=f"A user name must have 1 to {MAX_USERNAME} characters.")
    if any(_is_invisible(name, place) for place in range(len(name))):
        raise errors.UsernameRejected(detail="A user name must not contain control or invisible characters.")
    if any(len(_scripts(side)) > 1 for side in name.split("@")):
        raise errors.UsernameRejected(detail="A user name must not mix scripts that look alike.")
    return name


def _fold(name: str) -> str:
    for _ in range(3):
        previous, name = name, unicodedata.normalize("NFKC", name).casefold().strip()
        if previous == name:
            break
    return name


def _decoded(address: str) -> str:
    """Return an address with the valid labels of its domain in Unicode."""
    local, _, domain = address.rpartition("@")
    return f"{local}@{'.'.join(_label(label) for label in domain.split('.'))}"


def _label(label: str) -> str:
    try:
        return ToUnicode(label)
    except UnicodeError:
        return label


def _is_invisible(name: str, place: int) -> bool:
    invisible = unicodedata.category(name[place]).startswith(_INVISIBLE_CATEGORIES)
    return invisible and not is_joiner_in_context(name, place)


def _scripts(name: str) -> set[str]:
    return {script for char in name for script in _SCRIPTS if unicodedata.name(char, "").startswith(script)}
