"""Notices: mails about what happened to an account, written with its audit event."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.dialects import postgresql, sqlite

from tokenapp import db
from tokenapp.encryption import keyed_digest, keyed_digests
from tokenapp.mail import limits, outbox, texts
from tokenapp.mail.limits import OverLimitError
from tokenapp.models import AccessKey, KnownDevice, Session, User
from tokenapp.sessions.device_names import describe
from tokenapp.throttle.rate_limit import network_of

KEPT: Final = timedelta(days=365)
REMINDED: Final = timedelta(days=7)
_DEVICES_READ: Final = 1000
_VERSIONS: Final = re.compile(r"[\d._]+")
# The kinds of mail, by kind and reason of the event; None stands for every reason.
_KINDS: Final[Mapping[tuple[str, str | None], str]] = {
    ("password_changed", None): "password_changed",
    ("session_ended", "reuse"): "reuse",
    ("user_locked", None): "locked",
    ("passkey_counter", None): "passkey_counter",
    ("refresh_unproved", None): "refresh_unproved",
    ("sign_in", None): "new_device",
    ("factor_added", None): "factor_added",
    ("factor_removed", None): "factor_removed",
    ("factors_reset", None): "factors_reset",
    ("recovery_codes_created", "replaced"): "recovery_codes",
    ("recovery_code_used", None): "recovery_code_used",
    ("access_key_created", None): "key_created",
    ("access_key_revoked", "revoked_by_user"): "key_revoked",
    ("access_key_revoked", "revoked_by_holder"): "key_revoked",
    ("access_key_revoked", "revoked_by_client"): "key_revoked",
    ("access_key_revoked", "operator"): "key_revoked",
}

# Names that are the same in all languages.
_FACTORS: Final[Mapping[str | None, str]] = {"totp": "TOTP", "passkey": "passkey"}


def write(writer: orm.Session, events: Sequence[Mapping[str, Any]]) -> None:
    """Add the notices about `events` to their transaction.

    Only a verified address gets notices.
    """
    for event in events:
        kind = _KINDS.get((event["kind"], event["reason"])) or _KINDS.get((event["kind"], None))
        if kind is None or event["user_id"] is None:
            continue
        user = writer.get(User, event["user_id"])
        if user is None or user.email is None or user.email_verified_at is None:
            continue
        device = ""
        if kind == "new_device":
            writer.flush()
            session = writer.get(Session, event["sid"])
            if session is None or not _is_new(writer, session, event["at"]):
                continue
            device = describe(session.user_agent)
        if kind.startswith("key_"):
            key = writer.get(AccessKey, event["sid"])
            device = key.name if key is not None else "?"
        with suppress(OverLimitError):
            limits.count_notice(writer, user.id, kind, event["at"])
            values = {"name": user.username, "when": texts.moment(event["at"]), "device": device}
            values["factor"] = _FACTORS.get(event["reason"], "")
            values["address"] = event["ip_address"] or "?"
            content = texts.render(kind, user.email, texts.language_of(user.locale), **values)
            outbox.enqueue(writer, kind, content, event["at"], user_id=user.id)


@db.retried
def remind(now: datetime) -> int:
    """Mail the owners of access keys that expire within a week; return how many.

    Each key has one reminder, which one conditional statement decides for all processes.
    """
    due = sa.and_(AccessKey.noticed_at.is_(None), AccessKey.revoked_at.is_(None), AccessKey.expires_at < now + REMINDED)
    if not db.execute_now(sa.select(AccessKey.id).where(due).limit(1)):
        return 0
    with db.writing() as writer:
        claim = sa.update(AccessKey).where(due).values(noticed_at=now).returning(AccessKey)
        keys = writer.scalars(claim, execution_options={"synchronize_session": False}).all()
        for key in keys:
            user = writer.get(User, key.user_id)
            if key.expires_at > now and user is not None and user.email and user.email_verified_at is not None:
                values = {"name": user.username, "device": key.name, "when": texts.moment(key.expires_at)}
                content = texts.render("key_expires", user.email, texts.language_of(user.locale), **values)
                outbox.enqueue(writer, "key_expires", content, now, expires_at=key.expires_at, user_id=user.id)
        return len(keys)


def prune(now: datetime) -> int:
    """Delete known devices of a year ago; return how many."""
    old = sa.delete(KnownDevice).where(KnownDevice.created_at < now - KEPT).returning(KnownDevice.digest)
    return len(db.execute_now(old))


def _is_new(writer: orm.Session, session: Session, now: datetime) -> bool:
    """Return whether the browser or the network of a sign-in is new for its user.

    The first sign-in of a user is not: there is nothing to compare it with.
    """
    browser = _VERSIONS.sub("", session.user_agent or "")
    network = network_of(session.ip_address or "")
    parts = [f"device {session.user_id} {part}" for part in (f"browser {browser}", f"network {network}")]
    mine = sa.select(KnownDevice.digest).where(KnownDevice.user_id == session.user_id).limit(_DEVICES_READ)
    known = set(writer.scalars(mine))
    missing = {keyed_digest(part) for part in parts} - known
    if not missing:
        return False
    insert: Any = postgresql.insert if db.current().engine.dialect.name == "postgresql" else sqlite.insert
    rows: list[dict[str, Any]] = [
        {"user_id": session.user_id, "digest": digest, "created_at": now} for digest in sorted(missing)
    ]
    writer.execute(insert(KnownDevice).values(rows).on_conflict_do_nothing())
    return bool(known) and any(known.isdisjoint(keyed_digests(part)) for part in parts)
