"""The guard's HTTP requests to the service."""

import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest

from tests.support.app import ROOT
from tests.support.guarded import stub_server
from tokenapp_guard import Guard
from tokenapp_guard.fetching import FetchError, fetch_json

# A thread fetches, and holds its lock until there is a response. In the child no thread would release it.
FORKING = """
import os, signal, socket, sys, threading
from tokenapp_guard.feed import Feed
from tokenapp_guard.fetching import FetchError
from tokenapp_guard.issuer import JWKS
with socket.create_server(("127.0.0.1", 0)) as listener:
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    feed = Feed(address, "id", "secret", interval=3600, patience=60, keep=lambda: 60)
    fetch = {"feed": lambda: feed.is_revoked("any"), "keys": lambda keys=JWKS(address): keys.find("any")}[sys.argv[1]]
    threading.Thread(target=fetch, daemon=True).start()
    connection, _ = listener.accept()
child = os.fork()
if not child:
    signal.alarm(30)
    try:
        fetch()
    except FetchError:
        os._exit(0)
sys.exit(os.waitpid(child, 0)[1] != 0)
"""


@pytest.mark.parametrize("what", ["feed", "keys"])
def test_process_that_is_forked_during_a_fetch_fetches_by_itself(what: str) -> None:
    command = [sys.executable, "-c", FORKING, what]
    subprocess.run(command, cwd=ROOT, check=True, timeout=60, stderr=subprocess.DEVNULL)


@pytest.mark.parametrize(
    "response",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"",
        b"HTTP/1.1 500 Oh\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\n\r\nno json",
        b"HTTP/1.1 200 OK\r\n\r\n\xff",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 100_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
    ],
    ids=["not HTTP", "empty", "500", "array", "not JSON", "not UTF-8", "nested", "cut off"],
)
def test_malformed_response_is_a_fetch_error(response: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def respond() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(response)

        thread = threading.Thread(target=respond)
        thread.start()
        with pytest.raises(FetchError):
            fetch_json(f"http://127.0.0.1:{listener.getsockname()[1]}/")
        thread.join()


def test_redirect_is_not_followed() -> None:
    with (
        stub_server(200, {}, b'{"keys": []}') as (target, requested),
        stub_server(302, {"Location": f"{target}/x"}, b"") as (address, _),
        pytest.raises(FetchError),
    ):
        fetch_json(address)
    assert requested == []


@pytest.mark.parametrize("issuer", ["http://login.example.com", "ftp://127.0.0.1", "file:///etc/passwd", "login"])
def test_issuer_must_be_https_or_loopback(issuer: str) -> None:
    with pytest.raises(ValueError, match="https"):
        Guard(issuer, audience="tokenapp-api")


def test_dripping_response_is_given_up() -> None:
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                while not stop.wait(0.2):
                    connection.sendall(b" ")

        thread = threading.Thread(target=drip)
        thread.start()
        began = time.monotonic()
        with pytest.raises(FetchError):
            fetch_json(f"http://127.0.0.1:{listener.getsockname()[1]}/")
        took = time.monotonic() - began
        stop.set()
        thread.join()
    assert took < 15, "each byte came in time, and the whole response did not"
