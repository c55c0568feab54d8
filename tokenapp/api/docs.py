"""The docs blueprint: the OpenAPI document, and Swagger UI to read it and try it."""

from functools import cache
from pathlib import Path
from typing import Final

import msgspec
from flask import Blueprint, Flask, Response, current_app, request, send_from_directory

from tokenapp import errors
from tokenapp.api.pages import version_of
from tokenapp.http import openapi, requests
from tokenapp.http.endpoint import endpoint

FILES: Final = (
    "start.js",
    "swagger-ui-bundle.js",
    "swagger-ui.css",
    "favicon-32x32.png",
    "swagger-ui-bundle.js.LICENSE.txt",
    "LICENSE",
    "NOTICE",
)
_FOLDER: Final = Path(__file__).resolve().parent.parent / "web" / "docs"
_FILE_HEADERS: Final = ("Content-Disposition", "Last-Modified")
_PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)

bp = Blueprint("docs", __name__)


def init_app(app: Flask, version: str) -> None:
    """Prepare the document of `app`, which is generated on first use."""
    app.extensions["tokenapp.openapi"] = cache(lambda: msgspec.json.encode(openapi.build(app, version)))


@bp.get("/openapi.json")
@endpoint(response=("application/json",), cacheable=True)
def specification() -> Response:
    """Return this document."""
    response = Response(current_app.extensions["tokenapp.openapi"](), mimetype="application/json")
    response.headers["Cache-Control"] = "public, no-cache"
    response.add_etag()
    response.make_conditional(request)
    return response


@bp.get("/docs")
@endpoint(response=("text/html",), cacheable=True, headers=_FILE_HEADERS)
def page() -> Response:
    """Return a page that shows this document."""
    response = _file("index.html")
    response.headers["Content-Security-Policy"] = _PAGE_POLICY
    return response


@bp.get("/docs/")
@endpoint(redirect=True, headers=("Location",))
def page_folder() -> Response:
    """Redirect to that page."""
    return requests.redirect("/docs")


@bp.get(f"/docs/<any({', '.join(map(repr, FILES))}):name>")
@endpoint(
    response=("image/png", "text/css", "text/javascript", "text/plain"),
    cacheable=True,
    headers=_FILE_HEADERS,
    errors=(errors.NotFound,),
)
def page_file(name: str) -> Response:
    """Return a file of that page."""
    return _file(name)


def _file(name: str) -> Response:
    plain = "text/plain" if "." not in name else None
    response = send_from_directory(_FOLDER, name, mimetype=plain, conditional=False, etag=version_of(_FOLDER / name))
    response.headers["Cache-Control"] = "public, no-cache"
    response.make_conditional(request)  # without ranges, which the document does not list
    return response
