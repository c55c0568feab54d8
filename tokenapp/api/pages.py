"""The pages blueprint: the files of the browser client and of the account page.

The browser client is one ES module, which pages of any origin may load.
"""

import hashlib
import mimetypes
from base64 import b64encode
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

from flask import Blueprint, Response

from tokenapp import config, errors
from tokenapp.api import account_page, modules
from tokenapp.config.brand import Palette
from tokenapp.http import files
from tokenapp.http.endpoint import endpoint

VERSION: Final = "0.2.0"
_FOLDER: Final = Path(__file__).resolve().parent.parent / "web"
_REVALIDATED: Final = "public, no-cache"
_IMMUTABLE: Final = "public, max-age=31536000, immutable"
_VERSIONED: Final = f"tokenapp-{VERSION}.js"
_ACCOUNT: Final = "account.js"
_STYLES: Final = "account.css"
# The files by their public name. The name with a version never changes its content.
FILES: Final[Mapping[str, str]] = {
    "tokenapp.js": "client/tokenapp.js",
    _VERSIONED: "client/tokenapp.js",
    **{name: f"account/{name}" for name in (_STYLES, "account.svg", _ACCOUNT)},
    **{f"texts-{language}.json": f"account/texts/{language}.json" for language in account_page.LANGUAGES},
}

# RFC 9239. Python 3.11 has another type, and the tables of operating systems differ.
mimetypes.add_type("text/javascript", ".js")

bp = Blueprint("pages", __name__)


@bp.get("/favicon.ico")
@endpoint(response=("image/svg+xml",), cacheable=True)
def favicon() -> Response:
    """Return the icon that browsers show beside pages without an icon of their own."""
    return files.send(_load("account.svg"), _REVALIDATED)


@bp.get("/robots.txt")
@endpoint(response=("text/plain",))
def robots() -> Response:
    """Ask search engines to list no page of the service."""
    return Response("User-agent: *\nDisallow: /\n", mimetype="text/plain")


@bp.get(f"/static/<any({', '.join(map(repr, FILES))}):file>")
@endpoint(
    response=("application/json", "image/svg+xml", "text/css", "text/javascript"),
    cacheable=True,
    cache="revalidated or immutable",
    headers=("Access-Control-Allow-Origin", "Cross-Origin-Resource-Policy"),
    errors=(errors.NotFound,),
)
def static_file(file: str) -> Response:
    """Return a file of the browser client or the account page.

    Pages of any origin may load it and check its integrity. No credentials are involved.
    """
    response = files.send(_load(file, config.current().brand_color), _IMMUTABLE if file == _VERSIONED else _REVALIDATED)
    response.headers["Access-Control-Allow-Origin"] = "*"
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    return response


@cache
def _load(name: str, palette: Palette | None = None) -> files.StaticFile:
    path = _FOLDER / FILES[name]
    content = modules.join(path).encode() if name == _ACCOUNT else path.read_bytes()
    if name == _STYLES and palette:
        content += palette.css().encode()
    return files.StaticFile.of(content, mimetypes.guess_type(name)[0] or "")


@cache
def version_of(path: Path) -> str:
    """Return the ETag of a file, from its content, so that all hosts agree on it."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:32]


def integrity(file: str) -> str:
    """Return the ``integrity`` attribute of one of `FILES` (Subresource Integrity)."""
    content = (_FOLDER / FILES[file]).read_bytes()
    return f"sha384-{b64encode(hashlib.sha384(content).digest()).decode()}"
