"""What a request brings: its body, where it comes from, whether a page of another site sent it; and plain replies."""

import re
from ipaddress import ip_address, ip_network
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl, urlsplit

import msgspec
from flask import Response, g, request
from werkzeug.exceptions import HTTPException

from tokenapp import config, db, errors

MAX_BODY: Final = 16 * 1024
MAX_FIELDS: Final = 64
FORM: Final = "application/x-www-form-urlencoded"
_JSON_TYPE: Final = re.compile(r"application/json\s*(;|$)", re.IGNORECASE)
_FORM_TYPE: Final = re.compile(rf"{FORM}\s*(;|$)", re.IGNORECASE)
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SITE: Final = re.compile(r"[a-z-]{1,32}|https?://[a-z0-9.\[\]:-]{1,128}", re.IGNORECASE)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_CUT_OFF: Final = "The request body is cut off or badly framed."

_Body = TypeVar("_Body", bound=msgspec.Struct)


def prepare_types() -> None:
    """Prepare all kinds of bodies and claims before there are threads.

    msgspec prepares a type when it first reads one, and crashes the process when two threads do so at once.
    """
    waiting = [msgspec.Struct]
    while waiting:
        kinds = waiting.pop().__subclasses__()
        waiting += kinds
        for kind in kinds:
            msgspec.json.Decoder(kind)


def refuse_large() -> None:
    """Refuse a body over 16 KiB, whether or not the route reads bodies.

    Raises:
        errors.RequestTooLarge
    """
    length = request.content_length
    if (length or 0) > MAX_BODY:
        raise errors.RequestTooLarge
    if length is None and "HTTP_TRANSFER_ENCODING" in request.environ:
        g.body = _receive_body()  # in chunks, and only reading tells how long it is


def refuse_ambiguous() -> None:
    """Refuse what not every server refuses by itself: two hosts, and a body coded twice (RFC 9112, 3.2 and 6.1).

    Raises:
        errors.InvalidRequest
    """
    environ = request.environ
    coding = environ.get("HTTP_TRANSFER_ENCODING", "chunked")
    if "," in environ.get("HTTP_HOST", "") or coding.lower() != "chunked":
        raise errors.InvalidRequest(reason="two hosts or codings")


def read_json(kind: type[_Body]) -> _Body:
    """Parse the body as a JSON object of the form `kind`; unknown members are ignored.

    Raises:
        errors.UnsupportedMediaType, errors.RequestTooLarge, errors.InvalidRequest
    """
    if not _JSON_TYPE.match(request.headers.get("Content-Type", "")):
        raise errors.UnsupportedMediaType
    raw = _read_body()
    try:
        # The decoding is ours, because msgspec does not look at the bytes of members that it skips.
        return msgspec.json.decode(raw.decode(), type=kind)
    except msgspec.ValidationError as fault:
        # Its text names the member and the type that is wanted, and never the value.
        raise errors.InvalidRequest(detail=f"The request body is malformed: {fault}.") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise errors.InvalidRequest(detail="The request body is not a JSON object.") from None


def read_form() -> dict[str, str]:
    """Parse the body as a form; parameters without a value count as left out (RFC 6749, 3.2).

    Raises:
        errors.RequestTooLarge, errors.InvalidRequest: no form, or a parameter comes twice.
    """
    if not _FORM_TYPE.match(request.headers.get("Content-Type", "")):
        raise errors.InvalidRequest(detail=f"The request body must be {FORM}.")
    try:
        fields = parse_qsl(_read_body().decode(), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
    except ValueError:
        raise errors.InvalidRequest(detail="The request body is not a form.") from None
    form = dict(fields)
    if len(form) != len(fields):
        raise errors.InvalidRequest(detail="A parameter is given more than once.")
    return {name: value for name, value in form.items() if value}


def read_limit(default: int, most: int) -> int:
    """Return the query's ``limit``, a page's length.

    Raises:
        errors.InvalidRequest
    """
    raw = request.args.get("limit", str(default))
    if not re.fullmatch(r"[0-9]{1,4}", raw) or not 1 <= int(raw) <= most:
        raise errors.InvalidRequest(detail=f"The limit must be a whole number from 1 to {most}.")
    return int(raw)


def read_cursor() -> str | None:
    """Return the query's ``cursor``, the id after which a page goes on.

    Raises:
        errors.InvalidRequest
    """
    cursor = request.args.get("cursor")
    if cursor is not None and not is_id(cursor):
        raise errors.InvalidRequest(detail="The cursor is not one of ours.")
    return cursor


def is_id(text: str) -> bool:
    """Whether `text` could be the id of anything."""
    return _ID.fullmatch(text) is not None


def reply(body: msgspec.Struct) -> Response:
    """Answer with `body` as JSON."""
    return Response(msgspec.json.encode(body), mimetype="application/json")


def no_content() -> Response:
    """Answer that it is done and there is nothing to say."""
    response = Response(status=204)
    del response.headers["Content-Type"]
    return response


def check_text(name: str, value: str, *, longest: int) -> None:
    """Refuse a value that no user can have: over `longest` bytes, or with U+0000, which PostgreSQL cannot hold.

    Raises:
        errors.InvalidRequest
    """
    if len(value.encode()) > longest or "\x00" in value:
        raise errors.InvalidRequest(detail=f"The value of {name} is too long or holds a NUL character.")


def client_address() -> str | None:
    """Return the address of whoever called: our peer, or the one that trusted proxies in a row vouch for."""
    address = request.remote_addr or None
    proxies = config.current().trusted_proxies
    if not proxies:
        return address
    trusted = [ip_network(network) for network in proxies]
    for hop in reversed(request.headers.get("X-Forwarded-For", "").split(",")):
        try:
            believed = address is not None and any(ip_address(address) in network for network in trusted)
            candidate = str(ip_address(hop.strip().partition("%")[0]))  # a zone is any text, and nobody else's business
        except ValueError:
            break
        if not believed:
            break
        address = candidate
    return address


def user_agent() -> str | None:
    """Return the ``User-Agent`` with control characters removed, at most 256 characters of it."""
    return _CONTROL.sub("", request.headers.get("User-Agent", ""))[:256] or None


def refuse_cross_site() -> None:
    """Refuse what a page of another site made a browser send.

    ``Sec-Fetch-Site`` decides where it is present (Fetch Metadata), else ``Origin``; an origin that is allowed by
    name may always call. With neither header the caller is no browser.

    Raises:
        errors.CrossSiteRequest
    """
    origin = request.headers.get("Origin")
    if origin is not None and origin in config.current().allowed_origins:
        return
    site = request.headers.get("Sec-Fetch-Site")
    ours = site.lower() in {"same-origin", "none"} if site is not None else origin is None or _is_ours(origin)
    if not ours:
        raise errors.CrossSiteRequest(reason=f"site {_named(site)}, origin {_named(origin)}")


def _read_body() -> bytes:
    body: bytes = g.pop("body") if "body" in g else _receive_body()
    db.start_budget()  # a client that sends slowly takes no time from the database
    return body


def _receive_body() -> bytes:
    # One byte more than is allowed, because a chunked body that is cut at the limit looks like one that ends there.
    request.max_content_length = MAX_BODY + 1
    try:
        raw = request.get_data(cache=False)
    except HTTPException:
        raise
    except Exception as fault:  # noqa: BLE001 -- each server has words of its own for a body that makes no sense
        raise errors.InvalidRequest(reason=type(fault).__name__, detail=_CUT_OFF) from None
    if len(raw) > MAX_BODY:
        raise errors.RequestTooLarge
    if len(raw) < (request.content_length or 0):
        raise errors.InvalidRequest(reason="cut off", detail=_CUT_OFF)  # some servers end it without a word
    return raw


def _named(sent: str | None) -> str:
    """Return a site or origin for the log if it has the form of one; other things are none of the log's business."""
    return "none" if sent is None else sent if _SITE.fullmatch(sent) else "malformed"


def _is_ours(origin: str) -> bool:
    """Whether `origin` is our own: the issuer's or, in development, that of whatever name we were called by."""
    settings = config.current()
    issuer: Any = urlsplit(settings.issuer)
    if origin.lower() == f"{issuer.scheme}://{issuer.netloc}".lower():
        return True
    return not settings.production and origin.lower() == request.host_url.rstrip("/").lower()
