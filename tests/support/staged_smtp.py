"""An SMTP server that stops at a stage, where its client can be killed."""

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Final, Self

STAGES: Final = ("connect", "EHLO", "MAIL", "RCPT", "DATA", "half of the body", "body", "250", "QUIT")
_SECONDS: Final = 60


class StagedSmtp(socketserver.ThreadingTCPServer):
    """A server that accepts every mail; it keeps what it has read to its end."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Conversation)
        self.url = f"smtp://127.0.0.1:{self.server_address[1]}"
        self.messages: list[EmailMessage] = []
        self.stage = ""
        self._reached, self._released = threading.Event(), threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    @contextmanager
    def stopping_at(self, stage: str) -> Iterator[threading.Event]:
        """Stop the conversation at a stage until the block ends; set the event there."""
        self.stage = stage
        self._reached.clear()
        self._released.clear()
        try:
            yield self._reached
        finally:
            self.stage = ""
            self._released.set()

    def reach(self, stage: str) -> None:
        """Stop, if it is at this stage."""
        if stage == self.stage:
            self._reached.set()
            self._released.wait(_SECONDS)
            raise ConnectionAbortedError


class _Conversation(socketserver.StreamRequestHandler):
    server: StagedSmtp

    def handle(self) -> None:
        try:
            self._converse()
        except OSError:  # the client was killed
            return

    def _converse(self) -> None:
        self.server.reach("connect")
        self._reply("220 ready")
        while line := self.rfile.readline():
            verb = line.split()[0].decode().upper()
            self.server.reach(verb)
            if verb == "DATA":
                self._receive()
            self._reply({"QUIT": "221 closing"}.get(verb, "250 done"))
            if verb == "DATA":
                self.server.reach("250")

    def _receive(self) -> None:
        self._reply("354 go on")
        lines: list[bytes] = []
        while (line := self.rfile.readline()) not in {b".\r\n", b""}:
            lines.append(line)
            if line.startswith(b"Content-Type: text/html"):
                self.server.reach("half of the body")
        self.server.messages.append(message_from_bytes(b"".join(lines), policy=default))
        self.server.reach("body")

    def _reply(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())
