"""For other services: our public keys, what we offer, and what a token is worth at this moment."""

import base64
from collections.abc import Callable
from datetime import UTC, datetime
from functools import wraps
from typing import Annotated, Final, Literal, ParamSpec
from urllib.parse import quote

import msgspec
from flask import Blueprint, Response, g, request

from tokenapp import clients, config, errors, incoming, keys, openapi, sessions, tokens

bp = Blueprint("wellknown", __name__)

CURSOR: Final = {"type": "string", "pattern": "^[0-9]{1,16}~[A-Za-z0-9_-]{0,64}$"}
_CREDENTIALS_IN_BODY: Final = {"client_secret", "client_assertion"}
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


class TokenForm(msgspec.Struct):
    """Names a token of either kind; other parameters, `token_type_hint` among them, make no difference."""

    token: Annotated[str, msgspec.Meta(min_length=1, description="An access token or a refresh token.")]


class Introspection(msgspec.Struct, omit_defaults=True):
    """What a token is worth; of one that is worth nothing there is only `active`."""

    active: bool
    token_type: Literal["Bearer", "refresh_token"] | msgspec.UnsetType = msgspec.UNSET
    iss: str | msgspec.UnsetType = msgspec.UNSET
    sub: str | msgspec.UnsetType = msgspec.UNSET
    aud: str | msgspec.UnsetType = msgspec.UNSET
    exp: int | msgspec.UnsetType = msgspec.UNSET
    iat: int | msgspec.UnsetType = msgspec.UNSET
    jti: str | msgspec.UnsetType = msgspec.UNSET
    sid: str | msgspec.UnsetType = msgspec.UNSET
    auth_time: int | msgspec.UnsetType = msgspec.UNSET
    username: str | msgspec.UnsetType = msgspec.UNSET


class Ended(msgspec.Struct, rename="camel"):
    """A session that ended."""

    sid: str
    ended_at: datetime


class Revocations(msgspec.Struct, rename="camel"):
    """Sessions that ended since the request's cursor; ask again with this `cursor`, at once if there are `more`."""

    items: list[Ended]
    cursor: str
    more: bool


class Nothing(msgspec.Struct):
    """It is done; whether there was anything to do is not told."""


@bp.get("/.well-known/jwks.json")
@openapi.Operation(
    reply=KeySet, media_type="application/jwk-set+json", cache="kept", refuses=(errors.ServiceUnavailable,)
)
def jwks() -> Response:
    """Publish the public keys of access tokens; others may keep them for as long as a new key waits."""
    public = KeySet([dict(jwk) for jwk in keys.public_set(datetime.now(UTC))])
    return _kept(Response(msgspec.json.encode(public), mimetype="application/jwk-set+json"))


@bp.get("/.well-known/oauth-authorization-server")
@openapi.Operation(reply=Metadata, cache="kept")
def metadata() -> Response:
    """Say what there is and where."""
    issuer = config.current().issuer
    document = Metadata(issuer, f"{issuer}/.well-known/jwks.json", f"{issuer}/api/introspect", f"{issuer}/api/revoke")
    return _kept(incoming.reply(document))


def for_clients(view: Callable[_Parameters, Response]) -> Callable[_Parameters, Response]:
    """Let `view` answer only clients that prove who they are by HTTP Basic; its errors are those of RFC 6749, 5.2."""

    @wraps(view)
    def guarded(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> Response:
        try:
            _authenticate()
            return view(*args, **kwargs)
        except (errors.InvalidClient, errors.InvalidRequest) as refusal:
            g.refusal = refusal  # for the request's log line
            response = incoming.reply(openapi.OAuthError(refusal.code, refusal.detail))
            response.status_code = refusal.status
            response.headers.extend(refusal.headers)
            return response

    return guarded


@bp.post("/api/introspect")
@openapi.Operation(form=TokenForm, reply=Introspection, credential="client")
@for_clients
def introspect() -> Response:
    """Tell what a token is worth at this very moment (RFC 7662); of dead ones, only that they are dead."""
    token, now = _token(), datetime.now(UTC)
    keys.load(now)  # a key may have been dropped a moment ago, by another process
    claims = tokens.try_read(token, now)
    if claims is None or not sessions.honours(claims, now):
        return incoming.reply(Introspection(active=False))
    kind = "Bearer" if claims["type"] == "access" else "refresh_token"
    known = {name: value for name, value in claims.items() if name in Introspection.__struct_fields__}
    return incoming.reply(msgspec.convert({**known, "active": True, "token_type": kind}, Introspection))


@bp.post("/api/revoke")
@openapi.Operation(form=TokenForm, reply=Nothing, credential="client")
@for_clients
def revoke() -> Response:
    """End the session of a token of either kind (RFC 7009); the answer does not tell whether there was one."""
    token, now = _token(), datetime.now(UTC)
    claims = tokens.try_read(token, now, allow_expired=True)
    if claims is not None:
        sessions.end(claims["sid"], "revoked_by_client", now)
        g.sid = claims["sid"]
    return incoming.reply(Nothing())


@bp.get("/api/verify")
@openapi.Operation(credential="bearer, for a proxy", headers=("X-Auth-User", "X-Auth-Subject", "X-Auth-Session"))
def verify() -> Response:
    """Tell a proxy whether to let a request pass, and whose it is; the name is percent-encoded.

    Proxies know three answers: pass, 401 and 403. So whatever is wrong with a credential is one of these.
    """
    try:
        claims = tokens.require_access()
    except errors.InvalidRequest as refusal:
        raise errors.AccessTokenInvalid(reason=refusal.reason) from None
    response = incoming.no_content()
    response.headers["X-Auth-User"] = quote(claims.username, safe="")
    response.headers["X-Auth-Subject"] = claims.sub
    response.headers["X-Auth-Session"] = claims.sid
    return response


@bp.get("/api/revocations")
@openapi.Operation(reply=Revocations, credential="client", parameters={"since": CURSOR})
@for_clients
def revocations() -> Response:
    """List the sessions that ended lately, for services that check access tokens by themselves."""
    try:
        ended, cursor, more = sessions.ended_since(request.args.get("since"), datetime.now(UTC))
    except ValueError:
        raise errors.InvalidRequest(detail="The cursor is not one of ours.") from None
    return incoming.reply(Revocations([Ended(sid, at) for sid, at in ended], cursor, more))


def _kept(response: Response) -> Response:
    response.headers["Cache-Control"] = f"public, max-age={config.current().jwks_lifetime}"
    return response


def _authenticate() -> None:
    """Check the client's credentials (RFC 6749, 2.3.1; RFC 7617).

    Raises:
        errors.InvalidClient
    """
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    try:
        client_id, _, secret = base64.b64decode(given.strip(" "), validate=True).decode().partition(":")
    except ValueError:
        client_id = secret = ""
    plain = incoming.is_id(client_id) and incoming.is_id(secret)
    if scheme.lower() != "basic" or not plain or not clients.authenticate(client_id, secret):
        raise errors.InvalidClient(headers={"WWW-Authenticate": f'Basic realm="{config.current().audience}"'})


def _token() -> str:
    """Return the form's ``token``.

    Raises:
        errors.InvalidRequest
    """
    form = incoming.read_form()
    if _CREDENTIALS_IN_BODY & form.keys():
        raise errors.InvalidRequest(reason="two credentials", detail="Only one credential is allowed.")
    if "token" not in form:
        raise errors.InvalidRequest(detail="The parameter token is missing.")
    return form["token"]
