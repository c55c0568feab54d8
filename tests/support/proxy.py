"""A proxy before the service that does what networks do, and pages in a browser that use the client through it."""

import http.client
import http.server
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Self

from playwright.sync_api import BrowserContext, Page

_PAGE: Final = b"<!doctype html><html lang=en><title>A page</title>"
_OWN: Final = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}
_START: Final = """async () => {
    const { createClient } = await import("/static/tokenapp.js");
    window.client = createClient();
    window.told = [];
    client.onChange(({ reason }) => told.push(reason));
    window.call = (path, init) => client.fetch(path, init).then(reply => reply.status, error => error.name);
    window.burst = (many, path) => Promise.all(Array.from({ length: many }, () => call(path)));
    window.failureOf = promise => promise.then(() => null, each => [each.status, each.code, each.retryAfter]);
}"""
# The clock of all tabs goes forward as that of a laptop does which has slept: it is the only one that the client knows.
CLOCK: Final = "{ const { now } = Date; window.slept = 0; Date.now = () => now() + slept; }"


@dataclass(frozen=True)
class Answer:
    """An HTTP answer."""

    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""


@dataclass(frozen=True)
class Passed:
    """A request that came, and the status it was answered with: 0 if the answer was lost."""

    method: str
    path: str
    status: int
    bearer: str | None
    body: bytes


def refusal(status: int, code: str, **headers: str) -> Answer:
    """Return a refusal as the service words it."""
    names = [(name.replace("_", "-"), value) for name, value in headers.items()]
    body = json.dumps({"status": status, "code": code, "message": "For a test."}).encode()
    return Answer(status, [("Content-Type", "application/problem+json"), *names], body)


class Held:
    """Holds back the first answer to a refresh; to be a proxy's `after`."""

    def __init__(self) -> None:
        self.asked, self.goes_on = threading.Event(), threading.Event()

    def __call__(self, path: str, _answer: Answer) -> bool:
        """Wait with the answer if it is that one."""
        if path == "/api/token" and not self.asked.is_set():
            self.asked.set()
            self.goes_on.wait(30)
        return True


class Proxy:
    """Passes requests on to a server of this machine, and notes them in `passed`; ``/page`` is an empty page.

    `instead` may answer in the server's place. `after` is called once the server has answered: it may take its time,
    and if it returns False the answer is lost.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.passed: list[Passed] = []
        self.reset()

    def reset(self) -> None:
        """Pass everything on from now, and forget what was."""
        self.instead: Callable[[str], Answer | None] = lambda _path: None
        self.after: Callable[[str, Answer], bool] = lambda _path, _answer: True
        self.passed.clear()

    def __enter__(self) -> Self:
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def serve(self) -> None:
                proxy.serve(self)

            do_GET = do_POST = do_PUT = do_DELETE = do_OPTIONS = serve  # noqa: N815 -- names of the library's

            def log_message(self, *_: Any) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            request_queue_size = 512

            def handle_error(self, *_: Any) -> None:
                """Keep quiet: browsers hang up as they please."""

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
        """How many requests for `path` have been dealt with."""
        return sum(each.path == path for each in self.passed)

    def open(self, context: BrowserContext) -> Page:
        """Open a tab that uses the client."""
        page = context.new_page()
        page.goto(f"{self.origin}/page")
        page.evaluate(_START)
        return page

    def reload(self, page: Page) -> None:
        """Load a tab again."""
        page.reload()
        page.evaluate(_START)

    def serve(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        path = handler.path.partition("?")[0]
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        page = Answer(200, [("Content-Type", "text/html")], _PAGE) if path == "/page" else None
        answer, arrives = page or self.instead(path), True
        if answer is None:
            answer = self._pass_on(handler, body)
            arrives = self.after(path, answer)
        bearer = handler.headers.get("Authorization")
        self.passed.append(Passed(handler.command, path, answer.status if arrives else 0, bearer, body))
        if arrives:
            handler.send_response(answer.status)
            for name, value in (*answer.headers, ("Content-Length", str(len(answer.body)))):
                handler.send_header(name, value)
            handler.end_headers()
            handler.wfile.write(answer.body)

    def _pass_on(self, handler: http.server.BaseHTTPRequestHandler, body: bytes) -> Answer:
        headers = {name: value for name, value in handler.headers.items() if name.lower() not in _OWN}
        connection = http.client.HTTPConnection("127.0.0.1", self.target, timeout=30)
        try:
            connection.request(handler.command, handler.path, body, headers)
            reply = connection.getresponse()
            kept = [(name, value) for name, value in reply.getheaders() if name.lower() not in _OWN]
            return Answer(reply.status, kept, reply.read())
        finally:
            connection.close()
