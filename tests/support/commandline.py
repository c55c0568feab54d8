"""What the tests of the command line stand on: commands in this process, and at a terminal with somebody who types."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from contextvars import Context
from typing import Any, Self

from click.testing import Result
from flask import Flask
from flask.testing import FlaskClient

from tests.support import app as support
from tests.support.app import PASSWORD, ROOT, environment

NEW_PASSWORD = "purple monkey dishwasher"
# What may never be seen: passwords, hashes of each kind, and what a stack trace begins with.
UNSPEAKABLE = (PASSWORD, NEW_PASSWORD, "$argon2", "scrypt:", "pbkdf2:", "Traceback")
BOXES_AND_COLOURS = "\x1b─━│┃┏┓"


def run(app: Flask, *arguments: str, stdin: str | bytes = b"", code: int = 0) -> Result:
    """Run a command in this process; check its exit code, and that it tells no secret."""
    # In a context of its own, as a process would: what a request of the test left behind is none of its business.
    result: Result = Context().run(app.test_cli_runner().invoke, args=arguments, input=stdin)
    assert result.exit_code == code, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    check_discretion(result.output)
    return result


def run_json(app: Flask, *arguments: str, code: int = 0) -> Any:
    """Run a command with ``--json``; return what it says."""
    return json.loads(run(app, *arguments, "--json", code=code).stdout)


def create_user(app: Flask, username: str = "alice") -> str:
    """Create a user and return the id."""
    return Context().run(support.create_user, app, username)


def error_of(result: Result) -> str:
    """Return the one line of a command that failed."""
    assert result.stderr.startswith("Error: "), result.stderr
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr.removeprefix("Error: ").strip()


def check_discretion(shown: str) -> None:
    """Check that nothing was shown which nobody may see."""
    for secret in UNSPEAKABLE:
        assert secret not in shown


def sign_in(app: Flask, username: str = "alice", password: str = PASSWORD) -> FlaskClient | None:
    """Sign in; return a client that has the refresh cookie, or None if the answer was no."""
    client = app.test_client()
    status = client.post("/api/login", json={"username": username, "password": password}).status_code
    assert status in {200, 401}
    return client if status == 200 else None


def signed_in(app: Flask, username: str = "alice", password: str = PASSWORD) -> FlaskClient:
    """Sign in somebody who can."""
    client = sign_in(app, username, password)
    assert client is not None
    return client


def can_refresh(client: FlaskClient) -> bool:
    """Whether the client's session is live."""
    return client.post("/api/token").status_code == 200


class Terminal:
    """The flask command at a terminal: `shown` is what stands there."""

    def __init__(self, database_url: str, *arguments: str, **settings: str) -> None:
        self.shown = ""
        self._screen, keyboard = pty.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "flask", *arguments],
            cwd=ROOT,
            env=environment(DATABASE_URL=database_url, TERM="xterm", COLUMNS="60", **settings),
            stdin=keyboard,
            stdout=keyboard,
            stderr=keyboard,
            start_new_session=True,
        )
        os.close(keyboard)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(5)
        os.close(self._screen)

    def wait_for(self, text: str) -> None:
        """Wait until `text` was shown."""
        while text not in self.shown:
            assert self._read(), f"ended without {text!r}: {self.shown}"

    def type(self, line: str) -> None:
        """Type a line."""
        os.write(self._screen, line.encode() + b"\n")

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    def end(self) -> int:
        """Wait for the end; return the exit code."""
        while self._read():
            pass
        check_discretion(self.shown)
        return self._process.wait(20)

    def _read(self) -> bool:
        deadline = time.monotonic() + 20
        assert select.select([self._screen], [], [], deadline - time.monotonic())[0], self.shown
        try:
            data = os.read(self._screen, 65536)
        except OSError:  # what Linux says when the other side has gone
            return False
        self.shown += data.decode(errors="replace")
        return bool(data)
