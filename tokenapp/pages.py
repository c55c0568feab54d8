"""Files for browsers: the client, as one ES module that pages of any origin may load."""

import hashlib
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flask import Blueprint, Response, request

from tokenapp import errors, openapi

VERSION: Final = "0.1.0"
_FOLDER: Final = Path(__file__).resolve().parent / "web"
_ASKED_ABOUT: Final = "public, no-cache"
_FOR_EVER: Final = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class File:
    """A file under ``web/``; `immutable` where its name changes with its bytes, so that it is never asked for twice."""

    path: str
    media_type: str
    immutable: bool = False


FILES: Final[Mapping[str, File]] = {
    "tokenapp.js": File("client/tokenapp.js", "text/javascript"),
    f"tokenapp-{VERSION}.js": File("client/tokenapp.js", "text/javascript", immutable=True),
}

bp = Blueprint("pages", __name__)


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
    body = content(file)
    response = Response(body, mimetype=entry.media_type)
    response.headers["Cache-Control"] = _FOR_EVER if entry.immutable else _ASKED_ABOUT
    response.headers["Access-Control-Allow-Origin"] = "*"
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    response.set_etag(hashlib.sha256(body).hexdigest()[:32])
    response.make_conditional(request)
    return response


def content(file: str) -> bytes:
    """Return the bytes of one of `FILES`."""
    return (_FOLDER / FILES[file].path).read_bytes()


def integrity(file: str) -> str:
    """Return what a page's ``integrity`` attribute says of one of `FILES` (Subresource Integrity)."""
    return f"sha384-{b64encode(hashlib.sha384(content(file)).digest()).decode()}"
