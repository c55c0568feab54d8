"""The oauth blueprint: routes for other services.

These are the metadata, the key set, introspection, revocation and the revocation feed.
"""

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
from flask import Blueprint, Response, g, request

from tokenapp import access_keys, config, errors, keys, sessions, tokens
from tokenapp.http import requests
from tokenapp.http.endpoint import endpoint
from tokenapp.http.rate_limit import client_network

bp = Blueprint("oauth", __name__)


class Metadata(msgspec.Struct):
    """The server's metadata (RFC 8414, with the lifetime of access tokens)."""

    issuer: str
    jwks_uri: str
    introspection_endpoint: str
    revocation_endpoint: str
    tokenapp_access_token_lifetime: Annotated[
        int, msgspec.Meta(ge=1, description="The longest lifetime of an access token, in seconds.")
    ]
    acr_values_supported: tuple[str, ...] = ("1", "2")
    response_types_supported: tuple[str, ...] = ()
    grant_types_supported: tuple[str, ...] = ()
    introspection_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)
    revocation_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)


class KeySet(msgspec.Struct):
    """Public keys (RFC 7517, 5)."""

    keys: list[dict[str, str]]


class TokenForm(msgspec.Struct):
    """A token; other parameters, such as `token_type_hint`, are ignored."""

    token: Annotated[str, msgspec.Meta(min_length=1, description="An access token, a refresh token or an access key.")]


class FeedQuery(msgspec.Struct):
    """Where the page starts."""

    since: (
        Annotated[
            str,
            msgspec.Meta(
                pattern="^[0-9]{1,16}~[A-Za-z0-9_-]{0,64}$(?!\\n)", description="The `cursor` of the previous page."
            ),
        ]
        | msgspec.UnsetType
    ) = msgspec.UNSET


class Introspection(msgspec.Struct, omit_defaults=True):
    """The state of a token; for an inactive one there is only `active`."""

    active: bool
    token_type: Literal["Bearer"] | msgspec.UnsetType = msgspec.UNSET
    iss: str | msgspec.UnsetType = msgspec.UNSET
    sub: str | msgspec.UnsetType = msgspec.UNSET
    aud: str | msgspec.UnsetType = msgspec.UNSET
    exp: int | msgspec.UnsetType = msgspec.UNSET
    iat: int | msgspec.UnsetType = msgspec.UNSET
    jti: str | msgspec.UnsetType = msgspec.UNSET
    sid: str | msgspec.UnsetType = msgspec.UNSET
    auth_time: int | msgspec.UnsetType = msgspec.UNSET
    username: str | msgspec.UnsetType = msgspec.UNSET
    amr: list[str] | msgspec.UnsetType = msgspec.UNSET
    acr: str | msgspec.UnsetType = msgspec.UNSET
    roles: list[str] | msgspec.UnsetType = msgspec.UNSET
    scope: str | msgspec.UnsetType = msgspec.UNSET


class RevokedSession(msgspec.Struct, rename="camel"):
    """The id of a revoked session, access key or set of roles."""

    sid: str
    ended_at: datetime


class Revocations(msgspec.Struct, rename="camel"):
    """What was revoked since the cursor of the request.

    Continue from `cursor`, at once if there are `more`.
    """

    items: list[RevokedSession]
    cursor: str
    more: bool


class Empty(msgspec.Struct):
    """An empty object."""


@bp.get("/.well-known/jwks.json")
@endpoint(response=KeySet, media_type="application/jwk-set+json", cache="key set", errors=(errors.ServiceUnavailable,))
def jwks() -> Response:
    """Return the public keys of access tokens.

    A new key is published for the lifetime of this response before it becomes active.
    """
    public = KeySet([dict(jwk) for jwk in keys.public_set(datetime.now(UTC))])
    return _cacheable(requests.json_response(public, "application/jwk-set+json"))


@bp.get("/.well-known/oauth-authorization-server")
@endpoint(response=Metadata, cache="key set")
def metadata() -> Response:
    """Return the server's metadata (RFC 8414)."""
    settings = config.current()
    issuer = settings.issuer
    document = Metadata(
        issuer,
        f"{issuer}/.well-known/jwks.json",
        f"{issuer}/api/introspect",
        f"{issuer}/api/revoke",
        settings.access_lifetime,
    )
    return _cacheable(requests.json_response(document))


@bp.post("/api/introspect")
@endpoint(form=TokenForm, response=Introspection, credential="client", right="introspect")
def introspect(form: TokenForm, now: datetime) -> Response:
    """Return the current state of an access token or an access key (RFC 7662).

    Refresh tokens are inactive: no other service has a use for them.
    """
    if form.token.startswith(access_keys.PREFIX):
        return _introspect_key(form.token, now)
    keys.load(now)  # another process may just have dropped a key
    claims = tokens.try_read(form.token, now)
    if claims is None or claims["type"] != "access" or not _is_active(claims, now):
        return requests.json_response(Introspection(active=False))
    stated = {name: claims[name] for name in Introspection.__struct_fields__ if name in claims}
    return requests.json_response(Introspection(active=True, token_type="Bearer", **stated))  # noqa: S106 -- no password


@bp.post("/api/revoke")
@endpoint(form=TokenForm, response=Empty, credential="client or key", right="revoke")
def revoke(form: TokenForm, now: datetime) -> Response:
    """Revoke the session of a token, or an access key (RFC 7009).

    A request with an access key needs no other credentials: a program that has the key may revoke it. The response does
    not reveal whether there was a session or a key.
    """
    is_key = access_keys.is_well_formed(form.token)
    by_client = "Authorization" in request.headers
    if not is_key and not by_client:
        raise errors.InvalidClient
    if is_key:
        if by_client:
            _revoke_key(form.token, None, "revoked_by_client", now)
        else:
            _revoke_key(form.token, client_network(), "revoked_by_holder", now)
        return requests.json_response(Empty())
    claims = tokens.try_read(form.token, now, allow_expired=True)
    if claims is not None:
        if _is_of_key(claims):
            access_keys.revoke(claims["sid"], "revoked_by_client", now)
        else:
            sessions.revoke(claims["sid"], "revoked_by_client", now)
        g.state.sid = claims["sid"]
    return requests.json_response(Empty())


@bp.get("/api/revocations")
@endpoint(response=Revocations, query=FeedQuery, credential="client", right="feed")
def revocations(query: FeedQuery) -> Response:
    """List the ids of recently revoked sessions, access keys and sets of roles."""
    revoked, cursor, more = sessions.revoked_since(query.since or None)
    return requests.json_response(Revocations([RevokedSession(sid, at) for sid, at in revoked], cursor, more))


def _is_active(claims: Mapping[str, Any], now: datetime) -> bool:
    if _is_of_key(claims):
        return access_keys.is_active(claims["sid"], claims.get("roles_id", ""), now)
    return sessions.is_active(claims["sid"], now, claims.get("roles_id", ""))


def _is_of_key(claims: Mapping[str, Any]) -> bool:
    return bool(claims.get("amr") == [access_keys.METHOD])


def _introspect_key(key: str, now: datetime) -> Response:
    try:
        holder = access_keys.look_up(key, None, now)
    except errors.AccessKeyInvalid:
        return requests.json_response(Introspection(active=False))
    state = Introspection(
        active=True,
        token_type="Bearer",  # noqa: S106 -- no password
        iss=config.current().issuer,
        sub=holder.user_id,
        exp=int(holder.expires_at.timestamp()),
        iat=int(holder.created_at.timestamp()),
        sid=holder.key_id,
        username=holder.username,
        amr=[access_keys.METHOD],
    )
    if holder.roles:
        state.roles = [*holder.roles]
    if holder.scopes:
        state.scope = " ".join(holder.scopes)
    return requests.json_response(state)


def _revoke_key(key: str, client: str | None, reason: access_keys.Reason, now: datetime) -> None:
    with suppress(errors.AccessKeyInvalid):
        holder = access_keys.look_up(key, client, now)
        access_keys.revoke(holder.key_id, reason, now)
        g.state.sid = holder.key_id


def _cacheable(response: Response) -> Response:
    response.headers["Cache-Control"] = f"public, max-age={config.current().jwks_lifetime}"
    return response
