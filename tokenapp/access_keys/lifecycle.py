"""Access keys from creation to deletion, each change with an audit event."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, Literal, NamedTuple

import sqlalchemy as sa
from sqlalchemy import orm

from tokenapp import audit, config, db, errors
from tokenapp.access_keys import formats
from tokenapp.models import AccessKey, User
from tokenapp.sessions import authorize, revoked_ids

MAX_KEYS: Final = 50
MAX_NEW: Final = 100  # in an hour: revoked keys are stored until they are pruned
_HOUR: Final = timedelta(hours=1)
LIFETIME: Final = timedelta(days=90)
LONGEST: Final = timedelta(days=365)
NOTICE: Final = timedelta(days=7)
_LISTED: Final = 200
Reason = Literal[
    "revoked_by_user",
    "revoked_by_holder",
    "revoked_by_client",
    "operator",
    "password_reset",
    "password_changed",
    "address_change_undone",
    "user_disabled",
    "user_deleted",
]
# Each reason completes the sentence "The access key was revoked because …".
REASONS: Final[Mapping[str, str]] = {
    "revoked_by_user": "its owner revoked it",
    "revoked_by_holder": "a program that had the key revoked it",
    "revoked_by_client": "another service revoked it",
    "operator": "an operator revoked it",
    "password_reset": "a new password was set by a link that was mailed to its owner",
    "password_changed": "an operator set a new password for its owner",
    "address_change_undone": "a change of its owner's e-mail address was undone from the previous address",
    "user_disabled": "its owner was disabled",
    "user_deleted": "its owner was deleted",
}


class NewKey(NamedTuple):
    """The key that a user wants to create."""

    name: str
    scopes: Sequence[str]
    lifetime: timedelta


@db.retried
def create(user_id: str, sid: str, new: NewKey, now: datetime) -> tuple[AccessKey, str]:
    """Create a key for a user who is signed in, and return it with its text.

    The text is not stored.

    Raises:
        errors.AccessTokenInvalid: the session was revoked or has expired, or the user was disabled.
        errors.ReauthenticationRequired: the session has a lower level than the account.
        errors.TooManyAccessKeys
        errors.TooManyAttempts: the user created too many keys within an hour.
    """
    text = formats.generate()
    created_at = now.replace(microsecond=0)  # so that the key ends with a whole second, like the tokens for it
    key = AccessKey(
        id=db.new_id(now),
        user_id=user_id,
        digest=formats.digest(text),
        name=new.name,
        scopes=" ".join(sorted(set(new.scopes))),
        created_at=created_at,
        expires_at=created_at + new.lifetime,
        noticed_at=now if new.lifetime <= NOTICE else None,
    )
    with db.writing() as writer:
        authorize(writer, user_id, sid, now)
        _check_number(writer, user_id, now)
        writer.add(key)
        writer.flush()
        audit.record(writer, "access_key_created", now, user_id=user_id, sid=key.id)
    return key, text


def get(key_id: str) -> AccessKey | None:
    """Return the key with that id, live or not."""
    with db.reading() as session:
        return session.get(AccessKey, key_id)


def list_own(user_id: str) -> Sequence[AccessKey]:
    """Return the keys of a user that are not revoked, newest first."""
    own = sa.select(AccessKey).where(AccessKey.user_id == user_id, AccessKey.revoked_at.is_(None))
    with db.reading() as session:
        return session.scalars(own.order_by(AccessKey.id.desc()).limit(_LISTED)).all()


def latest_of(user_id: str, limit: int) -> Sequence[AccessKey]:
    """Return the latest keys of a user, newest first, live or not."""
    own = sa.select(AccessKey).where(AccessKey.user_id == user_id).order_by(AccessKey.id.desc()).limit(limit)
    with db.reading() as session:
        return session.scalars(own).all()


def list_keys(
    now: datetime,
    *,
    user_id: str | None = None,
    search: str = "",
    live: bool = True,
    after: str = "",
    limit: int = 1000,
) -> Sequence[tuple[AccessKey, str | None]]:
    """Return one page of keys and the names of their owners, oldest first.

    Args:
        search: a part of the name of the key or of its owner.
    """
    name = sa.case((User.deleted_at.is_(None), User.username), else_=None)
    page = sa.select(AccessKey, name).join(User, User.id == AccessKey.user_id).where(AccessKey.id > after)
    if user_id is not None:
        page = page.where(AccessKey.user_id == user_id)
    if search:
        searched = (AccessKey.name, User.username)
        page = page.where(sa.or_(*(column.icontains(search, autoescape=True) for column in searched)))
    if live:
        page = page.where(AccessKey.revoked_at.is_(None), AccessKey.expires_at > now)
    with db.reading() as session:
        return [(row[0], row[1]) for row in session.execute(page.order_by(AccessKey.id).limit(limit))]


@db.retried
def revoke(key_id: str, reason: Reason, now: datetime) -> bool:
    """Revoke a key and return whether it was not revoked before."""
    with db.writing() as writer:
        return bool(_revoke_where(writer, AccessKey.id == key_id, reason, now))


@db.retried
def revoke_own(user_id: str, key_id: str, now: datetime) -> None:
    """Revoke a key of a user.

    Raises:
        errors.AccessKeyNotFound: the user has no such key, or it was revoked before.
    """
    with db.writing() as writer:
        own = sa.and_(AccessKey.id == key_id, AccessKey.user_id == user_id)
        if not _revoke_where(writer, own, "revoked_by_user", now):
            raise errors.AccessKeyNotFound


@db.retried
def revoke_all(user_id: str, reason: Reason, now: datetime) -> int:
    """Revoke all keys of a user; return how many."""
    with db.writing() as writer:
        return revoke_all_of(writer, user_id, reason, now)


def revoke_all_of(writer: orm.Session, user_id: str, reason: Reason, now: datetime) -> int:
    """Revoke all keys of a user in a transaction; return how many."""
    return len(_revoke_where(writer, AccessKey.user_id == user_id, reason, now))


def prune(now: datetime, keep: timedelta) -> None:
    """Delete keys that ended more than `keep` ago, and revocations without effect."""
    before = now - max(keep, timedelta(seconds=config.current().access_lifetime + 60))
    ended = sa.or_(AccessKey.revoked_at < before, AccessKey.expires_at < before)
    db.execute_now(sa.delete(AccessKey).where(ended))
    revoked_ids.prune(before)


def _check_number(writer: orm.Session, user_id: str, now: datetime) -> None:
    """Check that a user, whose row is locked, may have and create one more key."""
    live = sa.select(sa.func.count()).select_from(AccessKey)
    live = live.where(AccessKey.user_id == user_id, AccessKey.revoked_at.is_(None), AccessKey.expires_at > now)
    if (writer.scalar(live) or 0) >= MAX_KEYS:
        raise errors.TooManyAccessKeys
    newest = sa.select(AccessKey.created_at).where(AccessKey.user_id == user_id).order_by(AccessKey.id.desc())
    created_at = writer.scalar(newest.offset(MAX_NEW - 1).limit(1))
    if created_at is not None and created_at > now - _HOUR:
        wait = created_at + _HOUR - now
        raise errors.TooManyAttempts(reason="new access keys", retry_after=int(wait.total_seconds()) + 1)


def _revoke_where(writer: orm.Session, which: sa.ColumnElement[bool], reason: Reason, now: datetime) -> Sequence[str]:
    """Revoke matching keys in a transaction; return their ids.

    Their ids go on the revocation list, which rejects the access tokens that they were exchanged for.
    """
    revoked = writer.connection().execute(
        sa.update(AccessKey)
        .where(AccessKey.revoked_at.is_(None), which)
        .values(revoked_at=db.not_before(sa.literal(now, db.Instant())), revoked_reason=reason)
        .returning(AccessKey.id, AccessKey.user_id)
    )
    rows = [
        audit.event("access_key_revoked", now, user_id=user_id, sid=key_id, reason=reason)
        for key_id, user_id in revoked
    ]
    ids = [row["sid"] for row in rows]
    revoked_ids.add(writer, ids, now)
    audit.record_all(writer, rows)
    return ids
