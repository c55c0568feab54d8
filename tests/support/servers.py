"""Redis and PgBouncer for tests."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import weakref
from pathlib import Path
from typing import Self

import pytest
from sqlalchemy.engine import make_url

from tests.support.concurrency import wait_until
from tests.support.server import free_port

REDIS_PASSWORD = "canary-of-the-limiter"


class Redis:
    """A Redis or Valkey server with a password and without persistence."""

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
        """The value for ``RATELIMIT_STORAGE_URI``."""
        return f"redis://:{REDIS_PASSWORD}@127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start the server, empty."""
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--requirepass", REDIS_PASSWORD]
        options += ["--save", "", "--appendonly", "no", "--dir", str(self.folder)]
        self._process = subprocess.Popen([self._program, *options], stdout=subprocess.DEVNULL)
        wait_until(lambda: self.ask("PING") == "+PONG", what="Redis")

    def kill(self) -> None:
        """Kill the server, as in a crash, even if it is stopped."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)
            self._process = None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal: SIGSTOP hangs the server, SIGCONT resumes it."""
        assert self._process is not None
        self._process.send_signal(number)

    def ask(self, *command: str) -> str:
        """Send one command on a new connection; return the first line of the response."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
                lines = connection.makefile("rwb")
                for words in (("AUTH", REDIS_PASSWORD), command):
                    lines.write((" ".join(words) + "\r\n").encode())
                    lines.flush()
                    response = lines.readline().decode().strip()
                lines.close()
                return response
        except OSError:
            return ""


class Pgbouncer:
    """PgBouncer in transaction mode in front of a PostgreSQL server."""

    def __init__(self, url: str, **options: str) -> None:
        self.url = make_url(url).set(port=free_port()).render_as_string(hide_password=False)
        self.port = int(make_url(self.url).port or 0)
        program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
        if program is None:
            reason = "PgBouncer is not installed"
            (pytest.fail if os.environ.get("REQUIRE_SERVERS") else pytest.skip)(reason)
        self._program = str(program)
        self._user = "postgres" if os.getuid() == 0 else None  # PgBouncer does not run as root
        self._folder = Path(tempfile.mkdtemp(prefix="tokenapp-pgbouncer-"))
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._file, self._log = self._folder / "pgbouncer.ini", self._folder / "log"
        lines = {
            "listen_addr": "127.0.0.1",
            "listen_port": str(self.port),
            "unix_socket_dir": "",
            "auth_type": "any",
            "logfile": str(self._log),
            "pool_mode": "transaction",
            **options,
        }
        databases = f"[databases]\n* = host=127.0.0.1 port={make_url(url).port} user=postgres\n[pgbouncer]\n"
        self._file.write_text(databases + "".join(f"{name} = {value}\n" for name, value in lines.items()))
        if self._user:
            shutil.chown(self._folder, self._user)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start the pooler."""
        command = [self._program, "-q", str(self._file)]
        self._process = subprocess.Popen(
            command, user=self._user, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_until(self._listens, what="PgBouncer")

    def kill(self) -> None:
        """Kill the pooler, as in a crash."""
        self._process.kill()
        self._process.wait(30)

    def _listens(self) -> bool:
        assert self._process.poll() is None, f"PgBouncer ended: {self._log.read_text() if self._log.exists() else ''}"
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True
