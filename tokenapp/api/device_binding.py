"""The routes by which browsers bind a session to a key of the device.

Browsers call them without any script, after the header ``Secure-Session-Registration`` of a sign-in and whenever the
bound cookie is due (Device Bound Session Credentials). The application loads them only if TOKENAPP_DEVICE_BINDING is
`report` or `enforce`.
"""

import re
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

import msgspec
from flask import Blueprint, Flask, Response, g, request

from tokenapp import config, errors, tokens
from tokenapp.http import requests
from tokenapp.http.endpoint import endpoint
from tokenapp.http.principal import RequestState
from tokenapp.models import Grant
from tokenapp.sessions import binding
from tokenapp.sessions.bound_refresh import Presented

bp = Blueprint("device_binding", __name__, url_prefix="/api/device-binding")
_ATTRIBUTES: Final = "Path=/; Secure; HttpOnly; SameSite=Strict"
_ALGORITHMS: Final = "(ES256 RS256)"
_SID: Final = re.compile(r'"?([A-Za-z0-9_-]{1,64})"?(?:;.*)?')
# Why a browser did not sign, and for which session (a structured field, RFC 9651).
_SKIPPED: Final = re.compile(
    r'\s*(?:unreachable|server_error|quota_exceeded)\s*;\s*session_identifier="?([A-Za-z0-9_-]{1,64})"?\s*'
)


class Rule(msgspec.Struct):
    """A path that is in the scope of the binding or not."""

    type: str
    domain: str
    path: str


class Scope(msgspec.Struct):
    """The requests before which the browser renews the bound cookie."""

    origin: str
    include_site: bool
    scope_specification: list[Rule]


class BoundCookie(msgspec.Struct):
    """The cookie that the browser keeps valid."""

    type: str
    name: str
    attributes: str


class Instructions(msgspec.Struct, rename={"goes_on": "continue"}, omit_defaults=True):
    """What the browser does for the session; `continue` is true by default."""

    session_identifier: str
    refresh_url: str = ""
    scope: Scope | None = None
    credentials: list[BoundCookie] = []
    allowed_refresh_initiators: list[str] = []
    goes_on: bool = True


def init_app(app: Flask) -> None:
    """Register the routes, and the header that makes browsers use them."""
    app.register_blueprint(bp)

    @app.after_request
    def offer(response: Response) -> Response:
        state: RequestState = g.state
        if state.grant is not None and state.grant.outcome == "opened":
            response.headers["Secure-Session-Registration"] = _offer(state.grant)
        return response


def presented(sid: str) -> Presented:
    """Return what the request presents to refresh the bound session `sid`."""
    skipped = request.headers.get("Secure-Session-Skipped", "")
    matches = map(_SKIPPED.fullmatch, skipped.split(","))
    return Presented(
        tuple(request.cookies.getlist(binding.COOKIE)), any(match is not None and match[1] == sid for match in matches)
    )


@bp.post("/registration")
@endpoint(response=Instructions, credential="cookie", cookie="bound", errors=(errors.DeviceProofInvalid,))
def register_device_key(now: datetime) -> Response:
    """Bind the session of the refresh cookie to a key of the browser's device.

    Browsers send this request by themselves after a sign-in. Its header `Secure-Session-Response` is a JWT that is
    signed with the key and contains the challenge of the sign-in.
    """
    claims = g.state.claims = tokens.read_cookie()
    binding.register(claims.sid, _proof() or "", request_url("/registration"), now)
    return _instruct(claims.sid, now)


@bp.post("/refresh")
@endpoint(response=Instructions, cookie="bound", errors=(errors.DeviceProofRequired, errors.ServiceUnavailable))
def prove_device_key(now: datetime) -> Response:
    """Renew the bound cookie, given a signed challenge.

    Browsers send this request by themselves when the bound cookie is due. Without a valid proof, the response has a new
    challenge. For a session that has ended, it tells the browser to forget the key.
    """
    named = _SID.fullmatch(request.headers.get("Sec-Secure-Session-Id", ""))
    sid = named[1] if named else ""
    if not sid or not binding.prove(sid, _proof(), request_url("/refresh"), now):
        return requests.json_response(Instructions(sid, goes_on=False))
    g.state.sid = sid
    return _instruct(sid, now)


def request_url(path: str) -> str:
    """Return the public URL of one of the routes."""
    return f"{config.current().issuer}{bp.url_prefix}{path}"


def _proof() -> str | None:
    value = request.headers.get("Secure-Session-Response")
    return None if value is None else value.strip().removeprefix('"').removesuffix('"')


def _offer(grant: Grant) -> str:
    challenge = binding.challenge("registration", grant.sid, datetime.now(UTC))
    path = urlsplit(request_url("/registration")).path
    return f'{_ALGORITHMS};path="{path}";challenge="{challenge}"'


def _instruct(sid: str, now: datetime) -> Response:
    """Return the instructions for a bound session, with a new bound cookie."""
    settings = config.current()
    issuer = urlsplit(settings.issuer)
    host = str(issuer.hostname)
    refreshes = Rule("include", host, f"{issuer.path}/api/token")
    instructions = Instructions(
        session_identifier=sid,
        refresh_url=urlsplit(request_url("/refresh")).path,
        # The draft lets the first rule that matches decide, and Chromium the last one.
        scope=Scope(
            f"{issuer.scheme}://{issuer.netloc}",
            include_site=False,
            scope_specification=[refreshes, Rule("exclude", host, "/"), refreshes],
        ),
        credentials=[BoundCookie("cookie", binding.COOKIE, _ATTRIBUTES)],
        allowed_refresh_initiators=sorted({str(urlsplit(origin).hostname) for origin in settings.allowed_origins}),
    )
    response = requests.json_response(instructions)
    value, max_age = binding.bound_cookie(sid, now)
    response.headers["Set-Cookie"] = f"{binding.COOKIE}={value}; Max-Age={max_age}; {_ATTRIBUTES}"
    return response
