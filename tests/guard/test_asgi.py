"""The guard for FastAPI and Starlette: the event loop never waits for the issuer."""

import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from fastapi import Depends, FastAPI

from tests.guard.stacks import serve_asgi, serve_fastapi
from tests.support.client import Client
from tests.support.forge import b64, compact
from tokenapp_guard import asgi

TOKEN = b".".join((b64(compact({"alg": "ES256", "kid": "k", "typ": "at+jwt"})), b64(b"{}"), b64(bytes(64)))).decode()


def test_other_requests_are_served_while_the_issuer_does_not_respond(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokenapp_guard.fetching.TIMEOUT", 60)
    asked, respond = threading.Event(), threading.Event()

    class Silent(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.set()
            respond.wait(60)

    with ThreadingHTTPServer(("127.0.0.1", 0), Silent) as issuer, ThreadPoolExecutor(2) as pool:
        pool.submit(issuer.serve_forever, 0.05)
        options = {"issuer": f"http://127.0.0.1:{issuer.server_port}", "audience": "tokenapp-api"}
        with serve_fastapi(options) as port:
            waiting = pool.submit(Client(port, timeout=60).send, "GET", "/orders", bearer=TOKEN)
            assert asked.wait(20)
            assert Client(port).send("GET", "/ping").status == 200
            assert not waiting.done()
            respond.set()
            assert waiting.result(20).status == 503
        issuer.shutdown()


def test_application_without_the_handler_responds_with_status_and_challenge() -> None:
    app = FastAPI()
    guard = asgi.Guard("http://127.0.0.1:1", audience="tokenapp-api")
    app.get("/orders", dependencies=[Depends(guard())])(lambda: None)
    with serve_asgi(app) as port:
        response = Client(port).send("GET", "/orders")
    assert (response.status, response.json) == (401, {"detail": "Access token required."})
    assert response.header("WWW-Authenticate") == 'Bearer realm="tokenapp-api"'
