"""One way to ask the service something: https but on loopback, no redirects, bounded in time and size."""

import json
import urllib.error
import urllib.request
from typing import Any, Final
from urllib.parse import urlsplit

TIMEOUT: Final = 3
MAX_BYTES: Final = 4 << 20
_LOOPBACK: Final = {"localhost", "127.0.0.1", "::1"}


class FetchError(Exception):
    """The service could not be asked, or did not answer as it should."""


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


def fetch_json(url: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
    """Return the JSON object at `url`.

    Raises:
        FetchError
    """
    try:
        asking = urllib.request.Request(url, headers=headers or {})  # noqa: S310 -- the scheme is checked
        with _opener.open(asking, timeout=TIMEOUT) as answer:
            document = json.loads(answer.read(MAX_BYTES))
    except (OSError, ValueError) as fault:
        raise FetchError(str(fault)) from fault
    if not isinstance(document, dict):
        raise FetchError(url)
    return document
