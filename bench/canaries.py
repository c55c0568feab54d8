"""Send canary secrets in every field, then search the log and the database.

    python -m bench.canaries [MEGABYTES [MINUTES [DATABASE_URL]]]

It starts gunicorn and sends requests until the log and a dump of the database have 100 MB in total, or for 15 minutes.
Then it lists the canaries that it found in them; the exit status is 1 if there are any. The default database is a new
SQLite file.
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
BODY_FIELDS = ("username", "password", "currentPassword", "newPassword", "token")


@dataclass
class Canaries:
    """Canary secrets of several kinds.

    `seen` has the real tokens that the service has issued.
    """

    seen: list[str] = field(default_factory=list)
    core: str = field(default_factory=lambda: f"c4n4ry{uuid4().hex}")

    @property
    def password(self) -> str:
        """A password that the password policy accepts."""
        return f"pass {self.core} w\u00f6rd"

    @property
    def other_password(self) -> str:
        """Another password that the password policy accepts."""
        return f"other {self.password}"

    @property
    def token(self) -> str:
        """A string in the form of a JWT."""
        return f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.{self.core}"

    @property
    def basic(self) -> str:
        """The value of a Basic authorization header."""
        return base64.b64encode(f"user:{self.core}".encode()).decode()

    def remember(self, response: Response) -> Response:
        """Remember the tokens in `response`, and return it."""
        if response.cookie:
            self.seen.append(response.cookie)
        with suppress(ValueError, AttributeError):
            self.seen += filter(None, [response.json.get("accessToken")])
        return response

    def found_in(self, haystack: bytes) -> list[str]:
        """Return the canaries, and the signatures of tokens, that `haystack` contains."""
        needles = {self.core, self.basic, *(token.rpartition(".")[2] for token in self.seen)}
        return sorted(needle for needle in needles if needle.encode() in haystack)


def canary_requests(app: Flask, canaries: Canaries) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield requests for each path and method, with canaries in all parts."""
    paths = {rule.rule.partition("<")[0] + canaries.token * ("<" in rule.rule) for rule in app.url_map.iter_rules()}
    query = f"?password={canaries.core}&token={canaries.token}&access_token={canaries.token}&{canaries.core}"
    for path, method in itertools.product([*sorted(paths), f"/no/{canaries.token}"], METHODS):
        for headers, body in zip(_headers(canaries), itertools.cycle(_bodies(canaries)), strict=False):
            yield method, path + query, {"headers": headers, "body": body}
    for path, body in itertools.product(sorted(paths), _bodies(canaries)):
        yield ("PUT" if "/me/" in path else "POST"), path + query, {"headers": _JSON, "body": body}


_JSON = {"Content-Type": "application/json"}


def _headers(canaries: Canaries) -> list[dict[str, str]]:
    cookie = f"refreshToken={canaries.token}; __Host-refreshToken={canaries.core}; session={canaries.core}"
    spread = ("Referer", "X-Api-Key", "X-Forwarded-For", "Forwarded", "X-Request-ID", "Accept", "If-None-Match")
    return [
        dict.fromkeys(spread, f"{canaries.core} {canaries.token}") | {"Cookie": cookie},
        {"Authorization": f"Bearer {canaries.token}", **_JSON},
        {"Authorization": f"Bearer {canaries.core}", **_JSON},
        {"Authorization": f"Basic {canaries.basic}", "Cookie": cookie, **_JSON},
        {"Authorization": f"Bearer {canaries.core}, Bearer {canaries.token}"},
        {"Cookie": f"refreshToken={canaries.core}; refreshToken={canaries.core}", "Content-Type": canaries.core},
        {"Origin": f"https://user:{canaries.core}@evil.example", "Cookie": cookie, **_JSON},
        {"Sec-Fetch-Site": f"{canaries.core}!", "Cookie": cookie, **_JSON},
        {"Content-Encoding": canaries.core, "Transfer-Encoding": canaries.core},
        {"Expect": canaries.core},
    ]


def _bodies(canaries: Canaries) -> list[bytes]:
    filled = dict.fromkeys(BODY_FIELDS, canaries.password)
    objects: list[Any] = [
        filled,
        {name: {canaries.core: canaries.core} for name in BODY_FIELDS},
        dict.fromkeys(BODY_FIELDS, f"{canaries.core}\x00"),
        dict.fromkeys(BODY_FIELDS, canaries.core * 40),
        {canaries.core: canaries.password},
        [canaries.password],
        canaries.password,
    ]
    broken = [
        f'{{"password": "{canaries.core}'.encode(),
        canaries.core.encode() + b"\xff",
        canaries.core.encode() * 600,
    ]
    return [*(json.dumps(each).encode() for each in objects), *broken]


def malformed_requests(canaries: Canaries) -> list[bytes]:
    """Return requests that gunicorn rejects before the application gets them."""
    head = b"POST /api/login HTTP/1.1\r\nHost: x\r\n"
    core, token = canaries.core.encode(), canaries.token.encode()
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
    """Send bytes, close the sending side, and wait for the response, if any."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection, suppress(OSError):
        connection.sendall(message)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass


def use_account(client: Client, canaries: Canaries, username: str = "alice") -> None:
    """Use an account with a canary password in all ways, valid and invalid."""
    first = canaries.remember(client.login(username, canaries.password))
    assert first.status == 200, first.body
    rotated = canaries.remember(client.refresh(first.cookie))
    canaries.remember(client.refresh(first.cookie))
    bearer = rotated.json["accessToken"]
    for path in ("/api/me", "/api/sessions", "/api/protected", "/readyz"):
        client.send("GET", path, bearer=bearer)
    fresh = canaries.remember(
        client.send("POST", "/api/reauthenticate", payload={"password": canaries.password}, bearer=bearer)
    )
    bearer = fresh.json["accessToken"]
    client.send("POST", "/api/reauthenticate", payload={"password": f"not {canaries.core}"}, bearer=bearer)
    change = {"currentPassword": canaries.password, "newPassword": canaries.core[:14]}
    client.send("PUT", "/api/me/password", payload=change, bearer=bearer)
    for current, new in (canaries.password, canaries.other_password), (canaries.other_password, canaries.password):
        change = {"currentPassword": current, "newPassword": new}
        changed = canaries.remember(client.send("PUT", "/api/me/password", payload=change, bearer=bearer))
        assert changed.status == 204, changed.body
        rotated = canaries.remember(client.refresh(changed.cookie))
        bearer = rotated.json["accessToken"]
    client.login(canaries.password, canaries.password)  # the password typed into the wrong field
    client.send("DELETE", "/api/sessions?keep=current", bearer=bearer)
    client.logout(rotated.cookie)
    client.refresh(rotated.cookie)
    client.protected(bearer)


def dump(database_url: str) -> bytes:
    """Return the bytes of the SQLite files, or all rows of all tables."""
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
    """Fill the log and the database, search them, and print the canaries found."""
    megabytes, minutes = (float(each) for each in (*sys.argv[1:3], *("100", "15")[len(sys.argv[1:3]) :]))
    folder = Path(tempfile.mkdtemp())
    url = sys.argv[3] if sys.argv[3:] else f"sqlite:///{folder}/canaries.db"
    canaries, log, stopped = Canaries(), folder / "log", threading.Event()
    app = make_app(url, PORT=str(free_port()))
    with app.app_context():
        flask_migrate.upgrade()
        db.engine.dispose()
    create_user(app, "alice", canaries.password)
    requests = list(canary_requests(app, canaries))

    def work(server: Server) -> None:
        while not stopped.is_set():
            for method, path, more in requests:
                server.client.send(method, path, **more)
                if stopped.is_set():
                    return

    deadline, size = time.monotonic() + minutes * 60, 0.0
    with Server(url, {"TOKENAPP_ADDRESS_FAILURES": "100000"}, log=log) as server, ThreadPoolExecutor(4) as pool:
        workers = [pool.submit(work, server) for _ in range(4)]
        while size < megabytes and time.monotonic() < deadline and not any(each.done() for each in workers):
            use_account(server.client, canaries)
            for message in malformed_requests(canaries):
                send_raw(server.port, message)
            size = (log.stat().st_size + len(dump(url))) / 1e6
        stopped.set()
        for each in workers:
            each.result()
    found = canaries.found_in(log.read_bytes()) + canaries.found_in(dump(url))
    print(f"{size:.1f} MB of log and dump, {len(requests)} kinds of requests, {len(canaries.seen)} real tokens")
    print("Found:", *(found or ["none"]))
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
