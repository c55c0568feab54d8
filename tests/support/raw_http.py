"""Send raw bytes to a server, for requests that an HTTP client would not send."""

import json
import re
import socket
import time
from contextlib import suppress
from typing import Final

from tests.support.app import PASSWORD
from tests.support.server import Server

LIMIT: Final = 16 * 1024
BODY: Final = json.dumps({"username": "alice", "password": PASSWORD}).encode()
LENGTH: Final = b"Content-Length: %d" % len(BODY)
CHUNKED: Final = b"Transfer-Encoding: chunked"
END: Final = b"0\r\n\r\n"
CLOSE: Final = b"Host: localhost\r\nConnection: close\r\n"
SMUGGLED: Final = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


def exchange(server: Server, *pieces: bytes, close: bool = True, pause: float = 0) -> bytes:
    """Send `pieces` on one connection and return everything that the server sends.

    Args:
        close: whether to close the sending half of the connection after the last piece.
        pause: the seconds between two pieces.
    """
    received = b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        with suppress(BrokenPipeError, ConnectionResetError):  # the server has responded and closed
            for number, piece in enumerate(pieces):
                time.sleep(pause if number else 0)
                connection.sendall(piece)
            if close:
                connection.shutdown(socket.SHUT_WR)
        with suppress(ConnectionResetError):
            while data := connection.recv(65536):
                received += data
    return received


def statuses(received: bytes) -> list[int]:
    """Return the status of each response in `received`."""
    return [int(status) for status in re.findall(rb"(?:^|(?<=[\n}]))HTTP/1\.[01] (\d{3}) ", received)]


def login(*headers: bytes, version: bytes = b"1.1", path: bytes = b"/api/login") -> bytes:
    """Return the request line and headers of a sign-in."""
    lines = (b"POST " + path + b" HTTP/" + version, CLOSE.strip(), b"Content-Type: application/json", *headers)
    return b"\r\n".join(lines) + b"\r\n\r\n"


def get(*headers: bytes, target: bytes = b"/api/protected", version: bytes = b"1.1") -> bytes:
    """Return a request without a body."""
    return b"\r\n".join([b"GET " + target + b" HTTP/" + version, CLOSE.strip(), *headers]) + b"\r\n\r\n"


def keep_alive(request: bytes) -> bytes:
    """Return `request` without the header that closes the connection."""
    return request.replace(b"Connection: close\r\n", b"")


def chunk(data: bytes) -> bytes:
    """Return one chunk of a chunked body."""
    return b"%x\r\n%s\r\n" % (len(data), data)
