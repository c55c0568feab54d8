"""For other services: our public keys, what we offer, and what a token is worth at this moment."""

import base64
import binascii
from collections.abc import Callable
from datetime import UTC, datetime
from functools import wraps
from typing import ParamSpec
from urllib.parse import quote

import msgspec
from flask import Blueprint, Response, request

from tokenapp import clients, config, incoming, keys, sessions, tokens

bp = Blueprint("wellknown", __name__)
_FORM = "application/x-www-form-urlencoded"
_Parameters = ParamSpec("_Parameters")


class Metadata(msgspec.Struct):
    """What this service offers (RFC 8414); nothing is listed that is not there."""

    issuer: str
    jwks_uri: str
    introspection_endpoint: str
    revocation_endpoint: str
    response_types_supported: tuple[str, ...] = ()
    grant_types_supported: tuple[str, ...] = ()
    introspection_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)
    revocation_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)


class KeySet(msgspec.Struct):
    """Public keys (RFC 7517, 5)."""

    keys: list[dict[str, str]]


class OAuthError(msgspec.Struct):
    """An error as RFC 6749, 5.2 has it, for the routes that RFC 7662 and RFC 7009 define."""

    error: str
    error_description: str


class Ended(msgspec.Struct, rename="camel"):
    """A session that ended."""

    sid: str
    ended_at: datetime


class Revocations(msgspec.Struct, rename="camel"):
    """Sessions that ended since the request's cursor; ask again with this `cursor`, at once if there are `more`."""

    items: list[Ended]
    cursor: str
    more: bool


class _Problem(Exception):  # noqa: N818 -- an answer, not a fault
    def __init__(self, status: int, error: str, description: str) -> None:
        super().__init__(error)
        self.status, self.body = status, OAuthError(error, description)


@bp.get("/.well-known/jwks.json")
def jwks() -> Response:
    """Publish the public keys of access tokens; others may keep them for as long as a new key waits."""
    public = KeySet([dict(jwk) for jwk in keys.public_set(datetime.now(UTC))])
    response = Response(msgspec.json.encode(public), mimetype="application/jwk-set+json")
    response.headers["Cache-Control"] = f"public, max-age={config.current().jwks_lifetime}"
    return response


@bp.get("/.well-known/oauth-authorization-server")
def metadata() -> Response:
    """Say what there is and where."""
    settings = config.current()
    issuer = settings.issuer
    document = Metadata(issuer, f"{issuer}/.well-known/jwks.json", f"{issuer}/api/introspect", f"{issuer}/api/revoke")
    response = incoming.reply(document)
    response.headers["Cache-Control"] = f"public, max-age={settings.jwks_lifetime}"
    return response


def for_clients(view: Callable[_Parameters, Response]) -> Callable[_Parameters, Response]:
    """Let `view` answer only clients that prove who they are by HTTP Basic (RFC 6749, 2.3.1)."""

    @wraps(view)
    def guarded(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> Response:
        try:
            _authenticate()
            return view(*args, **kwargs)
        except _Problem as problem:
            response = incoming.reply(problem.body)
            response.status_code = problem.status
            if problem.status == 401:  # noqa: PLR2004 -- Unauthorized
                response.headers["WWW-Authenticate"] = f'Basic realm="{config.current().audience}"'
            return response

    return guarded


@bp.post("/api/introspect")
@for_clients
def introspect() -> Response:
    """Tell what a token is worth at this very moment (RFC 7662); of dead ones, only that they are dead."""
    now = datetime.now(UTC)
    claims = tokens.try_read(_token(), now)
    if claims is None or not sessions.honours(claims, now):
        return incoming.reply(_Inactive())
    shown = {name: value for name, value in claims.items() if name not in {"gen", "fresh", "type"}}
    body = {"active": True, "token_type": "Bearer" if claims["type"] == "access" else "refresh_token", **shown}
    return Response(msgspec.json.encode(body), mimetype="application/json")


@bp.post("/api/revoke")
@for_clients
def revoke() -> Response:
    """End the session of a token of either kind (RFC 7009); the answer does not tell whether there was one."""
    now = datetime.now(UTC)
    claims = tokens.try_read(_token(), now, allow_expired=True)
    if claims is not None:
        sessions.end(claims["sid"], "revoked_by_client", now)
    return incoming.reply(_Nothing())


@bp.get("/api/verify")
def verify() -> Response:
    """Tell a proxy whether to let a request pass, and whose it is; the name is percent-encoded."""
    claims = tokens.require_access()
    response = incoming.no_content()
    response.headers["X-Auth-User"] = quote(claims.username, safe="")
    response.headers["X-Auth-Subject"] = claims.sub
    response.headers["X-Auth-Session"] = claims.sid
    return response


@bp.get("/api/revocations")
@for_clients
def revocations() -> Response:
    """List the sessions that ended lately, for services that check access tokens by themselves."""
    since = request.args.get("since")
    try:
        ended, cursor, more = sessions.ended_since(since, datetime.now(UTC))
    except ValueError:
        raise _Problem(400, "invalid_request", "The cursor is not one of ours.") from None
    return incoming.reply(Revocations([Ended(sid, at) for sid, at in ended], cursor, more))


class _Inactive(msgspec.Struct):
    active: bool = False


class _Nothing(msgspec.Struct):
    pass


def _authenticate() -> None:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    try:
        client_id, colon, secret = base64.b64decode(given.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        client_id = colon = secret = ""
    plain = incoming.is_id(client_id) and incoming.is_id(secret)
    if scheme.lower() != "basic" or not colon or not plain or not clients.authenticate(client_id, secret):
        raise _Problem(401, "invalid_client", "Client credentials are required.")


def _token() -> str:
    """Return the form's one ``token``."""
    if request.mimetype != _FORM:
        raise _Problem(400, "invalid_request", f"The body must be {_FORM}.")
    try:
        given = request.form.getlist("token")
    except OSError:
        given = []
    if len(given) != 1 or not given[0]:
        raise _Problem(400, "invalid_request", "Exactly one token is required.")
    return given[0]
