"""The service under gunicorn, and the flask command, in processes of their own."""

import http.client
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tests.support.app import ROOT, environment
from tests.support.client import Client
from tests.support.concurrency import wait_until


def run_flask(database_url: str, *arguments: str, stdin: str = "", **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the flask command as an operator would, and wait for its end."""
    return subprocess.run(
        [sys.executable, "-m", "flask", *arguments],
        cwd=ROOT,
        env=environment(DATABASE_URL=database_url, **settings),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def free_port() -> int:
    """Return a port of the loopback address that no process listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def children_of(pid: int) -> list[int]:
    """Return the process ids of the children of a process."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@dataclass
class Server:
    """The service under gunicorn, on a port of its own; `log` is its stderr."""

    database_url: str
    settings: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    log: Path = Path(os.devnull)
    command: Sequence[str] = (sys.executable, "-m", "gunicorn")
    health: str = "/healthz"

    def __enter__(self) -> Self:
        env = environment(DATABASE_URL=self.database_url, PORT=str(self.port), **self.settings)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command, cwd=ROOT, env=env, stdout=log, stderr=log, start_new_session=True
            )
        workers = int(env["WEB_CONCURRENCY"])
        wait_until(lambda: self._answers() and len(self.workers()) == workers, what="the server")
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is not None:
            return
        self.signal(signal.SIGCONT)
        self._process.terminate()
        try:
            # A worker that was forked in this very moment may miss the signal: gunicorn ends it after 30 seconds.
            self._process.wait(40)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End the master and the workers at once, as a power cut does."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(30)

    def wait(self, seconds: float = 25) -> int:
        """Wait for the master's end; return its exit status."""
        return self._process.wait(seconds)

    @property
    def client(self) -> Client:
        """A client of this server."""
        return Client(self.port)

    @property
    def master(self) -> int:
        """The process id of the server's first process, the parent of the workers."""
        return self._process.pid

    def workers(self) -> list[int]:
        """Return the process ids of the workers."""
        return children_of(self.master)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to every worker."""
        for pid in self.workers():
            os.kill(pid, number)

    def _answers(self) -> bool:
        assert self._process.poll() is None, f"it ended: {self.log.read_text() if self.log.is_file() else ''}"
        try:
            return Client(self.port, timeout=2).send("GET", self.health).status == http.client.OK
        except OSError:
            return False
