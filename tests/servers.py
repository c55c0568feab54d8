"""Servers of others that tests start beside the service."""

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import Self

import pytest

from tests.harness import free_port, wait_until

REDIS_PASSWORD = "canary-of-the-limiter"


class Redis:
    """A Redis or Valkey server on a free loopback port, with a password; it keeps nothing on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        program = shutil.which("redis-server") or shutil.which("valkey-server")
        if program is None:
            reason = "neither Redis nor Valkey is installed"
            (pytest.fail if os.environ.get("REQUIRE_SERVERS") else pytest.skip)(reason)
        self._program = str(program)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def url(self) -> str:
        """What RATELIMIT_STORAGE_URI is to be."""
        return f"redis://:{REDIS_PASSWORD}@127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start the server, empty."""
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--requirepass", REDIS_PASSWORD]
        options += ["--save", "", "--appendonly", "no", "--dir", str(self.folder)]
        self._process = subprocess.Popen([self._program, *options], stdout=subprocess.DEVNULL)
        wait_until(lambda: self.ask("PING") == "+PONG", what="Redis")

    def kill(self) -> None:
        """End the server at once, as a crash does; hung or not."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(5)
            self._process = None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal: SIGSTOP makes the server hang, SIGCONT lets it go on."""
        assert self._process is not None
        self._process.send_signal(number)

    def ask(self, *command: str) -> str:
        """Send one command in a connection of its own; return the answer's first line."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
                lines = connection.makefile("rwb")
                for words in (("AUTH", REDIS_PASSWORD), command):
                    lines.write((" ".join(words) + "\r\n").encode())
                    lines.flush()
                    answer = lines.readline().decode().strip()
                lines.close()
                return answer
        except OSError:
            return ""
