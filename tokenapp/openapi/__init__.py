"""What tells people and programs how to call us: the OpenAPI document, and the page that shows it (Swagger UI 5.35.0).

A view describes itself with the decorator `Operation`; the document is made when it is first asked for.
"""

import hashlib
from functools import cache
from pathlib import Path
from typing import Final

import msgspec
from flask import Blueprint, Flask, Response, current_app, request

from tokenapp import errors
from tokenapp.openapi import document
from tokenapp.openapi.headers import RATE_LIMIT
from tokenapp.openapi.operation import OAuthError, Operation, described, text

__all__ = ["FILES", "RATE_LIMIT", "OAuthError", "Operation", "bp", "described", "init_app", "text"]

FILES: Final = {
    "start.js": "text/javascript",
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon-32x32.png": "image/png",
    "swagger-ui-bundle.js.LICENSE.txt": "text/plain",
    "LICENSE": "text/plain",
    "NOTICE": "text/plain",
}
_FOLDER: Final = Path(__file__).resolve().parent.parent / "web" / "docs"
_PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)

bp = Blueprint("openapi", __name__)


def init_app(app: Flask, version: str) -> None:
    """Serve the document and its page from `app`; nothing is built yet."""

    @cache
    def encoded() -> bytes:
        return msgspec.json.encode(document.build(app, version))

    app.extensions["openapi"] = encoded
    app.register_blueprint(bp)


@bp.get("/openapi.json")
@Operation(reply=("application/json",), cacheable=True)
def specification() -> Response:
    """Give this document."""
    return _cacheable(current_app.extensions["openapi"](), "application/json")


@bp.get("/docs")
@Operation(reply=("text/html",), cacheable=True)
def page() -> Response:
    """Show this document as a page to read and to try things on."""
    response = _cacheable((_FOLDER / "index.html").read_bytes(), "text/html")
    response.headers["Content-Security-Policy"] = _PAGE_POLICY
    return response


@bp.get(f"/docs/<any({', '.join(map(repr, FILES))}):name>")
@Operation(
    reply=tuple(sorted({*FILES.values()})),
    cacheable=True,
    parameters={"name": {"enum": [*FILES]}},
    refuses=(errors.NotFound,),
)
def page_file(name: str) -> Response:
    """Give one of the files of the page."""
    return _cacheable((_FOLDER / name).read_bytes(), FILES[name])


def _cacheable(body: bytes, media_type: str) -> Response:
    """Answer with a public document, which may be kept but must be asked about each time."""
    response = Response(body, mimetype=media_type)
    response.headers["Cache-Control"] = "public, no-cache"
    response.set_etag(hashlib.sha256(body).hexdigest()[:32])
    response.make_conditional(request)
    return response
