"""The access keys blueprint: create, list and revoke one's own access keys."""

from datetime import datetime, timedelta
from typing import Annotated

import msgspec
from flask import Blueprint, Response

from tokenapp import access_keys, errors
from tokenapp.api.labels import label
from tokenapp.http import requests
from tokenapp.http.endpoint import PathId, endpoint
from tokenapp.http.principal import Principal
from tokenapp.models import AccessKey

bp = Blueprint("access_keys", __name__, url_prefix="/api/me/access-keys")
Scope = Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}$(?!\\n)", examples=["orders:read"])]


class NewAccessKey(msgspec.Struct, rename="camel"):
    """The key to create. It may do what its owner may, as far as `scopes` allow."""

    name: Annotated[str, label("What it is for.", "nightly build")]
    scopes: Annotated[list[Scope], msgspec.Meta(max_length=20)] = []
    expires_in: Annotated[
        int,
        msgspec.Meta(
            ge=60, le=int(access_keys.LONGEST.total_seconds()), description="Its lifetime in seconds, at most a year."
        ),
    ] = int(access_keys.LIFETIME.total_seconds())


class AccessKeyInfo(msgspec.Struct, rename="camel"):
    """An access key without its text. `lastUsedAt` is to the minute."""

    id: str
    name: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None


class CreatedAccessKey(AccessKeyInfo):
    """A new access key with its text, which is shown only once."""

    key: str


class AccessKeys(msgspec.Struct):
    """The access keys of the account, newest first."""

    items: list[AccessKeyInfo]


@bp.post("")
@endpoint(
    body=NewAccessKey,
    response=CreatedAccessKey,
    credential="fresh bearer, account's level",
    errors=(errors.TooManyAccessKeys, errors.TooManyAttempts),
)
def create_access_key(body: NewAccessKey, principal: Principal, now: datetime) -> Response:
    """Create an access key for scripts.

    Its text is in this response only. `POST /api/token` exchanges it for access tokens.
    """
    new = access_keys.NewKey(body.name, body.scopes, timedelta(seconds=body.expires_in))
    key, text = access_keys.create(principal.user_id, principal.sid, new, now)
    return requests.json_response(CreatedAccessKey(**msgspec.structs.asdict(_info(key)), key=text))


@bp.get("")
@endpoint(response=AccessKeys, credential="bearer")
def list_access_keys(principal: Principal) -> Response:
    """List the access keys of the account that are not revoked."""
    return requests.json_response(AccessKeys([_info(key) for key in access_keys.list_own(principal.user_id)]))


@bp.delete("/<key_id>")
@endpoint(credential="bearer", path={"key_id": PathId(errors.AccessKeyNotFound)})
def revoke_access_key(key_id: str, principal: Principal, now: datetime) -> Response:
    """Revoke an access key, and the access tokens that it was exchanged for."""
    access_keys.revoke_own(principal.user_id, key_id, now)
    return requests.no_content()


def _info(key: AccessKey) -> AccessKeyInfo:
    return AccessKeyInfo(key.id, key.name, key.scopes.split(), key.created_at, key.expires_at, key.last_used_at)
