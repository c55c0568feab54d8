"""``flask sessions``: sign-ins, listed, ended and cleared away."""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import click
import msgspec
import sqlalchemy as sa

from tokenapp import accounts, sessions
from tokenapp.cli import output
from tokenapp.cli.failures import Group
from tokenapp.cli.input import Age, Text, confirm
from tokenapp.history import explain
from tokenapp.models import Session

_COLUMNS = ("id", "username", "created_at", "last_seen_at", "expires_at", "ip_address", "user_agent")
_COLUMNS_OF_ALL = (*_COLUMNS[:5], "revoked_at", "revoked_reason", *_COLUMNS[5:])

group = Group("sessions", help="Sign-ins on devices: list, revoke, prune.")


class SessionRecord(msgspec.Struct, rename="camel"):
    """A session as the operator may see it: never with a jti."""

    id: str
    username: str
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    ip_address: str | None
    user_agent: str | None
    revoked_at: datetime | None
    revoked_reason: str | None


@group.command("list")
@click.option("--user", "name", type=Text(), help="Only the sessions of this user.")
@click.option("--all", "everything", is_flag=True, help="Also sessions that have ended or expired.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def list_sessions(name: str | None, *, everything: bool, as_json: bool) -> None:
    """List sessions, oldest first: those that are live, unless --all is given."""
    user_id = accounts.find(name).id if name is not None else None
    records = walk(datetime.now(UTC), user_id, live=not everything)
    output.show_list(records, _COLUMNS_OF_ALL if everything else _COLUMNS, as_json=as_json)


@group.command("revoke")
@click.argument("sids", metavar="[SID]...", type=Text(), nargs=-1)
@click.option("--user", "name", type=Text(), help="End all sessions of this user.")
@click.option("--everyone", is_flag=True, help="End all sessions of all users.")
@click.option("--yes", is_flag=True, help="Do not ask before --everyone.")
def revoke(sids: tuple[str, ...], name: str | None, *, everyone: bool, yes: bool) -> None:
    """End sessions: those with the ids SID, or all of a user, or all there are. Who signs in again is let in."""
    if (bool(sids), name is not None, everyone).count(True) != 1:
        raise click.UsageError("Give either session ids, or --user, or --everyone.")
    if sids:
        _revoke_each(sids)
        return
    user_id = accounts.find(name).id if name is not None else None
    if user_id is None:
        confirm("End all sessions of all users?", yes=yes)
        _in_batches(sessions.revoke_batches(sa.true(), "operator", datetime.now(UTC)), "Revoking", "Revoked", None)
    else:
        ended = sessions.revoke_all_of(user_id, "operator", datetime.now(UTC))
        click.echo(f"Ended {output.count(ended, 'session')}.")


@group.command("prune")
@click.option("--older-than", "age", type=Age(), default="30d", show_default=True, help="How long they must be over.")
@click.option("--dry-run", is_flag=True, help="Count and delete nothing.")
def prune(age: timedelta, *, dry_run: bool) -> None:
    """Delete sessions that have been over for long.

    Sessions that ended within the life of an access token are always kept: they keep those tokens from being used.
    """
    now = datetime.now(UTC)
    if dry_run:
        click.echo(f"Would delete {output.count(sessions.count_prunable(now, age), 'session')}.")
        return
    # Only a bar needs the total, and in a large table counting takes longer than a batch.
    total = sessions.count_prunable(now, age) if output.is_terminal(sys.stderr) else None
    _in_batches(sessions.prune(now, age), "Deleting", "Deleted", total)


@group.command("why")
@click.argument("subject", metavar="SID|NAME", type=Text())
def why(subject: str) -> None:
    """Tell why a session ended, or what became of the latest sessions of a user: one sentence each."""
    for sentence in explain(subject, datetime.now(UTC)):
        click.echo(sentence)


def _in_batches(batches: Iterator[int], doing: str, done: str, total: int | None) -> None:
    """Work `batches` off, and say how many sessions that were: each is committed, however this ends."""
    number = 0
    try:
        with output.progress(doing, total) as advance:
            for batch in batches:
                number += batch
                advance(batch)
    finally:
        click.echo(f"{done} {output.count(number, 'session')}.")


def walk(now: datetime, user_id: str | None, *, live: bool) -> Iterator[SessionRecord]:
    """Walk through the sessions, a page at a time."""
    page = sessions.list_sessions(now, user_id=user_id, live=live)
    while page:
        yield from (_record(session, username) for session, username in page)
        page = sessions.list_sessions(now, user_id=user_id, live=live, after=page[-1][0].id)


def _revoke_each(sids: tuple[str, ...]) -> None:
    """End these sessions; one that is unknown keeps none of the others alive."""
    ended, unknown = 0, []
    for sid in dict.fromkeys(sids):
        if sessions.exists(sid):
            ended += sessions.revoke(sid, "operator", datetime.now(UTC))
        else:
            unknown.append(sid)
    click.echo(f"Ended {output.count(ended, 'session')}.")
    if unknown:
        raise click.ClickException("There is no session " + ", ".join(unknown) + ".")


def _record(session: Session, username: str) -> SessionRecord:
    return SessionRecord(
        id=session.id,
        username=username,
        created_at=session.created_at,
        last_seen_at=session.rotated_at or session.created_at,
        expires_at=session.expires_at,
        ip_address=session.ip_address,
        user_agent=session.user_agent,
        revoked_at=session.revoked_at,
        revoked_reason=session.revoked_reason,
    )
