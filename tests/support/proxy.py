"""A proxy in front of the service that changes, delays and loses responses."""

import http.server
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Self

from tests.support.client import Client, Response

_PAGE: Final = b"<!doctype html><html lang=en><title>A page</title>"
_HOP_BY_HOP: Final = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}


@dataclass(frozen=True)
class Exchange:
    """A request, and the status of its response: 0 if the response was lost."""

    method: str
    path: str
    status: int
    bearer: str | None
    body: bytes


def respond(status: int, *headers: tuple[str, str], body: bytes = b"") -> Response:
    """Return a response for the proxy to send."""
    return Response(status, list(headers), body)


def problem(status: int, code: str, *headers: tuple[str, str]) -> Response:
    """Return an error response in the format of the service."""
    body = json.dumps({"status": status, "code": code, "message": "For a test."}).encode()
    return respond(status, ("Content-Type", "application/problem+json"), *headers, body=body)


def first(path: str, *responses: Response) -> Callable[[str], Response | None]:
    """Return an `intercept` that sends `responses` to the first requests for `path`."""
    remaining = list(responses)
    return lambda requested: remaining.pop(0) if requested == path and remaining else None


class HeldRefresh:
    """A `deliver` that holds the first response to a refresh until `release`."""

    def __init__(self) -> None:
        self.received, self.release = threading.Event(), threading.Event()

    def __call__(self, path: str, _response: Response) -> bool:
        """Wait if it is that response."""
        if path == "/api/token" and not self.received.is_set():
            self.received.set()
            self.release.wait(30)
        return True


class Proxy:
    """Forwards requests to a server of this machine and records them in `exchanges`.

    ``/page`` is an empty page. `intercept` may return a response in place of the server's. `deliver` is called with the
    server's response: it may delay it, and if it returns False the response is lost.
    """

    def __init__(self, port: int) -> None:
        self.upstream = Client(port, timeout=30)
        self.exchanges: list[Exchange] = []
        self.pending = 0  # requests without a response
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Forward all requests from now on, and discard the recorded ones."""
        self.intercept: Callable[[str], Response | None] = lambda _path: None
        self.deliver: Callable[[str, Response], bool] = lambda _path, _response: True
        self.exchanges.clear()

    def __enter__(self) -> Self:
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def serve(self) -> None:
                proxy.serve(self)

            do_GET = do_POST = do_PUT = do_DELETE = do_OPTIONS = serve  # noqa: N815 -- names of the library

            def log_message(self, *_: Any) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            request_queue_size = 512

            def handle_error(self, *_: Any) -> None:
                """Print nothing: browsers close connections at any time."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.origin = f"http://localhost:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def count(self, path: str) -> int:
        """Return how many requests for `path` were answered."""
        return len(self.statuses(path))

    def statuses(self, path: str) -> list[int]:
        """Return the statuses of the responses to `path`."""
        return [each.status for each in self.exchanges if each.path == path]

    def serve(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        """Handle one request."""
        self._add_pending(1)
        try:
            self._serve(handler)
        finally:
            self._add_pending(-1)

    def _add_pending(self, number: int) -> None:
        with self._lock:
            self.pending += number

    def _serve(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        path = handler.path.partition("?")[0]
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        page = respond(200, ("Content-Type", "text/html"), body=_PAGE) if path == "/page" else None
        response, arrives = page or self.intercept(path), True
        if response is None:
            response = self._forward(handler, body)
            arrives = self.deliver(path, response)
        bearer = handler.headers.get("Authorization")
        self.exchanges.append(Exchange(handler.command, path, response.status if arrives else 0, bearer, body))
        if arrives:
            handler.send_response(response.status)
            for name, value in (*response.headers, ("Content-Length", str(len(response.body)))):
                handler.send_header(name, value)
            handler.end_headers()
            handler.wfile.write(response.body)

    def _forward(self, handler: http.server.BaseHTTPRequestHandler, body: bytes) -> Response:
        sent = {name: value for name, value in handler.headers.items() if name.lower() not in _HOP_BY_HOP}
        response = self.upstream.send(handler.command, handler.path, body=body, headers=sent)
        kept = [(name, value) for name, value in response.headers if name.lower() not in _HOP_BY_HOP]
        return respond(response.status, *kept, body=response.body)
