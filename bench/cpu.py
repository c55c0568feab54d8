"""CPU per request in one process, this service beside the textbook way, interleaved in one run.

    python -m bench.cpu [DATABASE_URL_OF_OURS DATABASE_URL_OF_THE_TEXTBOOK]

Without arguments both run on SQLite in a temporary folder. The unit is CPU microseconds of this process per request,
the median of the rounds; a true rotation each time (the grace window is 0 for the measured sessions' refreshes).
"""

import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import flask_migrate
from flask import Flask

from bench.textbook import make_textbook
from tests.harness import create_user, make_app

ROUNDS, REQUESTS = 15, 200
LOGIN = {"username": "alice", "password": "correct horse battery staple"}


def wsgi_caller(app: Flask, method: str, path: str) -> Callable[[dict[str, str]], tuple[bytes, list[tuple[str, str]]]]:
    """Return a function that calls `app` as a server would, with nothing of a test client in between."""
    client_environ = app.test_client()._request_from_builder_args((path,), {"method": method}).environ  # noqa: SLF001

    def call(extra: dict[str, str]) -> tuple[bytes, list[tuple[str, str]]]:
        seen: list[tuple[str, str]] = []
        status: list[str] = []

        def start(line: str, headers: list[tuple[str, str]], _exc: object = None) -> Callable[[bytes], None]:
            status.append(line)
            seen.extend(headers)
            return lambda _data: None

        environ = {**client_environ, **extra}
        body = b"".join(app.wsgi_app(environ, start))  # type: ignore[arg-type]  # our start returns nothing to write to
        assert status[0].startswith("200"), (status, body)
        return body, seen

    return call


class Subject:
    """One application and a session in it."""

    def __init__(self, app: Flask) -> None:
        reply = app.test_client().post("/api/login", json=LOGIN)
        self.bearer = {"HTTP_AUTHORIZATION": f"Bearer {(reply.json or {})['accessToken']}"}
        self.cookie = reply.headers["Set-Cookie"].split(";")[0]
        self._protected = wsgi_caller(app, "GET", "/api/protected")
        self._refresh = wsgi_caller(app, "POST", "/api/token")

    def protected(self) -> None:
        """Call the protected route."""
        self._protected(self.bearer)

    def refresh(self) -> None:
        """Rotate once."""
        _, headers = self._refresh({"HTTP_COOKIE": self.cookie})
        self.cookie = next(value for name, value in headers if name == "Set-Cookie").split(";")[0]


def cpu_us(work: Callable[[], None]) -> float:
    """Return CPU microseconds per call of `work`."""
    began = time.process_time_ns()
    for _ in range(REQUESTS):
        work()
    return (time.process_time_ns() - began) / REQUESTS / 1000


def main() -> None:
    """Measure and print a table."""
    folder = Path(tempfile.mkdtemp())
    ours_url, textbook_url = sys.argv[1:3] or (f"sqlite:///{folder}/ours.db", f"sqlite:///{folder}/textbook.db")
    ours_app = make_app(ours_url, TOKENAPP_REFRESH_GRACE="0")
    with ours_app.app_context():
        flask_migrate.upgrade()
    create_user(ours_app)
    ours, textbook = Subject(ours_app), Subject(make_textbook(textbook_url))
    works = {
        "protected": (ours.protected, textbook.protected),
        "token (true rotation)": (ours.refresh, textbook.refresh),
    }
    print(f"Python {sys.version.split()[0]}, SQLite {sqlite3.sqlite_version}, {ROUNDS} rounds of {REQUESTS} requests")
    print(f"{'route':24}{'ours':>10}{'textbook':>10}{'ratio':>8}   CPU us per request, median")
    for name, pair in works.items():
        rounds = [[cpu_us(work) for work in pair] for _ in range(ROUNDS)]
        mine, theirs = (statistics.median(column) for column in zip(*rounds, strict=True))
        print(f"{name:24}{mine:10.0f}{theirs:10.0f}{mine / theirs:8.2f}")


if __name__ == "__main__":
    main()
