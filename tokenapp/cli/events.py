"""``flask events``: the audit trail, listed, followed and cleared of what is old."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final, get_args

import click
import msgspec

from tokenapp import accounts, audit
from tokenapp.cli import output
from tokenapp.cli.failures import Group
from tokenapp.cli.input import Age, Text, confirm
from tokenapp.db import first_id
from tokenapp.models import AuditEvent
from tokenapp.throttle import lockout, rate_limit

_COLUMNS: Final = ("at", "kind", "reason", "user_id", "sid", "actor", "ip_address", "request_id")
_KINDS: Final = get_args(audit.Kind)
_FOLLOW_EVERY: Final = 1.0
_LATE_COMMIT: Final = timedelta(seconds=10)

group = Group("events", help="The audit trail: list, follow, prune.")


class EventRecord(msgspec.Struct, rename="camel"):
    """One record of the trail."""

    id: str
    at: datetime
    kind: str
    reason: str | None
    user_id: str | None
    sid: str | None
    actor: str
    ip_address: str | None
    request_id: str | None
    operator: str | None
    count: int


@group.command("list")
@click.option("--user", "name", type=Text(), help="Only what concerns this user.")
@click.option("--session", "sid", type=Text(), help="Only what concerns this session.")
@click.option("--kind", type=click.Choice(_KINDS), help="Only records of this kind.")
@click.option("--since", "age", type=Age(), default="1d", show_default=True, help="How far back.")
@click.option("--follow", is_flag=True, help="Go on with what happens from now on, until stopped.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array, or with --follow one object a line.")
def list_events(
    name: str | None, sid: str | None, kind: str | None, age: timedelta, *, follow: bool, as_json: bool
) -> None:
    """List the records of the trail, oldest first."""
    user_id = accounts.find(name).id if name is not None else None
    walked = _walk(datetime.now(UTC) - age, user_id, sid, kind)
    if not follow:
        output.show_list(walked, _COLUMNS, as_json=as_json)
        return
    for record in _follow(walked, user_id, sid, kind):
        output.show_line(record, _COLUMNS, as_json=as_json)


@group.command("prune")
@click.option("--older-than", "age", type=Age(), default="365d", show_default=True, help="How old they must be.")
@click.option("--dry-run", is_flag=True, help="Count, and delete nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def prune(age: timedelta, *, dry_run: bool, yes: bool) -> None:
    """Delete old records, and counts of failed attempts that mean nothing any more."""
    now, number = datetime.now(UTC), 0
    if dry_run:
        click.echo(f"Would delete {output.count(audit.count_prunable(now, age), 'event')}.")
        return
    confirm(f"Delete events older than {age.days} days?", yes=yes)
    lockout.prune(now, timedelta(days=30))
    rate_limit.prune(now)
    try:
        with output.progress("Deleting") as advance:
            for batch in audit.prune(now, age):
                number += batch
                advance(batch)
    finally:
        click.echo(f"Deleted {output.count(number, 'record')}.")


def _walk(since: datetime, user_id: str | None, sid: str | None, kind: str | None) -> Iterator[EventRecord]:
    after = first_id(since)
    while page := audit.list_events(user_id=user_id, sid=sid, kind=kind, after=after):
        yield from map(_record, page)
        after = page[-1].id


def _follow(
    walked: Iterator[EventRecord], user_id: str | None, sid: str | None, kind: str | None
) -> Iterator[EventRecord]:
    """Go on for ever; look back a little each time, for what was dated before, and committed after, the last look."""
    seen: dict[str, datetime] = {}
    while True:
        for record in walked:
            if record.id not in seen:
                seen[record.id] = record.at
                yield record
        time.sleep(_FOLLOW_EVERY)
        horizon = datetime.now(UTC) - _LATE_COMMIT
        seen = {event: at for event, at in seen.items() if at >= horizon - _LATE_COMMIT}
        walked = _walk(horizon, user_id, sid, kind)


def _record(event: AuditEvent) -> EventRecord:
    return EventRecord(
        event.id,
        event.at,
        event.kind,
        event.reason,
        event.user_id,
        event.sid,
        event.actor,
        event.ip_address,
        event.request_id,
        event.operator,
        event.count,
    )
