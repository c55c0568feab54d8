"""Parse and validate requests, and build plain responses."""

import codecs
import re
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from time import monotonic
from typing import Any, Final, cast
from urllib.parse import parse_qsl, urlsplit

import msgspec
from flask import Request, Response, g, request
from werkzeug.exceptions import HTTPException
from werkzeug.urls import iri_to_uri

from tokenapp import config, db, errors, nesting
from tokenapp.models import Device

MAX_BODY: Final = 16 * 1024
MAX_FIELDS: Final = 64
FORM: Final = "application/x-www-form-urlencoded"
_JSON_TYPE: Final = re.compile(r"application/json\s*(;|$)", re.IGNORECASE)
_FORM_TYPE: Final = re.compile(rf"{FORM}\s*(;|$)", re.IGNORECASE)
_SITE: Final = re.compile(r"[a-z-]{1,32}|https?://[a-z0-9.\[\]:-]{1,128}", re.IGNORECASE)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_CREDENTIALS: Final = {"client_secret", "client_assertion"}
# An address, with the port or the zone (which can be any text) that proxies may add.
_HOP: Final = re.compile(
    r"\[(?P<bracketed>[0-9A-Fa-f:.]+)(?:%[^\]]*)?\](?::\d{1,5})?|(?P<ipv4>[0-9.]+)(?::\d{1,5})?|(?P<plain>[0-9A-Fa-f:.]+)(?:%.*)?"
)
_TRUNCATED: Final = "The request body is truncated or badly framed."
_TOO_DEEP: Final = f"The request body is nested more than {nesting.MAX_DEPTH} levels deep."
_UTF16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def check_framing(current: Request, *, limited: bool) -> None:
    """Reject ambiguous requests and, if `limited`, bodies over 16 KiB.

    Ambiguous requests, which not every server rejects, have two ``Host`` headers or a transfer coding other than
    chunked (RFC 9112, 3.2 and 6.1).

    Raises:
        errors.InvalidRequest, errors.RequestTooLarge
    """
    environ = current.environ
    coding = environ.get("HTTP_TRANSFER_ENCODING")
    if "," in environ.get("HTTP_HOST", "") or (coding is not None and coding.lower() != "chunked"):
        raise errors.InvalidRequest(reason="two hosts or codings")
    if not limited:
        return
    length = current.content_length
    if (length or 0) > MAX_BODY:
        raise errors.RequestTooLarge
    if length is None and coding is not None:
        g.state.body = _receive_body()  # the length of a chunked body is known only once it is read


def parse_json(decoder: msgspec.json.Decoder[Any]) -> Any:
    """Parse and validate the body as a JSON object; unknown fields are ignored.

    Raises:
        errors.UnsupportedMediaType, errors.RequestTooLarge, errors.InvalidRequest
    """
    if not _JSON_TYPE.match(request.headers.get("Content-Type", "")):
        raise errors.UnsupportedMediaType
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise errors.UnsupportedMediaType(detail="The request body must not be compressed.")
    text = _utf8(_body())
    if nesting.is_too_deep(text):
        raise errors.InvalidRequest(detail=_TOO_DEEP)
    try:
        return decoder.decode(text)
    except msgspec.ValidationError as error:
        # The message names the field and the expected type, and never the value.
        raise errors.InvalidRequest(detail=f"The request body is malformed: {error}.") from None
    except msgspec.DecodeError:
        raise errors.InvalidRequest(detail="The request body is not a JSON object.") from None


def parse_form(kind: type[msgspec.Struct]) -> Any:
    """Parse and validate the body as a form.

    Empty parameters count as missing (RFC 6749, 3.2).

    Raises:
        errors.RequestTooLarge, errors.InvalidRequest
    """
    if not _FORM_TYPE.match(request.headers.get("Content-Type", "")):
        raise errors.InvalidRequest(detail=f"The request body must be {FORM}.")
    try:
        fields = parse_qsl(_body().decode(), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
    except ValueError:
        raise errors.InvalidRequest(detail="The request body is not a form.") from None
    given = [(name, value) for name, value in fields if value]
    if _CREDENTIALS & dict(given).keys():
        raise errors.InvalidRequest(reason="two credentials", detail="Only one credential is allowed.")
    return _convert(given, kind, "request body")


def parse_query(kind: type[msgspec.Struct]) -> Any:
    """Parse and validate the query; unknown parameters are ignored.

    Raises:
        errors.InvalidRequest
    """
    return _convert([*request.args.items(multi=True)], kind, "query")


def json_response(body: msgspec.Struct, media_type: str = "application/json") -> Response:
    """Return a response with `body` as JSON."""
    return Response(msgspec.json.encode(body), mimetype=media_type)


def no_content() -> Response:
    """Return a 204 response."""
    response = Response(status=204)
    del response.headers["Content-Type"]
    return response


def redirect(path: str, fragment: str = "") -> Response:
    """Return a redirect to `path` of the service, with the request's query."""
    query = request.query_string.decode("latin-1")
    target = iri_to_uri(request.root_path + path) + (f"?{query}" if query else "")
    response = Response(status=302)
    response.headers["Location"] = target + (f"#{fragment}" if fragment else "")
    del response.headers["Content-Type"]
    return response


def client_address() -> str | None:
    """Return the address of the client.

    It is the peer's, or the one that a chain of trusted proxies forwards. The peer on a unix socket is always a trusted
    proxy. IPv4 addresses that are mapped into IPv6 are returned as IPv4.
    """
    address = _parse_address(request.remote_addr or "")  # on a Unix socket it is empty or the name of a file
    proxies = config.current().trusted_proxies
    if address is not None and not proxies:
        return address
    for hop in reversed(request.headers.get("X-Forwarded-For", "").split(",")):
        if address is not None and not _is_in(address, proxies):
            break
        candidate = _parse_address(hop)
        if candidate is not None:
            address = candidate
        elif hop.strip():  # empty elements of a list do not count (RFC 9110, 5.6.1)
            break
    return address


def user_agent() -> str | None:
    """Return up to 256 characters of the ``User-Agent``, without control characters."""
    return _CONTROL.sub("", request.headers.get("User-Agent", ""))[:256] or None


def device() -> Device:
    """Return where the request comes from."""
    return Device(client_address(), user_agent())


def check_same_site() -> None:
    """Reject requests that a page of another site made a browser send.

    ``Sec-Fetch-Site`` decides if present (Fetch Metadata), else ``Origin``. An allowed origin is always served. A
    request with neither header does not come from a browser.

    Raises:
        errors.CrossSiteRequest
    """
    origin = request.headers.get("Origin")
    if origin is not None and origin in config.current().allowed_origins:
        return
    site = request.headers.get("Sec-Fetch-Site")
    is_same_site = (
        site.lower() in {"same-origin", "none"} if site is not None else origin is None or _is_own_origin(origin)
    )
    if not is_same_site:
        raise errors.CrossSiteRequest(reason=f"site {_for_log(site)}, origin {_for_log(origin)}")


@lru_cache(maxsize=4096)  # a request asks twice, and clients come back
def _parse_address(text: str) -> str | None:
    """Return the address of a hop, such as ``"[2001:db8::7]:52344"``."""
    match = _HOP.fullmatch(text.strip(' \t"'))
    if match is None:
        return None
    try:
        address = ip_address(match["bracketed"] or match["ipv4"] or match["plain"])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


@lru_cache(maxsize=4096)
def _is_in(address: str, networks: tuple[str, ...]) -> bool:
    return any(ip_address(address) in ip_network(network) for network in networks)


def _convert(fields: list[tuple[str, str]], kind: type[msgspec.Struct], part: str) -> Any:
    known = [(name, value) for name, value in fields if name in kind.__struct_encode_fields__]
    values = dict(known)
    if len(values) != len(known):
        raise errors.InvalidRequest(detail=f"The {part} repeats a parameter.")
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise errors.InvalidRequest(detail=f"The {part} is malformed: {error}.") from None


def _utf8(raw: bytes) -> str:
    """Decode a body, with or without a byte order mark.

    msgspec does not check the encoding of fields that it skips.
    """
    if raw.startswith(_UTF16) or b"\0" in raw[:4]:
        raise errors.InvalidRequest(detail="The request body is UTF-16 or UTF-32. It must be UTF-8.")
    try:
        return raw.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError:
        detail = "The request body is not UTF-8. If it is Latin-1 or Windows-1252, convert it to UTF-8."
        raise errors.InvalidRequest(detail=detail) from None


def _body() -> bytes:
    return _receive_body() if g.state.body is None else cast("bytes", g.state.body)


def _receive_body() -> bytes:
    # One byte more than allowed: a chunked body that is cut at the limit looks like one that ends there.
    request.max_content_length = MAX_BODY + 1
    began = monotonic()
    try:
        raw = request.get_data(cache=False)
    except HTTPException:
        raise
    except Exception as error:  # noqa: BLE001 -- each server has its own exception for a malformed body
        raise errors.InvalidRequest(reason=type(error).__name__, detail=_TRUNCATED) from None
    db.extend_budget(monotonic() - began)  # a client that sends slowly takes no time from the database
    if len(raw) > MAX_BODY:
        raise errors.RequestTooLarge
    if len(raw) < (request.content_length or 0):
        raise errors.InvalidRequest(reason="truncated", detail=_TRUNCATED)  # some servers end it silently
    return raw


def _for_log(sent: str | None) -> str:
    """Return a site or an origin if it is well-formed."""
    return "none" if sent is None else sent if _SITE.fullmatch(sent) else "malformed"


def _is_own_origin(origin: str) -> bool:
    """Return whether `origin` is the service's own.

    That is the issuer's or, in development, the host that the request was sent to.
    """
    settings = config.current()
    issuer: Any = urlsplit(settings.issuer)
    if origin.lower() == f"{issuer.scheme}://{issuer.netloc}".lower():
        return True
    return not settings.production and urlsplit(origin.lower()).netloc == request.host.lower()
