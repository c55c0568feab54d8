"""An application that is protected by the guard, and a stub of the service."""

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

from flask import Flask
from werkzeug.test import TestResponse

from tests.support.concurrency import wait_until
from tests.support.server import Server
from tokenapp_guard import Guard


class Shop:
    """An application with one protected view, ``/orders``."""

    def __init__(self, guard: Guard) -> None:
        app = Flask("shop")

        @app.get("/orders")
        @guard.required
        def orders() -> dict[str, Any]:
            return {"for": guard.claims["username"]}

        self._http = app.test_client()

    def orders(self, token: str | None, scheme: str = "Bearer") -> TestResponse:
        """Call the view."""
        return self._http.get("/orders", headers={"Authorization": f"{scheme} {token}"} if token else {})


def issuer_of(server: Server) -> str:
    """Return the issuer of a server in development."""
    return f"http://localhost:{server.port}"


def guard_of(server: Server, **options: Any) -> Guard:
    """Return a guard for the tokens of a server."""
    return Guard(issuer_of(server), **{"audience": "tokenapp-api", **options})


def wait_for_read(guard: Guard) -> None:
    """Wait for the end of a read of the feed that begins after this call."""
    feed, called = guard._feed, monotonic()
    assert feed is not None
    wait_until(lambda: (feed._read_at or 0) > called, seconds=30, what="a read of the feed")


@contextmanager
def stub_server(status: int, headers: dict[str, str], body: bytes | dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Run a server with one response; yield its address and the requested paths.

    A `body` that is an object is sent as JSON, as it is at the time of the request.
    """
    requested: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requested.append(self.path)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body if isinstance(body, bytes) else json.dumps(body).encode())

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", requested
        finally:
            server.shutdown()
            thread.join()
