"""``flask sessions``: list, revoke, prune and explain sessions."""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import click
import msgspec
import sqlalchemy as sa

from tokenapp import access_keys, accounts, sessions
from tokenapp.cli import output
from tokenapp.cli.command import Group
from tokenapp.cli.completion import USER
from tokenapp.cli.input import Age, Text, confirm, limit_option
from tokenapp.history import explain
from tokenapp.models import Session
from tokenapp.sessions import device_names

_COLUMNS = ("id", "username", "created_at", "last_seen_at", "expires_at", "ip_address", "user_agent")
_COLUMNS_OF_ALL = (*_COLUMNS[:5], "revoked_at", "revoked_reason", *_COLUMNS[5:])
_LAYOUT = (("id",), ("username",), ("last_seen_at",), ("ip_address", "device"))
_LAYOUT_OF_ALL = (*_LAYOUT[:3], ("revoked_at", "revoked_reason"), *_LAYOUT[3:])

group = Group("sessions", help="Sign-ins on devices: list, revoke, prune, explain.")


class SessionRecord(msgspec.Struct, rename="camel"):
    """A session without the ids of its tokens."""

    id: str
    username: str | None
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    ip_address: str | None
    user_agent: str | None
    revoked_at: datetime | None
    revoked_reason: str | None

    @property
    def device(self) -> str | None:
        """The browser and system, or what the client calls itself."""
        name = device_names.describe(self.user_agent)
        return self.user_agent if name == device_names.describe(None) else name


@group.command("list")
@click.option("--user", "name", type=USER, help="Only the sessions of this user.")
@click.option("--search", type=Text(), default="", help="Only those whose user, address or browser contains this text.")
@limit_option("Only this many of the newest.")
@click.option("--all", "everything", is_flag=True, help="Include revoked and expired sessions.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def list_sessions(name: str | None, search: str, limit: int | None, *, everything: bool, as_json: bool) -> None:
    """List the live sessions, oldest first."""
    user_id = accounts.find(name, deleted=True).id if name is not None else None
    now, live = datetime.now(UTC), not everything
    records = all_sessions(now, user_id, live=live, search=search)
    if limit is not None:
        newest = sessions.list_sessions(now, user_id=user_id, live=live, search=search, limit=limit, newest=True)
        records = (_record(session, username) for session, username in newest[::-1])
    columns, layout = (_COLUMNS_OF_ALL, _LAYOUT_OF_ALL) if everything else (_COLUMNS, _LAYOUT)
    output.show_list(records, columns, layout, as_json=as_json)


@group.command("revoke")
@click.argument("sids", metavar="[SID]...", type=Text(), nargs=-1)
@click.option("--user", "name", type=USER, help="Revoke all sessions of this user.")
@click.option("--everyone", is_flag=True, help="Revoke all sessions of all users.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def revoke(sids: tuple[str, ...], name: str | None, *, everyone: bool, yes: bool) -> None:
    """Revoke the sessions SID, or all sessions of a user or of all users.

    The users can sign in again.
    """
    if (bool(sids), name is not None, everyone).count(True) != 1:
        raise click.UsageError("Give either session ids, or --user, or --everyone.")
    if sids:
        _revoke_each(sids)
        return
    user_id = accounts.find(name).id if name is not None else None
    if user_id is None:
        confirm("This revokes all sessions of all users. Continue?", yes=yes)
        _in_batches(sessions.revoke_batches(sa.true(), "operator", datetime.now(UTC)), "Revoking", "Revoked", None)
    else:
        revoked = sessions.revoke_all_of(user_id, "operator", datetime.now(UTC))
        click.echo(f"Revoked {output.count(revoked, 'session')}.")


@group.command("prune")
@click.option(
    "--older-than", "age", type=Age(), default="30d", show_default=True, help="Minimum time since they ended."
)
@click.option("--dry-run", is_flag=True, help="Only count the sessions.")
def prune(age: timedelta, *, dry_run: bool) -> None:
    """Delete sessions that ended long ago.

    A revoked session is always kept until its access tokens have expired. Access keys that ended long ago are deleted,
    too.
    """
    now = datetime.now(UTC)
    if dry_run:
        click.echo(f"Would delete {output.count(sessions.count_prunable(now, age), 'session')}.")
        return
    # Only the progress bar needs the total. In a large table, counting takes longer than a batch.
    total = sessions.count_prunable(now, age) if output.is_terminal(sys.stderr) else None
    _in_batches(sessions.prune(now, age), "Deleting", "Deleted", total)
    access_keys.prune(now, age)


@group.command("why")
@click.argument("subject", metavar="SID|NAME", type=USER)
def why(subject: str) -> None:
    """Explain why a session ended, or what state a user's latest sessions are in."""
    for sentence in explain(subject, datetime.now(UTC)):
        click.echo(output.visible(sentence))


def _in_batches(batches: Iterator[int], doing: str, done: str, total: int | None) -> None:
    """Process `batches`, and print how many sessions were committed even if it fails."""
    number = 0
    try:
        with output.progress(doing, total) as advance:
            for batch in batches:
                number += batch
                advance(batch)
    finally:
        click.echo(f"{done} {output.count(number, 'session')}.")


def all_sessions(now: datetime, user_id: str | None, *, live: bool, search: str = "") -> Iterator[SessionRecord]:
    """Yield the sessions, reading one page at a time."""
    page = sessions.list_sessions(now, user_id=user_id, live=live, search=search)
    while page:
        yield from (_record(session, username) for session, username in page)
        page = sessions.list_sessions(now, user_id=user_id, live=live, search=search, after=page[-1][0].id)


def _revoke_each(sids: tuple[str, ...]) -> None:
    """Revoke the sessions `sids`, and then report the unknown ones as an error."""
    revoked, unknown = 0, []
    for sid in dict.fromkeys(sids):
        if sessions.exists(sid):
            revoked += sessions.revoke(sid, "operator", datetime.now(UTC))
        else:
            unknown.append(sid)
    click.echo(f"Revoked {output.count(revoked, 'session')}.")
    if unknown:
        raise click.ClickException("Session not found: " + ", ".join(unknown) + ".")


def _record(session: Session, username: str | None) -> SessionRecord:
    return SessionRecord(
        id=session.id,
        username=username,
        created_at=session.created_at,
        last_seen_at=session.rotated_at or session.created_at,
        expires_at=session.expires_at,
        ip_address=session.last_ip_address or session.ip_address,
        user_agent=session.last_user_agent or session.user_agent,
        revoked_at=session.revoked_at,
        revoked_reason=session.revoked_reason,
    )
