"""What is for browsers: the client, as one ES module that pages of any origin may load, and the account page."""

import hashlib
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flask import Blueprint, Response, render_template, request

from tokenapp import config, errors, openapi

VERSION: Final = "0.1.0"
_FOLDER: Final = Path(__file__).resolve().parent / "web"
_ASKED_ABOUT: Final = "public, no-cache"
# No inline script or style, nothing of other hosts, and no text that becomes markup or a program (Trusted Types).
_PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_FOR_EVER: Final = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class File:
    """A file under ``web/``; `immutable` where its name changes with its bytes, so that it is never asked for twice."""

    path: str
    media_type: str
    immutable: bool = False


_PARTS: Final = ("account-calls.js", "account-devices.js", "account-forms.js", "account-words.js")
FILES: Final[Mapping[str, File]] = {
    "tokenapp.js": File("client/tokenapp.js", "text/javascript"),
    f"tokenapp-{VERSION}.js": File("client/tokenapp.js", "text/javascript", immutable=True),
    "account.css": File("account/account.css", "text/css"),
    "account.svg": File("account/account.svg", "image/svg+xml"),
    "account.js": File("account/account.js", "text/javascript"),
    **{name: File(f"account/{name}", "text/javascript") for name in _PARTS},
}

bp = Blueprint("pages", __name__, template_folder="web/account")


@bp.get("/account")
@openapi.Operation(reply=("text/html",), cacheable=True)
def account_page() -> Response:
    """Show the page on which people sign in, see their devices and change their password."""
    shortest = config.current().password_min_length
    body = render_template("account.html", modules=(*_PARTS, "tokenapp.js"), password_min_length=shortest).encode()
    response = _conditional(Response(body, mimetype="text/html"))
    response.headers["Cache-Control"] = _ASKED_ABOUT
    response.headers["Content-Security-Policy"] = _PAGE_POLICY
    return response


@bp.get(f"/static/<any({', '.join(map(repr, FILES))}):file>")
@openapi.Operation(
    reply=tuple(sorted({each.media_type for each in FILES.values()})),
    cacheable=True,
    cache="asked about or for ever",
    headers=("Access-Control-Allow-Origin", "Cross-Origin-Resource-Policy"),
    parameters={"file": {"enum": [*FILES]}},
    refuses=(errors.NotFound,),
)
def static_file(file: str) -> Response:
    """Give one of the files for pages.

    A page of any origin may load them, and so check their integrity; credentials play no part in it.
    """
    entry = FILES[file]
    response = _conditional(Response(content(file), mimetype=entry.media_type))
    response.headers["Cache-Control"] = _FOR_EVER if entry.immutable else _ASKED_ABOUT
    response.headers["Access-Control-Allow-Origin"] = "*"
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    return response


def content(file: str) -> bytes:
    """Return the bytes of one of `FILES`."""
    return (_FOLDER / FILES[file].path).read_bytes()


def integrity(file: str) -> str:
    """Return what a page's ``integrity`` attribute says of one of `FILES` (Subresource Integrity)."""
    return f"sha384-{b64encode(hashlib.sha384(content(file)).digest()).decode()}"


def _conditional(response: Response) -> Response:
    """Name the version of an answer, and leave its body out for whoever has that version."""
    response.set_etag(hashlib.sha256(response.get_data()).hexdigest()[:32])
    response.make_conditional(request)
    return response
