"""The pages blueprint: the account page and the browser client.

The browser client is one ES module, which pages of any origin may load.
"""

import hashlib
import mimetypes
from base64 import b64encode
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

from flask import Blueprint, Response, render_template, request, send_from_directory

from tokenapp import config, errors
from tokenapp.http import requests
from tokenapp.http.endpoint import endpoint

VERSION: Final = "0.1.0"
_FOLDER: Final = Path(__file__).resolve().parent.parent / "web"
_REVALIDATED: Final = "public, no-cache"
_IMMUTABLE: Final = "public, max-age=31536000, immutable"
# No inline scripts or styles, nothing of other hosts, and no text that becomes markup or a script (Trusted Types).
_PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_MODULES: Final = ("account-calls.js", "account-devices.js", "account-forms.js", "account-words.js")
_VERSIONED: Final = f"tokenapp-{VERSION}.js"
# The files by their public name. The name with a version never changes its content.
FILES: Final[Mapping[str, str]] = {
    "tokenapp.js": "client/tokenapp.js",
    _VERSIONED: "client/tokenapp.js",
    **{name: f"account/{name}" for name in ("account.css", "account.svg", "account.js", *_MODULES)},
}

# RFC 9239. Python 3.11 has another type, and the tables of operating systems differ.
mimetypes.add_type("text/javascript", ".js")

bp = Blueprint("pages", __name__, template_folder="../web/account")


@bp.get("/")
@endpoint(redirect=True, headers=("Location",))
def home() -> Response:
    """Redirect to the account page."""
    return requests.redirect("/account")


@bp.get("/account/")
@endpoint(redirect=True, headers=("Location",))
def account_folder() -> Response:
    """Redirect to the account page."""
    return requests.redirect("/account")


@bp.get("/account")
@endpoint(response=("text/html",), cacheable=True)
def account_page() -> Response:
    """Return the account page.

    On it, users sign in, manage their devices and change their password.
    """
    shortest = config.current().password_min_length
    page = render_template("account.html", modules=(*_MODULES, "tokenapp.js"), password_min_length=shortest)
    response = Response(page, mimetype="text/html")
    response.headers["Cache-Control"] = _REVALIDATED
    response.headers["Content-Security-Policy"] = _PAGE_POLICY
    response.add_etag()
    response.make_conditional(request)
    return response


@bp.get("/favicon.ico")
@endpoint(response=("image/svg+xml",), cacheable=True, headers=("Content-Disposition", "Last-Modified"))
def favicon() -> Response:
    """Return the icon that browsers show beside pages without an icon of their own."""
    return _file("account/account.svg")


@bp.get("/robots.txt")
@endpoint(response=("text/plain",))
def robots() -> Response:
    """Ask search engines to list no page of the service."""
    return Response("User-agent: *\nDisallow: /\n", mimetype="text/plain")


@bp.get(f"/static/<any({', '.join(map(repr, FILES))}):file>")
@endpoint(
    response=("image/svg+xml", "text/css", "text/javascript"),
    cacheable=True,
    cache="revalidated or immutable",
    headers=("Access-Control-Allow-Origin", "Content-Disposition", "Cross-Origin-Resource-Policy", "Last-Modified"),
    errors=(errors.NotFound,),
)
def static_file(file: str) -> Response:
    """Return a file of the browser client or the account page.

    Pages of any origin may load it and check its integrity. No credentials are involved.
    """
    response = _file(FILES[file])
    if file == _VERSIONED:
        response.headers["Cache-Control"] = _IMMUTABLE
    response.headers["Access-Control-Allow-Origin"] = "*"
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    return response


def _file(name: str) -> Response:
    response = send_from_directory(_FOLDER, name, conditional=False, etag=version_of(_FOLDER / name))
    response.headers["Cache-Control"] = _REVALIDATED
    response.make_conditional(request)  # without ranges, which the document does not list
    return response


@cache
def version_of(path: Path) -> str:
    """Return the ETag of a file, from its content, so that all hosts agree on it."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:32]


def integrity(file: str) -> str:
    """Return the ``integrity`` attribute of one of `FILES` (Subresource Integrity)."""
    content = (_FOLDER / FILES[file]).read_bytes()
    return f"sha384-{b64encode(hashlib.sha384(content).digest()).decode()}"
