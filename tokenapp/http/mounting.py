"""Serve the application below the path of the issuer, such as ``/auth``."""

from collections.abc import Callable, Iterable
from typing import Any, Final
from urllib.parse import unquote

from flask import Flask

Environ = dict[str, Any]
Wsgi = Callable[[Environ, Any], Iterable[bytes]]

_METADATA: Final = "/.well-known/oauth-authorization-server"


def init_app(app: Flask, base_path: str) -> None:
    """Accept requests with and without the prefix `base_path`.

    Proxies either strip the prefix or pass it on. The metadata is also served at the address of RFC 8414, 3.1, which
    has the path of the issuer at its end. Call this after all routes are registered.
    """
    if base_path:
        base = unquote(base_path, "latin-1")  # as WSGI decodes paths
        own = {_first_segment(rule.rule) for rule in app.url_map.iter_rules()}
        app.wsgi_app = _mounted(app.wsgi_app, base, own)  # type: ignore[assignment, method-assign]  # as Flask documents it


def _mounted(wsgi: Wsgi, base: str, own: set[str]) -> Wsgi:
    # With the issuer https://example.com/api, the path /api/login has no prefix, and /api/api/login has one.
    is_ambiguous = _first_segment(base) in own

    def call(environ: Environ, start_response: Any) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        environ["SCRIPT_NAME"] = environ.get("SCRIPT_NAME") or base
        if path == _METADATA + base:
            environ["PATH_INFO"] = _METADATA
        elif path == base or path.startswith(base + "/"):
            rest = path[len(base) :] or "/"
            if not is_ambiguous or _first_segment(rest) in own:
                environ["PATH_INFO"] = rest
        return wsgi(environ, start_response)

    return call


def _first_segment(path: str) -> str:
    return path.split("/", 2)[1]
