"""E-mail addresses: which ones mail can be sent to, and who has one."""

import re
from encodings.idna import ToASCII
from typing import Final

from tokenapp import errors
from tokenapp.accounts.names import canonical

MAX_ADDRESS: Final = 254  # RFC 5321, 4.5.3.1.3
_MAX_LOCAL: Final = 64
_ATOM: Final = r"[\w!#$%&'*+/=?^`{|}~-]+"
_LOCAL: Final = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_IN_HEADERS: Final = re.compile(r"[^\s\x00-\x1f\x7f-\x9f<>,;:\"()\[\]\\@]+@[^\s\x00-\x1f\x7f-\x9f<>,;:\"()\[\]\\@]+")


def check_address(address: str) -> str:
    """Return an address that mail can be sent to, as it was given.

    Raises:
        errors.AddressRejected: it is malformed, or a mail server might deliver it to a different address.
    """
    local, _, domain = address.rpartition("@")
    labels = domain.split(".")
    if not (
        len(address) <= MAX_ADDRESS
        and len(local) <= _MAX_LOCAL
        and _LOCAL.fullmatch(local)
        and is_stable(local)
        and is_stable(domain)
        and len(labels) > 1
        and all(_LABEL.fullmatch(ascii_label(label)) for label in labels)
    ):
        raise errors.AddressRejected
    return address


def check_form(address: str) -> str:
    """Return `address` if it may be another spelling of a stored one.

    Raises:
        errors.AddressRejected
    """
    # The canonical form of a character can have 18 characters, and that of a stored address is never too long.
    if max(len(address), len(canonical(address))) > MAX_ADDRESS or not _IN_HEADERS.fullmatch(address):
        raise errors.AddressRejected
    return address


def is_deliverable(address: str) -> bool:
    """Return whether mail can be sent to `address`."""
    try:
        check_address(address)
    except errors.AddressRejected:
        return False
    return True


def is_stable(part: str) -> bool:
    """Return whether a part of an address has one spelling, apart from ASCII case.

    Otherwise a library or a server may change it: ``ⓖmail.com`` to ``gmail.com``, or the Kelvin sign to ``k``.
    """
    return canonical(part) == "".join(char.lower() if char.isascii() else char for char in part)


def ascii_label(label: str) -> str:
    """Return a label of a domain in lower-case ASCII; empty if it has no such form."""
    if not label.replace("-", "").isalnum():  # among others the dots of other scripts
        return ""
    if label.isascii():
        return label.lower()
    try:
        return ToASCII(label).decode()
    except UnicodeError:
        return ""


def domain_of(address: str) -> str:
    """Return the domain of a deliverable address in lower-case ASCII."""
    return ".".join(map(ascii_label, canonical(address).rpartition("@")[2].split(".")))
