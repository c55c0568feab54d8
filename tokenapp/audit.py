"""The audit log: events, each written in the transaction that it describes."""

from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic
from typing import Any, Final, Literal

import sqlalchemy as sa
from sqlalchemy import orm

from tokenapp import db
from tokenapp.models import AuditEvent

Kind = Literal[
    "user_created",
    "user_disabled",
    "user_enabled",
    "user_unlocked",
    "password_changed",
    "sign_in",
    "sign_in_failed",
    "reauthenticated",
    "refresh_ahead",
    "session_ended",
    "key_created",
    "key_retired",
    "client_created",
    "client_deleted",
]
PRUNE_BATCH: Final = 25


@dataclass(frozen=True, slots=True)
class Actor:
    """Who caused an event: a request, or an operator's command."""

    kind: Literal["request", "operator"] = "operator"
    request_id: str | None = None
    ip_address: str | None = None


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


def record_all(writer: orm.Session, rows: list[dict[str, Any]]) -> None:
    """Add events, made by `event`, to the transaction of `writer`."""
    if rows:
        writer.connection().execute(sa.insert(AuditEvent), rows)


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
        "reason": reason,
        "actor": by.kind,
        "request_id": by.request_id,
        "ip_address": by.ip_address,
    }


def list_events(
    *, user_id: str | None = None, sid: str | None = None, kind: str | None = None, after: str = "", limit: int = 1000
) -> Sequence[AuditEvent]:
    """Return one page of events, oldest first, starting after the event id `after`."""
    page = sa.select(AuditEvent).where(AuditEvent.id > after).order_by(AuditEvent.id).limit(limit)
    if user_id is not None:
        page = page.where(AuditEvent.user_id == user_id)
    if sid is not None:
        page = page.where(AuditEvent.sid == sid)
    if kind is not None:
        page = page.where(AuditEvent.kind == kind)
    with db.reading() as session:
        return session.scalars(page).all()


def prune(now: datetime, keep: timedelta) -> Iterable[int]:
    """Delete events older than `keep` in batches; yield each batch's size."""
    page = sa.select(AuditEvent.id).where(AuditEvent.id < db.first_id(now - keep))
    page = page.order_by(AuditEvent.id).limit(PRUNE_BATCH)
    last = ""  # where the next batch starts; otherwise each batch would scan the deleted entries before it
    while ids := [row.id for row in db.execute_now(page.where(AuditEvent.id > last))]:
        last, began = ids[-1], monotonic()
        deleted = db.execute_now(sa.delete(AuditEvent).where(AuditEvent.id.in_(ids)).returning(AuditEvent.id))
        db.yield_to_writers(began)
        yield len(deleted)
