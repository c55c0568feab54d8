"""Readers of the settings for mail."""

import re
from typing import Final, Literal, NamedTuple
from urllib.parse import unquote, urlsplit

from tokenapp.config.readers import comma_separated

Security = Literal["tls", "starttls", "none"]
_SCHEMES: Final[dict[str, tuple[Security, int]]] = {
    "smtps": ("tls", 465),
    "smtp+starttls": ("starttls", 587),
    "smtp": ("none", 25),
}
_LOOPBACK: Final = re.compile(r"localhost|127(?:\.\d{1,3}){3}|::1")
_DOMAIN: Final = r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.)*[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_ADDRESS: Final = rf"[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~.-]{{1,64}}@{_DOMAIN}"

_SENDER: Final = re.compile(rf"\"?(?P<name>[^<>\"]*?)\"?\s*<(?P<inner>{_ADDRESS})>|(?P<plain>{_ADDRESS})")


class SmtpServer(NamedTuple):
    """The server that mail is handed to."""

    host: str
    port: int
    security: Security
    username: str
    password: str


class Sender(NamedTuple):
    """The sender of all mail; the name may be empty."""

    name: str
    address: str


def smtp_server(raw: str) -> SmtpServer | None:
    """Read the URL of an SMTP server, or None from an empty text."""
    if not raw:
        return None
    try:
        server = _parse_server(raw)
    except (ValueError, LookupError):  # its text may quote the password
        message = "must look like smtps://user:password@host or smtp+starttls://host; smtp:// is for this machine only"
        raise ValueError(message) from None
    if not (server.username + server.password).isascii():
        raise ValueError("must have an ASCII user and password: Python's SMTP client can send no others")
    return server


def sender(raw: str) -> Sender | None:
    """Read the sender of mails, or None from an empty text."""
    if not raw:
        return None
    found = _SENDER.fullmatch(raw)
    name = (found["name"] or "").strip() if found else ""
    if found is None or not name.isprintable():
        raise ValueError("must look like accounts@example.com or Example <accounts@example.com>")
    return Sender(name, found["inner"] or found["plain"])


def domains(raw: str) -> tuple[str, ...]:
    """Read a list of domains."""
    listed = comma_separated(raw.lower())
    if not all(re.fullmatch(_DOMAIN, domain) for domain in listed):
        raise ValueError("must be a comma-separated list of domains such as example.com or xn--mnchen-3ya.example")
    return listed


def _parse_server(raw: str) -> SmtpServer:
    parts = urlsplit(raw)
    security, port = _SCHEMES[parts.scheme]
    host = parts.hostname or ""
    valid = (
        re.fullmatch(r"[!-~]+", raw)
        and re.fullmatch(r"[a-z0-9._:-]+", host)
        and parts.path in {"", "/"}
        and not {"?", "#"} & {*raw}
        and parts.port != 0
        and bool(parts.username) == bool(parts.password)
        and (security != "none" or _LOOPBACK.fullmatch(host))
    )
    if not valid:
        raise ValueError
    return SmtpServer(host, parts.port or port, security, unquote(parts.username or ""), unquote(parts.password or ""))
