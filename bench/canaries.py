"""Canary secrets in every field of every route, and the search for them in the log and in a dump of the database.

    python -m bench.canaries [MEGABYTES [MINUTES [DATABASE_URL]]]

Serves from gunicorn and sends until log and dump together have that many megabytes (100), or that many minutes (15)
are over; then names each canary that was found, and fails if there is one. Without a database it makes an SQLite file.
"""

import base64
import itertools
import json
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import flask_migrate
import psycopg
import sqlalchemy as sa
from flask import Flask

from tests.support.app import create_user, make_app
from tests.support.client import Client, Response
from tests.support.server import Server, free_port
from tokenapp.db import db

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE")
BODY_MEMBERS = ("username", "password", "currentPassword", "newPassword", "token")


@dataclass
class Aviary:
    """The canaries by what they pretend to be; `seen` are the real tokens that the service gave out meanwhile."""

    seen: list[str] = field(default_factory=list)
    core: str = field(default_factory=lambda: f"c4n4ry{uuid4().hex}")

    @property
    def password(self) -> str:
        """A password that the rule takes."""
        return f"pass {self.core} w\u00f6rd"

    @property
    def token(self) -> str:
        """What looks like a token."""
        return f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.{self.core}"

    @property
    def basic(self) -> str:
        """What looks like client credentials."""
        return base64.b64encode(f"user:{self.core}".encode()).decode()

    def note(self, reply: Response) -> Response:
        """Remember the tokens in `reply`."""
        with suppress(ValueError, AttributeError):
            self.seen += filter(None, [reply.json.get("accessToken"), reply.cookie])
        return reply

    def found_in(self, haystack: bytes) -> list[str]:
        """Return the canaries and the tokens that `haystack` holds, as they are or by their telling part."""
        needles = {self.core, self.basic, *(token.rpartition(".")[2] for token in self.seen)}
        return sorted(needle for needle in needles if needle.encode() in haystack)


def everywhere(app: Flask, birds: Aviary) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Give requests to each path with each method, with canaries in query, headers and bodies of all forms."""
    paths = {rule.rule.partition("<")[0] + birds.token * ("<" in rule.rule) for rule in app.url_map.iter_rules()}
    query = f"?password={birds.core}&token={birds.token}&access_token={birds.token}&{birds.core}"
    for path, method in itertools.product([*sorted(paths), f"/no/{birds.token}"], METHODS):
        for headers, body in zip(_headers(birds), itertools.cycle(_bodies(birds)), strict=False):
            yield method, path + query, {"headers": headers, "body": body}
    for path, body in itertools.product(sorted(paths), _bodies(birds)):
        yield ("PUT" if "/me/" in path else "POST"), path + query, {"headers": _JSON, "body": body}


_JSON = {"Content-Type": "application/json"}


def _headers(birds: Aviary) -> list[dict[str, str]]:
    cookie = f"refreshToken={birds.token}; __Host-refreshToken={birds.core}; session={birds.core}"
    spread = ("Referer", "X-Api-Key", "X-Forwarded-For", "Forwarded", "X-Request-ID", "Accept", "If-None-Match")
    return [
        dict.fromkeys(spread, f"{birds.core} {birds.token}") | {"Cookie": cookie},
        {"Authorization": f"Bearer {birds.token}", **_JSON},
        {"Authorization": f"Bearer {birds.core}", **_JSON},
        {"Authorization": f"Basic {birds.basic}", "Cookie": cookie, **_JSON},
        {"Authorization": f"Bearer {birds.core}, Bearer {birds.token}"},
        {"Cookie": f"refreshToken={birds.core}; refreshToken={birds.core}", "Content-Type": birds.core},
        {"Origin": f"https://user:{birds.core}@evil.example", "Cookie": cookie, **_JSON},
        {"Sec-Fetch-Site": f"{birds.core}!", "Cookie": cookie, **_JSON},
        {"Content-Encoding": birds.core, "Transfer-Encoding": birds.core},
        {"Expect": birds.core},
    ]


def _bodies(birds: Aviary) -> list[bytes]:
    filled = dict.fromkeys(BODY_MEMBERS, birds.password)
    objects: list[Any] = [
        filled,
        {name: {birds.core: birds.core} for name in BODY_MEMBERS},
        dict.fromkeys(BODY_MEMBERS, f"{birds.core}\x00"),
        dict.fromkeys(BODY_MEMBERS, birds.core * 40),
        {birds.core: birds.password},
        [birds.password],
        birds.password,
    ]
    broken = [f'{{"password": "{birds.core}'.encode(), birds.core.encode() + b"\xff", birds.core.encode() * 600]
    return [*(json.dumps(each).encode() for each in objects), *broken]


def raw(birds: Aviary) -> list[bytes]:
    """Return requests that gunicorn refuses before we see them."""
    head = b"POST /api/login HTTP/1.1\r\nHost: x\r\n"
    core, token = birds.core.encode(), birds.token.encode()
    return [
        b"GET /?token=" + token + b" HTTP/9.9\r\n\r\n",
        b"GET /" + core + b"\r\n\r\n",
        core.upper() + b" / HTTP/1.1\r\n\r\n",
        b"GET /?" + core * 200 + b" HTTP/1.1\r\n\r\n",
        head + b"Authorization Bearer " + core + b"\r\n\r\n",
        head + b"Cookie: a\r\n refreshToken=" + core + b"\r\n\r\n",
        head + b"Coo kie: refreshToken=" + core + b"\r\n\r\n",
        head + b"Cookie: " + core * 900 + b"\r\n\r\n",
        head + b"Transfer-Encoding: " + core + b"\r\n\r\n",
        head + b"Content-Length: " + core + b"\r\n\r\n",
        head + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n" + core + b"\r\n",
        head + b'Content-Type: application/json\r\nContent-Length: 400\r\n\r\n{"password": "' + core,
    ]


def send_raw(port: int, message: bytes) -> None:
    """Send bytes, and no more; wait for the answer, if there is one."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection, suppress(OSError):
        connection.sendall(message)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass


def live(client: Client, birds: Aviary, username: str = "alice") -> None:
    """Use an account whose password is a canary, in all ways, good and bad."""
    first = birds.note(client.login(username, birds.password))
    assert first.status == 200, first.body
    rotated = birds.note(client.refresh(first.cookie))
    birds.note(client.refresh(first.cookie))
    bearer = rotated.json["accessToken"]
    for path in ("/api/me", "/api/sessions", "/api/protected", "/readyz"):
        client.send("GET", path, bearer=bearer)
    birds.note(client.send("POST", "/api/reauthenticate", payload={"password": birds.password}, bearer=bearer))
    client.send("POST", "/api/reauthenticate", payload={"password": f"not {birds.core}"}, bearer=bearer)
    change = {"currentPassword": birds.password, "newPassword": birds.core[:14]}
    client.send("PUT", "/api/me/password", payload=change, bearer=bearer)
    change["newPassword"] = birds.password
    assert client.send("PUT", "/api/me/password", payload=change, bearer=bearer).status == 204
    client.login(birds.password, birds.password)  # the password typed into the wrong field
    client.send("DELETE", "/api/sessions?keep=current", bearer=bearer)
    client.logout(rotated.cookie)
    client.refresh(rotated.cookie)
    client.protected(bearer)


def dump(database_url: str) -> bytes:
    """Return all that the database holds: the files' bytes, or every row of every table."""
    url = sa.make_url(database_url)
    if url.drivername.startswith("sqlite"):
        return b"".join(
            each.read_bytes()
            for each in sorted(Path(url.database or "").parent.glob(f"{Path(url.database or '').name}*"))
        )
    parts = []
    with psycopg.connect(database_url) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        for (table,) in tables:
            with connection.cursor().copy(f'COPY "{table}" TO STDOUT') as rows:
                parts += [bytes(part) for part in rows]
    return b"\n".join(parts)


def main() -> None:
    """Fill log and database, search them, say what was found."""
    megabytes, minutes = (float(each) for each in (*sys.argv[1:3], *("100", "15")[len(sys.argv[1:3]) :]))
    folder = Path(tempfile.mkdtemp())
    url = sys.argv[3] if sys.argv[3:] else f"sqlite:///{folder}/canaries.db"
    birds, log, over = Aviary(), folder / "log", threading.Event()
    app = make_app(url, PORT=str(free_port()))
    with app.app_context():
        flask_migrate.upgrade()
        db.engine.dispose()
    create_user(app, "alice", birds.password)
    requests = list(everywhere(app, birds))

    def work(server: Server) -> None:
        while not over.is_set():
            for method, path, more in requests:
                server.client.send(method, path, **more)
                if over.is_set():
                    return

    deadline, size = time.monotonic() + minutes * 60, 0.0
    with Server(url, {"TOKENAPP_ADDRESS_FAILURES": "100000"}, log=log) as server, ThreadPoolExecutor(4) as pool:
        workers = [pool.submit(work, server) for _ in range(4)]
        while size < megabytes and time.monotonic() < deadline and not any(each.done() for each in workers):
            live(server.client, birds)
            for message in raw(birds):
                send_raw(server.port, message)
            size = (log.stat().st_size + len(dump(url))) / 1e6
        over.set()
        for each in workers:
            each.result()
    found = birds.found_in(log.read_bytes()) + birds.found_in(dump(url))
    print(f"{size:.1f} MB of log and dump, {len(requests)} kinds of requests, {len(birds.seen)} real tokens")
    print("Found:", *(found or ["none"]))
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
