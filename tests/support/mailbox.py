"""An SMTP server that keeps what it receives, or misbehaves."""

import asyncio
import re
import socket
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any, Final, Literal, Self, cast

from aiosmtpd.controller import Controller
from flask import Flask

from tests.support.concurrency import wait_until
from tokenapp.mail import delivery

Behaviour = Literal["accept", "drop after data", "4xx", "5xx", "hang", "slow", "rude", "away"]
_ERRORS: Final = {"4xx": "451 try again later", "5xx": "550 no such mailbox", "hang": "451 too slow"}
TOKEN = r"[A-Za-z0-9_-]{43}"


class Mailbox:
    """A server on a port of its own, which does what `behaviour` says."""

    def __init__(self) -> None:
        # Bound for as long as the mailbox exists, so that no other process gets the port while the server is away.
        self._reserved = socket.socket()
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reserved.bind(("127.0.0.1", 0))
        self.port = int(self._reserved.getsockname()[1])
        self.attempts = 0
        self._behaviour: Behaviour = "away"
        self._received: list[tuple[EmailMessage, list[str]]] = []
        self._controller: Any = None

    def __enter__(self) -> Self:
        self.behaviour = "accept"
        return self

    def __exit__(self, *_: object) -> None:
        self.behaviour = "away"
        self._reserved.close()

    @property
    def url(self) -> str:
        """The value of the setting for this server."""
        return f"smtp://127.0.0.1:{self.port}"

    @property
    def messages(self) -> list[EmailMessage]:
        """The messages that were received."""
        return [message for message, _ in self._received]

    @property
    def behaviour(self) -> Behaviour:
        """What the server does; while it is away, it accepts no connections."""
        return self._behaviour

    @behaviour.setter
    def behaviour(self, behaviour: Behaviour) -> None:
        if behaviour == "away" and self._controller is not None:
            self._controller.stop()
            self._controller = None
        elif behaviour != "away" and self._controller is None:
            self._controller = Controller(
                self, hostname="127.0.0.1", port=self.port, enable_SMTPUTF8=True, ready_timeout=60
            )
            self._controller.start()
        self._behaviour = behaviour

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 -- aiosmtpd's name
        """Receive a message, or do what the behaviour says."""
        del session
        self.attempts += 1
        behaviour = self.behaviour
        if behaviour in _ERRORS:
            await asyncio.sleep(20 if behaviour == "hang" else 0)
            return _ERRORS[behaviour]
        if behaviour == "slow":
            await asyncio.sleep(2)
        message = message_from_bytes(envelope.content, policy=default)
        self._received.append((message, list(envelope.rcpt_tos)))
        if behaviour == "drop after data":
            server.transport.abort()
        return "250 OK"

    async def handle_QUIT(self, *_: object) -> str:  # noqa: N802 -- aiosmtpd's name
        """Say goodbye, or report an error to a client that has already sent its message."""
        return "554 no goodbye" if self.behaviour == "rude" else "221 Bye"

    def clear(self) -> None:
        """Forget what was received, and behave well."""
        self._received.clear()
        self.behaviour, self.attempts = "accept", 0

    def recipients(self) -> list[str]:
        """Return the recipients of all messages, in their order."""
        return [address for _, envelope in self._received for address in envelope]

    def wait_for_token(self, purpose: str, to: str) -> str:
        """Wait for a link of a purpose in a mail to `to`, and return its token."""
        found: list[str] = []

        def has_arrived() -> bool:
            for each, envelope in tuple(self._received):
                found.extend(re.findall(rf"/account#{purpose}=({TOKEN})", text_of(each)) if to in envelope else ())
            return bool(found)

        wait_until(has_arrived, seconds=20, what=f"a link for {purpose} to {to}")
        return found[-1]

    def token(self, purpose: str) -> str:
        """Return the token of the newest link of a purpose."""
        for each in reversed(self.messages):
            found = re.search(rf"/account#{purpose}=({TOKEN})", text_of(each))
            if found:
                return found[1]
        message = f"no link for {purpose} in {len(self.messages)} messages"
        raise AssertionError(message)


def text_of(message: EmailMessage) -> str:
    """Return the plain text of a message."""
    return str(cast("EmailMessage", message.get_body(("plain",))).get_content())


def html_of(message: EmailMessage) -> str:
    """Return the HTML of a message."""
    return str(cast("EmailMessage", message.get_body(("html",))).get_content())


def deliver(app: Flask, now: datetime | None = None) -> int:
    """Deliver what is due, in this process; return how many mails that were."""
    number = 0
    with app.app_context():
        while delivery.deliver(now or datetime.now(UTC)):
            number += 1
    return number
