"""Send files from memory: compressed, and with an ETag for each encoding."""

import gzip
import hashlib
from dataclasses import dataclass
from typing import Self

from flask import Response, request


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file that is the same for everybody.

    It has no secret, about which its compressed size could tell something (BREACH).
    """

    content: bytes
    compressed: bytes
    media_type: str
    tag: str

    @classmethod
    def of(cls, content: bytes, media_type: str) -> Self:
        """Prepare a file, with an ETag from its content, so that all hosts agree."""
        return cls(content, gzip.compress(content, mtime=0), media_type, hashlib.sha256(content).hexdigest()[:32])


def send(file: StaticFile, caching: str) -> Response:
    """Send a file, or 304 if the client has it. Ranges are ignored."""
    is_compressed = request.accept_encodings.quality("gzip") > 0
    response = Response(file.compressed if is_compressed else file.content, mimetype=file.media_type)
    response.set_etag(f"{file.tag}-gzip" if is_compressed else file.tag)
    if is_compressed:
        response.headers["Content-Encoding"] = "gzip"
    response.headers["Vary"] = "Accept-Encoding"
    response.headers["Cache-Control"] = caching
    response.make_conditional(request)
    return response
