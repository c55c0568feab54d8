"""Fetch JSON from the service: https only, no redirects, limited time and size."""

import json
import re
import socket
import threading
from contextlib import suppress
from http.client import OK, HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

TIMEOUT: Final = 3  # seconds
MAX_BYTES: Final = 4 << 20
_LOOPBACK: Final = {"localhost", "127.0.0.1", "::1"}
_MAX_AGE: Final = re.compile(r"(?:^|[\s,])max-age=(\d{1,9})(?:$|[\s,])", re.IGNORECASE)


class FetchError(Exception):
    """The service did not respond, or not with what was expected."""


class Fetched(NamedTuple):
    """A response, and its ``max-age`` in seconds if it has one."""

    document: dict[str, Any]
    max_age: int | None


def check_url(url: str) -> None:
    """Check that `url` is https, or http on loopback.

    Raises:
        ValueError
    """
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        message = "the issuer must be https, or http on loopback"
        raise ValueError(message)


def fetch_json(url: str, headers: dict[str, str] | None = None) -> Fetched:
    """Return the JSON object at `url`, within `TIMEOUT` seconds.

    Raises:
        FetchError
    """
    parts = urlsplit(url)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = kind(str(parts.hostname), parts.port, timeout=TIMEOUT)
    timer: threading.Timer | None = None
    try:
        connection.connect()
        timer = threading.Timer(TIMEOUT, _abort, (connection.sock,))
        timer.start()
        connection.request("GET", f"{parts.path}?{parts.query}" if parts.query else parts.path, headers=headers or {})
        response = connection.getresponse()
        document = json.loads(response.read(MAX_BYTES)) if response.status == OK else None
    except (OSError, ValueError, HTTPException, RecursionError) as fault:
        raise FetchError(str(fault)) from fault
    finally:
        if timer is not None:
            timer.cancel()
        connection.close()
    if not isinstance(document, dict):
        message = f"{url} returned {response.status} and no JSON object"
        raise FetchError(message)
    max_age = _MAX_AGE.search(response.headers.get("Cache-Control", ""))
    return Fetched(document, int(max_age[1]) if max_age else None)


def _abort(connection: socket.socket) -> None:
    """End a connection whose time is over."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
