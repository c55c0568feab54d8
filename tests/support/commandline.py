"""Run commands in this process, or at a terminal."""

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

from tests.support import app as support
from tests.support.app import PASSWORD, ROOT, environment
from tests.support.client import Client

NEW_PASSWORD = "purple monkey dishwasher"
# What no command may print: passwords, hashes of each kind, and tracebacks.
SECRETS = (PASSWORD, NEW_PASSWORD, "$argon2", "scrypt:", "pbkdf2:", "Traceback")
BOXES_AND_COLOURS = "\x1b─━│┃┏┓"


def run(app: Flask, *arguments: str, stdin: str | bytes = b"", code: int = 0) -> Result:
    """Run a command in this process; check the exit code and that no secret is shown."""
    # In a new context, as in a new process: it must not depend on what the test did before.
    result: Result = Context().run(app.test_cli_runner().invoke, args=arguments, input=stdin)
    assert result.exit_code == code, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    check_no_secrets(result.output)
    return result


def run_json(app: Flask, *arguments: str, code: int = 0) -> Any:
    """Run a command with ``--json``; return the parsed output."""
    return json.loads(run(app, *arguments, "--json", code=code).stdout)


def create_user(app: Flask, username: str = "alice") -> str:
    """Create a user and return the id."""
    return Context().run(support.create_user, app, username)


def error_of(result: Result) -> str:
    """Return the one line of a command that failed."""
    assert result.stderr.startswith("Error: "), result.stderr
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr.removeprefix("Error: ").strip()


def check_no_secrets(output: str) -> None:
    """Check that `output` contains no secret and no traceback."""
    for secret in SECRETS:
        assert secret not in output


def can_sign_in(app: Flask, username: str = "alice", password: str = PASSWORD) -> bool:
    """Return whether the user can sign in with that password.

    On a busy machine an expensive hash can exceed the time of a request, so a 503 is retried.
    """
    client = Client(app)
    status = next((status for _ in range(20) if (status := client.login(username, password).status) != 503), 503)
    assert status in {200, 401}
    return status == 200


def can_refresh(client: Client) -> bool:
    """Return whether the session of `client` is live."""
    return client.refresh().status == 200


class Terminal:
    """The ``flask`` command at a terminal; `shown` is its output."""

    def __init__(self, database_url: str, *arguments: str, **settings: str) -> None:
        self.shown = ""
        self._screen, keyboard = pty.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "flask", *arguments],
            cwd=ROOT,
            env=environment(DATABASE_URL=database_url, **{"TERM": "xterm", "COLUMNS": "60", **settings}),
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
            self._process.wait(30)
        os.close(self._screen)

    def wait_for(self, text: str) -> None:
        """Wait until `text` is shown."""
        while text not in self.shown:
            assert self._read(), f"ended without {text!r}: {self.shown}"

    def type(self, line: str) -> None:
        """Type a line."""
        os.write(self._screen, line.encode() + b"\n")

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    def end(self) -> int:
        """Wait until the command ends; return its exit code."""
        while self._read():
            pass
        check_no_secrets(self.shown)
        return self._process.wait(20)

    def _read(self) -> bool:
        """Read more output; return False at its end."""
        deadline = time.monotonic() + 60
        assert select.select([self._screen], [], [], deadline - time.monotonic())[0], self.shown
        try:
            data = os.read(self._screen, 65536)
        except OSError:  # Linux's end of file for a terminal
            return False
        self.shown += data.decode(errors="replace")
        return bool(data)
