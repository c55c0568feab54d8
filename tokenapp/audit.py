"""The audit log: events, each written in the transaction that it describes."""

from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic
from typing import Any, Final, Literal, TypedDict, Unpack

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.dialects import postgresql, sqlite

from tokenapp import db
from tokenapp.encryption import keyed_digest
from tokenapp.models import AuditEvent

Kind = Literal[
    "user_created",
    "user_disabled",
    "user_enabled",
    "user_unlocked",
    "user_locked",
    "user_invited",
    "address_changed",
    "address_change_undone",
    "user_renamed",
    "user_deleted",
    "role_added",
    "role_removed",
    "password_changed",
    "factor_added",
    "factor_removed",
    "factors_reset",
    "factor_failed",
    "recovery_codes_created",
    "recovery_code_used",
    "sign_in",
    "sign_in_failed",
    "reauthenticated",
    "refresh_ahead",
    "refresh_elsewhere",
    "refresh_unproved",
    "session_bound",
    "passkey_counter",
    "session_ended",
    "access_key_created",
    "access_key_revoked",
    "key_created",
    "key_retired",
    "client_created",
    "client_secret_rotated",
    "client_deleted",
    "client_failed",
    "events_pruned",
]
PRUNE_BATCH: Final = 25
MAX_REASON: Final = 64  # of its column; PostgreSQL rejects longer texts
UNKNOWN_KEPT: Final = timedelta(days=30)


class Filter(TypedDict, total=False):
    """Which events are listed: those with all of these.

    `search` is a part of the reason, address, request id or operator.
    """

    user_id: str | None
    sid: str | None
    kind: str | None
    search: str | None


@dataclass(frozen=True, slots=True)
class Actor:
    """Who caused an event: a request, or an operator's command."""

    kind: Literal["request", "operator"] = "operator"
    request_id: str | None = None
    ip_address: str | None = None
    operator: str | None = None


# Called with the events of a transaction, to write what follows from them; None without mail.
observer: Final[ContextVar[Callable[[orm.Session, Sequence[dict[str, Any]]], None] | None]] = ContextVar(
    "observer", default=None
)
# The function that returns the current actor. It is called only when an event is written.
actor: Final[ContextVar[Callable[[], Actor]]] = ContextVar("actor", default=Actor)


def record(
    writer: orm.Session,
    kind: Kind,
    now: datetime,
    *,
    user_id: str | None = None,
    sid: str | None = None,
    reason: str | None = None,
) -> None:
    """Add one event to the transaction of `writer`."""
    record_all(writer, [event(kind, now, user_id=user_id, sid=sid, reason=reason)])


@db.retried
def record_alone(
    kind: Kind, now: datetime, *, user_id: str | None = None, sid: str | None = None, reason: str | None = None
) -> None:
    """Record an event that changed nothing else, in a transaction of its own."""
    with db.writing() as writer:
        record(writer, kind, now, user_id=user_id, sid=sid, reason=reason)


@db.retried
def count(
    kind: Kind,
    now: datetime,
    *,
    about: str,
    user_id: str | None = None,
    sid: str | None = None,
    reason: str | None = None,
) -> None:
    """Record a repeated event once per hour and subject, with a count.

    So repeated requests do not make the log grow.

    Args:
        about: names the subject, such as an account. It is not stored.
    """
    row = event(kind, now, user_id=user_id, sid=sid, reason=reason)
    hour = now.replace(minute=0, second=0, microsecond=0)
    row["id"] = db.first_id(hour) + keyed_digest(f"{kind} {about}")[:22]
    insert: Any = postgresql.insert if db.current().engine.dialect.name == "postgresql" else sqlite.insert
    repeated = {
        "count": AuditEvent.count + 1,
        "at": now,
        "request_id": row["request_id"],
        "ip_address": row["ip_address"],
    }
    statement = insert(AuditEvent).values(row).on_conflict_do_update(index_elements=[AuditEvent.id], set_=repeated)
    observe = observer.get()
    if observe is None:
        db.execute_now(statement)
        return
    with db.writing() as writer:
        if writer.connection().execute(statement.returning(AuditEvent.count)).scalar() == 1:
            observe(writer, [row])


def record_all(writer: orm.Session, rows: list[dict[str, Any]]) -> None:
    """Add events, made by `event`, to the transaction of `writer`."""
    if rows:
        writer.connection().execute(sa.insert(AuditEvent), rows)
        if (observe := observer.get()) is not None:
            observe(writer, rows)


def event(
    kind: Kind, now: datetime, *, user_id: str | None = None, sid: str | None = None, reason: str | None = None
) -> dict[str, Any]:
    """Return the row of an event that the current actor causes."""
    by = actor.get()()
    return {
        "id": db.new_id(now),
        "kind": kind,
        "at": now,
        "user_id": user_id,
        "sid": sid,
        "reason": reason and reason[:MAX_REASON],
        "actor": by.kind,
        "request_id": by.request_id,
        "ip_address": by.ip_address,
        "operator": by.operator,
    }


def list_events(
    *, after: str = "", limit: int = 1000, newest: bool = False, **chosen: Unpack[Filter]
) -> Sequence[AuditEvent]:
    """Return one page of events, oldest first, starting after the event id `after`.

    Args:
        newest: return the last page instead of the first, newest first.
        chosen: what the events must have.
    """
    order = AuditEvent.id.desc() if newest else AuditEvent.id
    page = sa.select(AuditEvent).where(AuditEvent.id > after).order_by(order).limit(limit)
    for column in (AuditEvent.user_id, AuditEvent.sid, AuditEvent.kind):
        if (value := chosen.get(column.key)) is not None:
            page = page.where(column == value)
    if search := chosen.get("search"):
        searched = (AuditEvent.reason, AuditEvent.ip_address, AuditEvent.request_id, AuditEvent.operator)
        page = page.where(sa.or_(*(column.icontains(search, autoescape=True) for column in searched)))
    with db.reading() as session:
        return session.scalars(page).all()


def latest(user_id: str, kinds: Sequence[Kind]) -> datetime | None:
    """Return when the latest event of one of these kinds happened to a user."""
    own = sa.select(AuditEvent.at).where(AuditEvent.user_id == user_id, AuditEvent.kind.in_(kinds))
    rows = db.execute_now(own.order_by(AuditEvent.id.desc()).limit(1))
    return rows[0].at if rows else None


def erase(writer: orm.Session, user_id: str) -> None:
    """Remove the addresses from all events of a deleted user.

    The request ids are removed too, because the log has the address of each request.
    """
    erased = {"ip_address": None, "request_id": None}
    writer.connection().execute(sa.update(AuditEvent).where(AuditEvent.user_id == user_id).values(erased))


def prune(now: datetime, keep: timedelta) -> Iterator[int]:
    """Delete events older than `keep` in batches; yield each batch's size.

    Others can write between the batches. Failed sign-ins of unknown names are kept for at most 30 days: strangers cause
    them. An event records what was deleted.
    """
    deleted = 0
    for page in _prunable(now, keep):
        began = monotonic()
        number = len(db.execute_now(sa.delete(AuditEvent).where(AuditEvent.id.in_(page)).returning(AuditEvent.id)))
        db.yield_to_writers(began)
        deleted += number
        yield number
    if deleted:
        record_alone("events_pruned", now, reason=f"{deleted} older than {keep.days} d")


def count_prunable(now: datetime, keep: timedelta) -> int:
    """Return how many events `prune` would delete."""
    return sum(len(page) for page in _prunable(now, keep))


def _prunable(now: datetime, keep: timedelta) -> Iterator[Sequence[str]]:
    unknown = sa.and_(AuditEvent.kind == "sign_in_failed", AuditEvent.user_id.is_(None))
    newer = AuditEvent.id >= db.first_id(now - keep)
    for which, age in ((sa.true(), keep), (sa.and_(unknown, newer), min(keep, UNKNOWN_KEPT))):
        page = sa.select(AuditEvent.id).where(AuditEvent.id < db.first_id(now - age), which)
        page = page.order_by(AuditEvent.id).limit(PRUNE_BATCH)
        last = ""  # where the next batch starts; else the deleted entries before it would be scanned each time
        while ids := [row.id for row in db.execute_now(page.where(AuditEvent.id > last))]:
            last = ids[-1]
            yield ids
