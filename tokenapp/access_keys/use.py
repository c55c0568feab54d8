"""Verify the access key of a request, and store when it was last used."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import msgspec
import sqlalchemy as sa

from tokenapp import db, errors
from tokenapp.access_keys import formats
from tokenapp.db import last_use
from tokenapp.models import AccessKey, User
from tokenapp.sessions import revocation_list
from tokenapp.throttle import unknown_keys

METHOD: Final = "key"  # in `amr`
_VERIFIED_MAX: Final = 4096
_READ: Final = (
    sa.select(
        AccessKey.id,
        AccessKey.user_id,
        AccessKey.scopes,
        AccessKey.created_at,
        AccessKey.expires_at,
        AccessKey.last_used_at,
        AccessKey.revoked_reason,
        User.username,
        User.roles,
        User.roles_id,
        User.disabled_at,
    )
    .join(User, User.id == AccessKey.user_id)
    .where(AccessKey.digest == sa.bindparam("digest"))
)


class Holder(msgspec.Struct, frozen=True):
    """The key that a request presents, and its user.

    `ended` is why the key was revoked, or None.
    """

    key_id: str
    user_id: str
    username: str
    scopes: tuple[str, ...]
    roles: tuple[str, ...]
    roles_id: str
    created_at: datetime
    expires_at: datetime
    ended: str | None


@dataclass
class _Verified:
    """One process's keys that were read in the current minute, by digest."""

    holders: dict[str, tuple[int, Holder]] = field(default_factory=dict)


def look_up(text: str, client: str | None, now: datetime) -> Holder:
    """Return the holder of a key as stored now, and note the use.

    A malformed or mistyped key costs no statement.

    Args:
        client: the network of the client, whose unknown keys are limited; None for no limit.

    Raises:
        errors.AccessKeyInvalid
        errors.TooManyAttempts: the client presented too many unknown keys in this minute.
    """
    return _usable(_read(text, client, now), now)


def verify(text: str, client: str | None, now: datetime) -> Holder:
    """Return the holder of a key, which is read once a minute in each process.

    In between, the revocation list shows if the key was revoked, or a role of its user removed.

    Raises:
        errors.AccessKeyInvalid, errors.TooManyAttempts
    """
    verified = db.per_process(_Verified).holders
    digest, minute = formats.digest(text), int(now.timestamp()) // 60
    read_in, holder = verified.get(digest, (None, None))
    if holder is not None and read_in == minute:
        if revocation_list.is_revoked(holder.key_id, now):
            raise errors.AccessKeyInvalid(reason="access key revoked", sid=holder.key_id)
        if not revocation_list.is_revoked(holder.roles_id, now):
            return _usable(holder, now)
    holder = _read(text, client, now)
    if len(verified) >= _VERIFIED_MAX:
        verified.clear()
    verified[digest] = minute, holder
    return _usable(holder, now)


def is_active(key_id: str, roles_id: str, now: datetime) -> bool:
    """Return whether a key is live, and its user still has this set of roles."""
    mine = sa.select(User.roles_id).join(AccessKey, AccessKey.user_id == User.id)
    mine = mine.where(AccessKey.id == key_id, AccessKey.revoked_at.is_(None), AccessKey.expires_at > now)
    rows = db.execute_now(mine.where(User.disabled_at.is_(None)))
    return bool(rows) and roles_id in {"", rows[0].roles_id}


def _read(text: str, client: str | None, now: datetime) -> Holder:
    if not formats.is_well_formed(text):
        raise errors.AccessKeyInvalid(reason="malformed access key")
    if client is not None:
        unknown_keys.check(client, now)
    rows = db.execute_now(_READ, {"digest": formats.digest(text)})
    if not rows:
        if client is not None:
            unknown_keys.count(client, now)
        raise errors.AccessKeyInvalid(reason="unknown access key")
    row = rows[0]
    ended = row.revoked_reason or ("user_disabled" if row.disabled_at is not None else None)
    if ended is None and now < row.expires_at:
        last_use.note(AccessKey, row, now)
    return Holder(
        row.id,
        row.user_id,
        row.username,
        tuple(row.scopes.split()),
        tuple(row.roles.split()),
        row.roles_id,
        row.created_at,
        row.expires_at,
        ended,
    )


def _usable(holder: Holder, now: datetime) -> Holder:
    if holder.ended is not None:
        raise errors.AccessKeyInvalid(reason=f"access key revoked: {holder.ended}", sid=holder.key_id)
    if now >= holder.expires_at:
        raise errors.AccessKeyInvalid(reason="access key expired", sid=holder.key_id)
    return holder
