"""``flask events``: list, follow and prune the audit log."""

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, get_args

import click
import msgspec

from tokenapp import accounts, audit
from tokenapp.cli import mail, output
from tokenapp.cli.command import Group
from tokenapp.cli.completion import USER
from tokenapp.cli.input import Age, Text, confirm, limit_option
from tokenapp.db import first_id
from tokenapp.factors import challenges, pending
from tokenapp.models import AuditEvent
from tokenapp.throttle import lockout, rate_limit

_COLUMNS: Final = ("at", "kind", "reason", "username", "user_id", "sid", "actor", "ip_address", "request_id")
_LAYOUT: Final = (("at",), ("kind", "username"), ("sid", "reason", "ip_address"))
_KINDS: Final = get_args(audit.Kind)
_FOLLOW_INTERVAL: Final = 1.0
_LATE_COMMIT: Final = timedelta(seconds=10)

group = Group("events", help="The audit log: list, follow, prune.")


class EventRecord(msgspec.Struct, rename="camel"):
    """An audit event."""

    id: str
    at: datetime
    kind: str
    reason: str | None
    username: str | None
    user_id: str | None
    sid: str | None
    actor: str
    ip_address: str | None
    request_id: str | None
    operator: str | None
    count: int


@group.command("list")
@click.option("--user", "name", type=USER, help="Only events of this user.")
@click.option("--session", "sid", type=Text(), help="Only events of this session.")
@click.option("--kind", type=click.Choice(_KINDS), help="Only events of this kind.")
@click.option("--search", type=Text(), help="Only events whose reason, address, request or operator has this.")
@limit_option("Only this many of the newest.")
@click.option("--since", "age", type=Age(), default="1d", show_default=True, help="Maximum age.")
@click.option("--follow", is_flag=True, help="Also print new events until interrupted.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array, or with --follow one object per line.")
def list_events(age: timedelta, *, limit: int | None, follow: bool, as_json: bool, **given: str | None) -> None:
    """List the events of the audit log, oldest first."""
    name = given.pop("name")
    user_id = accounts.find(name, deleted=True).id if name is not None else None
    chosen: audit.Filter = {"user_id": user_id, "sid": given["sid"], "kind": given["kind"], "search": given["search"]}
    since = datetime.now(UTC) - age
    records = _events(since, chosen) if limit is None else _newest(since, chosen, limit)
    if not follow:
        output.show_list(records, _COLUMNS, _LAYOUT, as_json=as_json)
        return
    for record in _follow(records, chosen):
        output.show_line(record, _COLUMNS, as_json=as_json)


@group.command("prune")
@click.option("--older-than", "age", type=Age(), default="365d", show_default=True, help="Minimum age of the events.")
@click.option("--dry-run", is_flag=True, help="Count the events, and delete nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def prune(age: timedelta, *, dry_run: bool, yes: bool) -> None:
    """Delete old audit events, and expired counts of failed attempts.

    Failed sign-ins of unknown users are deleted after 30 days. The deletion is an audit event itself.
    """
    now, number = datetime.now(UTC), 0
    if dry_run:
        click.echo(f"Would delete {output.count(audit.count_prunable(now, age), 'event')}.")
        return
    confirm(f"Delete events older than {age.days} days?", yes=yes)
    lockout.prune(now, timedelta(days=30))
    rate_limit.prune(now)
    mail.prune(now)
    challenges.prune(now)
    pending.prune(now)
    try:
        with output.progress("Deleting") as advance:
            for batch in audit.prune(now, age):
                number += batch
                advance(batch)
    finally:
        click.echo(f"Deleted {output.count(number, 'event')}.")


def _events(since: datetime, chosen: audit.Filter) -> Iterator[EventRecord]:
    after = first_id(since)
    while page := audit.list_events(**chosen, after=after):
        yield from _records(page)
        after = page[-1].id


def _newest(since: datetime, chosen: audit.Filter, limit: int) -> Iterator[EventRecord]:
    """Yield the newest events, oldest first."""
    yield from _records(audit.list_events(**chosen, after=first_id(since), limit=limit, newest=True)[::-1])


def _follow(records: Iterator[EventRecord], chosen: audit.Filter) -> Iterator[EventRecord]:
    """Yield `records`, and then new ones without end.

    Each query starts a few seconds back, because an event's time is before its commit.
    """
    seen: dict[str, datetime] = {}
    while True:
        for record in records:
            if record.id not in seen:
                seen[record.id] = record.at
                yield record
        time.sleep(_FOLLOW_INTERVAL)
        horizon = datetime.now(UTC) - _LATE_COMMIT
        seen = {event: at for event, at in seen.items() if at >= horizon - _LATE_COMMIT}
        records = _events(horizon, chosen)


def _records(page: Sequence[AuditEvent]) -> Iterator[EventRecord]:
    """Yield the records of one page, with the names of the users."""
    names = accounts.names_of(event.user_id for event in page if event.user_id)
    for event in page:
        columns = {name: getattr(event, name) for name in EventRecord.__struct_fields__ if name != "username"}
        yield EventRecord(**columns, username=names.get(event.user_id or ""))
