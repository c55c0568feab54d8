"""Fetch JSON from the service: https only, no redirects, limited time and size."""

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
    """The service did not respond, or not with what was expected."""


class Fetched(NamedTuple):
    """A response, and its ``max-age`` in seconds if it has one."""

    document: dict[str, Any]
    max_age: int | None


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
        """Reject redirects: keys are accepted from the issuer only."""


_opener: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects)


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
    """Return the JSON object at `url`.

    Raises:
        FetchError
    """
    try:
        request = urllib.request.Request(url, headers=headers or {})  # noqa: S310 -- the scheme is checked
        with _opener.open(request, timeout=TIMEOUT) as response:
            max_age = _MAX_AGE.search(response.headers.get("Cache-Control", ""))
            document = json.loads(response.read(MAX_BYTES))
    except (OSError, ValueError, HTTPException, RecursionError) as fault:
        raise FetchError(str(fault)) from fault
    if not isinstance(document, dict):
        raise FetchError(url)
    return Fetched(document, int(max_age[1]) if max_age else None)
