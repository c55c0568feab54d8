"""Deliver one mail: to the SMTP server or, in development, to the terminal."""

import logging
import re
import smtplib
import ssl
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Final
from urllib.parse import urlsplit

from tokenapp import config
from tokenapp.config.mail import SmtpServer
from tokenapp.mail import outbox
from tokenapp.mail.outbox import Claimed, Content

TIMEOUT: Final = 5.0  # seconds for each step until the server is ready
# Servers that look for viruses before they accept a mail need time. One that was given up would get it several times.
_TRANSFER_TIMEOUT: Final = 10.0
FAULTS: Final = (OSError, smtplib.SMTPException, ValueError)
_ADDRESS: Final = re.compile(r"[^\s\x00-\x1f\x7f<>,;:\"()\[\]\\@]+@[\w.-]+")
_PERMANENT: Final = 500
_AUTHENTICATION: Final = range(530, 540)
_LONGEST_REPLY: Final = 200
log = logging.getLogger(__name__)


class UnusableServerError(OSError):
    """The server cannot be used, so it rejected no mail; the cause says why."""


class Watch:
    """The function that counts deliveries, set by the metrics."""

    count: Callable[[str], object] = staticmethod(lambda _result: None)


watch: Final = Watch()


def deliver(now: datetime) -> bool:
    """Deliver the mail that has waited longest; return whether there was one."""
    mail = outbox.claim(now)
    if mail is None:
        return False
    result = _deliver(mail, now)
    if result is not None:
        watch.count(result)
        log.info("mail %s of kind %s: %s", mail.id, mail.kind, result)
    return True


def check_server() -> None:
    """Connect to the SMTP server and sign in, without sending anything.

    Raises:
        UnusableServerError
    """
    with _connect(_server()):
        pass


def send(content: Content, message_id: str, created_at: datetime) -> None:
    """Send a mail now.

    Raises:
        OSError, smtplib.SMTPException, ValueError: it was not sent, or it is not known whether it was.
    """
    message = compose(content, message_id, created_at)
    if config.current().smtp is None:
        sys.stderr.write(f"\nMail to {content.to}: {content.subject}\n\n{content.text}\n")
        sys.stderr.flush()
        return
    connection = _connect(_server())
    try:
        if connection.sock is not None:
            connection.sock.settimeout(_TRANSFER_TIMEOUT)
        connection.send_message(message)
    finally:
        with suppress(OSError, smtplib.SMTPException):  # the result is known by now
            connection.quit()
        connection.close()


def describe(error: Exception) -> str:
    """Describe an error without the server's text, which may name the recipient."""
    cause = _cause(error)
    code, _ = _reply(cause)
    return type(cause).__name__ if code is None else f"SMTP {code}"


def explain(error: Exception) -> str:
    """Describe an error with its text, for an operator who knows the recipient."""
    cause = _cause(error)
    code, reply = _reply(cause)
    text = str(cause) if code is None else reply.decode(errors="replace")
    plain = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return f"{describe(error)}: {plain[:_LONGEST_REPLY]}" if plain else describe(error)


def compose(content: Content, message_id: str, created_at: datetime) -> EmailMessage:
    """Return the message, with a text and an HTML part."""
    settings = config.current()
    origin = settings.mail_from
    host = urlsplit(settings.issuer).hostname
    message = EmailMessage(policy=SMTP)
    message["From"] = (
        Address(origin.name, addr_spec=origin.address)
        if origin
        else Address("tokenapp", "tokenapp", host or "localhost")
    )
    message["To"] = _recipient(content.to or "")
    message["Subject"] = content.subject
    message["Date"] = format_datetime(created_at)
    message["Message-ID"] = message_id
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(content.text)
    message.add_alternative(content.html, subtype="html")
    message["Content-Language"] = content.language
    return message


def _deliver(mail: Claimed, now: datetime) -> str | None:
    """Deliver a claimed mail, and return the result; None if nothing was to be sent."""
    if now + outbox.LEASE >= mail.expires_at:  # it could arrive after that
        outbox.finish(mail, "expired", "expired")
        return "expired"
    content = outbox.content_of(mail)
    if content is None:
        outbox.finish(mail, "failed", "undecryptable")
        return "failed"
    if content.to is None:
        outbox.finish(mail, "sent", "no recipient")
        return None
    try:
        send(content, mail.message_id, mail.created_at)
    except FAULTS as error:
        if _is_permanent(error):
            outbox.finish(mail, "failed", describe(error))
            return "failed"
        return {"queued": "retried"}.get(state := outbox.postpone(mail, now, describe(error)), state)
    outbox.finish(mail, "sent", "sent")
    return "sent"


def _recipient(address: str) -> Address:
    """Return the stored address for a header, its domain in ASCII.

    Raises:
        ValueError: it is malformed, which smtplib does not check.
    """
    if not _ADDRESS.fullmatch(address):
        raise ValueError("a malformed address")
    local, _, domain = address.rpartition("@")
    return Address(username=local, domain=domain if domain.isascii() else domain.encode("idna").decode())


def _server() -> SmtpServer:
    server = config.current().smtp
    if server is None:
        raise OSError("no SMTP server is set")
    return server


def _connect(server: SmtpServer) -> smtplib.SMTP:
    """Connect to the server, verify its certificate, and sign in.

    Raises:
        UnusableServerError: among others the certificate is invalid, or there is no encryption.
    """
    host = urlsplit(config.current().issuer).hostname
    context = ssl.create_default_context()
    with ExitStack() as opened:
        try:
            if server.security == "tls":
                made: smtplib.SMTP = smtplib.SMTP_SSL(server.host, server.port, host, timeout=TIMEOUT, context=context)
            else:
                made = smtplib.SMTP(server.host, server.port, host, TIMEOUT)
            opened.callback(made.close)
            if server.security == "starttls":
                made.starttls(context=context)
            made.ehlo_or_helo_if_needed()
            if server.username:
                made.login(server.username, server.password)
        except FAULTS as error:
            raise UnusableServerError from error
        opened.pop_all()
    return made


def _is_permanent(error: Exception) -> bool:
    """Return whether the server rejects this mail for good.

    A server that cannot be used is not the fault of the mail.
    """
    if isinstance(error, smtplib.SMTPNotSupportedError | ValueError):
        return True
    code, _ = _reply(error)
    return code is not None and code >= _PERMANENT and code not in _AUTHENTICATION


def _cause(error: Exception) -> BaseException:
    return error.__cause__ or error if isinstance(error, UnusableServerError) else error


def _reply(error: BaseException) -> tuple[int | None, bytes]:
    """Return the code and the text of the server's reply; None without one."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return next(iter(error.recipients.values()), (None, b""))
    if not isinstance(error, smtplib.SMTPResponseException):
        return None, b""
    text = error.smtp_error
    return error.smtp_code, text if isinstance(text, bytes) else text.encode()
