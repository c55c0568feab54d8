"""Processes with the whole application, which compete or are killed.

They are forked from one process that has loaded the application, as the workers of gunicorn are.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, Final, Self

import msgspec
from flask import Flask
from sqlalchemy import event

from tests.support.app import ROOT, environment
from tests.support.client import Client
from tokenapp import create_app
from tokenapp.api import mail_routes
from tokenapp.db import db

# Where a process kills itself: at a statement of the outbox, or at the commit that follows it.
POINTS: Final[Mapping[str, tuple[str, str]]] = {
    "before the commit of a request": ("INSERT INTO mails", "commit"),
    "before the claim": ("UPDATE mails SET due_at", "before_cursor_execute"),
    "during the claim": ("UPDATE mails SET due_at", "after_cursor_execute"),
    "before the result is stored": ("UPDATE mails SET state", "before_cursor_execute"),
    "after the result is stored": ("UPDATE mails SET state", "after_cursor_execute"),
}


class Task(msgspec.Struct, frozen=True):
    """What a process does: sends a request or, without one, the mails that wait."""

    path: str | None = None
    payload: dict[str, str] = {}
    killed_at: str | None = None


class Processes:
    """Starts processes for one database; a context manager."""

    def __init__(self, database_url: str, **settings: str) -> None:
        self._environment = environment(DATABASE_URL=database_url, SERVER_SOFTWARE="gunicorn", **settings)

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tests.support.forked"]
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()

    def start(self, *tasks: Task) -> list[int]:
        """Start one process for each task, at the same time; return their ids."""
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(tasks).decode() + "\n")
        self._process.stdin.flush()
        return self._read()

    def results(self) -> list[int]:
        """Wait for the processes; return the status of each response.

        For a process that was killed it is the number of the signal, and negative.
        """
        return self._read()

    def _read(self) -> list[int]:
        assert self._process.stdout is not None
        return list(json.loads(self._process.stdout.readline()))


def main() -> None:
    """Read lists of tasks, and start a process for each task."""
    app = create_app()
    for line in sys.stdin:
        ready, begin = os.pipe()
        children = []
        for task in msgspec.json.decode(line, type=list[Task]):
            pid = os.fork()
            if not pid:
                os.close(begin)
                os.read(ready, 1)  # returns when all have been forked
                _work(app, task)
            children.append(pid)
        os.close(ready)
        os.close(begin)
        print(children, flush=True)  # noqa: T201 -- the reply
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        print([code + 200 if code > 0 else code or 200 for code in codes], flush=True)  # noqa: T201


def _work(app: Flask, task: Task) -> None:
    """Do a task in a process of its own, which never returns."""
    if task.killed_at:
        _die_at(app, *POINTS[task.killed_at])
    if task.path is None:
        app.extensions[mail_routes.EXTENSION]()
        signal.pause()
    client = Client(app)
    # A machine with more processes than cores may need more than a request's time.
    while (status := client.send("POST", str(task.path), payload=task.payload).status) == 503:
        pass
    os._exit(status - 200)


def _die_at(app: Flask, statement: str, moment: str) -> None:
    """Kill this process at a moment of a statement."""
    with app.app_context():
        engine = db.engine
    seen = []

    def note(_connection: Any, _cursor: Any, text: str, *_: Any) -> None:
        if text.startswith(statement):
            seen.append(text)
            if moment != "commit":
                os.kill(os.getpid(), signal.SIGKILL)

    def commit(_connection: Any) -> None:
        if seen:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(engine, "before_cursor_execute" if moment == "commit" else moment, note)
    event.listen(engine, "commit", commit)


if __name__ == "__main__":
    main()
