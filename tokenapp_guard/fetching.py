"""One way to ask the service something: https but on loopback, no redirects, bounded in time and size."""

import json
import re
import urllib.request
from http.client import HTTPException
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

TIMEOUT: Final = 3
MAX_BYTES: Final = 4 << 20
_LOOPBACK: Final = {"localhost", "127.0.0.1", "::1"}
_MAX_AGE: Final = re.compile(r"(?:^|[\s,])max-age=(\d{1,9})(?:$|[\s,])", re.IGNORECASE)


class FetchError(Exception):
    """The service could not be asked, or did not answer as it should."""


class Fetched(NamedTuple):
    """An answer, and for how many seconds it may be kept, if it says so."""

    document: dict[str, Any]
    max_age: int | None


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
        """Follow nobody: keys come from the issuer or not at all."""


_opener: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects)


def check_url(url: str) -> None:
    """Refuse an address whose answers anybody on the way could change.

    Raises:
        ValueError
    """
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        message = "the issuer must be https, but for loopback in development"
        raise ValueError(message)


def fetch_json(url: str, headers: dict[str, str] | None = None) -> Fetched:
    """Return the JSON object at `url`.

    Raises:
        FetchError
    """
    try:
        asking = urllib.request.Request(url, headers=headers or {})  # noqa: S310 -- the scheme is checked
        with _opener.open(asking, timeout=TIMEOUT) as answer:
            kept = _MAX_AGE.search(answer.headers.get("Cache-Control", ""))
            document = json.loads(answer.read(MAX_BYTES))
    except (OSError, ValueError, HTTPException, RecursionError) as fault:
        raise FetchError(str(fault)) from fault
    if not isinstance(document, dict):
        raise FetchError(url)
    return Fetched(document, int(kept[1]) if kept else None)
