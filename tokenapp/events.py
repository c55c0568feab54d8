"""The audit trail: what happened, to whom, from where, why; each record in the transaction that it tells of."""

from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic
from typing import Any, Final, Literal

import sqlalchemy as sa
from sqlalchemy import orm

from tokenapp import db
from tokenapp.models import Event, Session, ending

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
class Origin:
    """Whose doing a record is: a request's, known by its id and address, or an operator's command."""

    actor: Literal["request", "operator"] = "operator"
    request_id: str | None = None
    ip_address: str | None = None


_origin: ContextVar[Callable[[], Origin]] = ContextVar("origin", default=Origin)


def come_from(origin: Callable[[], Origin]) -> None:
    """Say, once at the edge, whose doing the records will be; `origin` is asked only if there is one to write."""
    _origin.set(origin)


def record(
    writer: orm.Session,
    kind: Kind,
    now: datetime,
    *,
    user_id: str | None = None,
    sid: str | None = None,
    reason: str | None = None,
) -> None:
    """Add one record to the transaction of `writer`."""
    _add(writer, [_values(kind, now, user_id=user_id, sid=sid, reason=reason)])


@db.retried
def record_alone(
    kind: Kind, now: datetime, *, user_id: str | None = None, sid: str | None = None, reason: str | None = None
) -> None:
    """Add one record of something that changed nothing else: a refusal."""
    with db.writing() as writer:
        record(writer, kind, now, user_id=user_id, sid=sid, reason=reason)


def end_sessions(writer: orm.Session, which: sa.ColumnElement[bool], reason: str, now: datetime) -> Sequence[str]:
    """End those of the sessions `which` that are still live, with a record for each; return their ids.

    This is the one way in which sessions end, so that none ends without a record.
    """
    statement = ending(reason, now).where(which).returning(Session.id, Session.user_id)
    ended = writer.connection().execute(statement).all()
    _add(writer, [_values("session_ended", now, user_id=row[1], sid=row[0], reason=reason) for row in ended])
    return [row[0] for row in ended]


@db.retried
def end_each(sids: Sequence[str], reason: str, now: datetime) -> int:
    """End those of these sessions that are still live, in one transaction; return how many those were."""
    with db.writing() as writer:
        return len(end_sessions(writer, Session.id.in_(sids), reason, now))


def list_events(
    *, user_id: str | None = None, sid: str | None = None, kind: str | None = None, after: str = "", limit: int = 1000
) -> Sequence[Event]:
    """Return one page of records, oldest first, those after the record `after`."""
    page = sa.select(Event).where(Event.id > after).order_by(Event.id).limit(limit)
    if user_id is not None:
        page = page.where(Event.user_id == user_id)
    if sid is not None:
        page = page.where(Event.sid == sid)
    if kind is not None:
        page = page.where(Event.kind == kind)
    with db.reading() as session:
        return session.scalars(page).all()


def prune(now: datetime, keep: timedelta) -> Iterable[int]:
    """Delete records older than `keep`, in batches between which others can write; yield the size of each."""
    page = sa.select(Event.id).where(Event.id < db.first_id(now - keep)).order_by(Event.id).limit(PRUNE_BATCH)
    last = ""  # from which the next batch starts: what was deleted before it would be looked through again and again
    while ids := [row.id for row in db.execute_now(page.where(Event.id > last))]:
        last, began = ids[-1], monotonic()
        deleted = db.execute_now(sa.delete(Event).where(Event.id.in_(ids)).returning(Event.id))
        db.make_way(began)
        yield len(deleted)


def _add(writer: orm.Session, rows: list[dict[str, Any]]) -> None:
    if rows:
        writer.connection().execute(sa.insert(Event), rows)


def _values(kind: Kind, now: datetime, *, user_id: str | None, sid: str | None, reason: str | None) -> dict[str, Any]:
    origin = _origin.get()()
    return {
        "id": db.new_id(now),
        "kind": kind,
        "at": now,
        "user_id": user_id,
        "sid": sid,
        "reason": reason,
        "actor": origin.actor,
        "request_id": origin.request_id,
        "ip_address": origin.ip_address,
    }
