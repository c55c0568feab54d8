"""``flask users``: people who sign in, created, looked at, kept out and let in again."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import BinaryIO

import click
import msgspec

from tokenapp import accounts, errors
from tokenapp.cli import importing, output, sessions
from tokenapp.cli.failures import Group
from tokenapp.cli.input import Text, read_password
from tokenapp.models import User

_COLUMNS = ("username", "id", "created_at", "disabled_at")

group = Group("users", help="People who sign in: create, import, list, disable, enable, give new passwords.")


class UserRecord(msgspec.Struct, rename="camel"):
    """A user as the operator may see them: never with a hash."""

    id: str
    username: str
    created_at: datetime
    disabled_at: datetime | None


class UserDetails(UserRecord):
    """The same, with what one user is worth another query."""

    live_sessions: int


@group.command("create")
@click.argument("name", type=Text())
@click.option("--if-missing", is_flag=True, help="Do nothing, and succeed, if there is such a user.")
def create(name: str, *, if_missing: bool) -> None:
    """Create the user NAME.

    The password is asked for, or read from the first line of standard input if that is no terminal.
    """
    username = accounts.check_username(name)
    try:
        _create(username)
    except errors.UsernameTaken:
        if not if_missing:
            raise
        click.echo(f"The user {username} exists already.")
    else:
        click.echo(f"Created the user {username}.")


@group.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def list_users(*, as_json: bool) -> None:
    """List all users in the order of their names."""
    output.show_list(map(_record, _all_users()), _COLUMNS, as_json=as_json)


@group.command("show")
@click.argument("name", type=Text())
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def show(name: str, *, as_json: bool) -> None:
    """Show the user NAME and how many live sessions they have."""
    user = accounts.find(name)
    live = sum(1 for _ in sessions.walk(datetime.now(UTC), user.id, live=True))
    record = _record(user)
    details = UserDetails(record.id, record.username, record.created_at, record.disabled_at, live)
    output.show_one(details, as_json=as_json)


@group.command("disable")
@click.argument("name", type=Text())
def disable(name: str) -> None:
    """Keep the user NAME from signing in, and end all of their sessions."""
    user = accounts.find(name)
    ended = accounts.disable(user, datetime.now(UTC))
    click.echo(f"Disabled the user {user.username} and ended {output.count(ended, 'session')}.")


@group.command("enable")
@click.argument("name", type=Text())
def enable(name: str) -> None:
    """Let the user NAME sign in again. Sessions that were ended stay ended."""
    user = accounts.find(name)
    accounts.enable(user, datetime.now(UTC))
    click.echo(f"Enabled the user {user.username}.")


@group.command("unlock")
@click.argument("name", type=Text())
def unlock(name: str) -> None:
    """Forget the failed sign-ins on the user NAME, so that the password is looked at again at once."""
    user = accounts.find(name)
    accounts.unlock(user, datetime.now(UTC))
    click.echo(f"Unlocked {user.username}.")


@group.command("set-password")
@click.argument("name", type=Text())
def set_password(name: str) -> None:
    """Give the user NAME a new password, and end all of their sessions.

    The password is asked for, or read from the first line of standard input if that is no terminal.
    """
    user = accounts.find(name)
    ended = accounts.set_password(user, read_password(), datetime.now(UTC))
    click.echo(f"Changed the password of {user.username} and ended {output.count(ended, 'session')}.")


@group.command("import")
@click.argument("file", type=click.File("rb"))
@click.option(
    "--format", "form", type=click.Choice(importing.FORMATS), help="Format, if the file's name does not tell."
)
@click.option("--dry-run", is_flag=True, help="Check every line and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the report, refused lines and all, as a JSON object.")
@click.pass_context
def import_users(ctx: click.Context, file: BinaryIO, *, form: str | None, dry_run: bool, as_json: bool) -> None:
    """Create users from FILE (- for standard input): CSV with a header, or JSON lines; one user on each line.

    A user has a username and either a password or a password_hash made by argon2 or Werkzeug. All lines are checked
    first; then the good ones are written together, or none of them if anything goes wrong. The exit code is 1 if any
    line was refused.
    """
    report = importing.run(
        file, form or importing.format_of(str(getattr(file, "name", ""))), datetime.now(UTC), dry_run=dry_run
    )
    if as_json:
        output.show_one(report, as_json=True)
    else:
        for refused in report.refused:
            click.echo(f"line {refused.line}: {refused.reason}", err=True)
        verbs = ("would import", "would refuse") if dry_run else ("imported", "refused")
        click.echo(f"{verbs[0]} {report.imported}, {verbs[1]} {len(report.refused)}")
    ctx.exit(1 if report.refused else 0)


def _create(username: str) -> None:
    """Create the user; ask for no password in vain."""
    if accounts.taken([username]):
        raise errors.UsernameTaken
    accounts.create(accounts.NewUser(username, read_password()), datetime.now(UTC))


def _all_users() -> Iterator[User]:
    """Walk through all users, a page at a time."""
    page = accounts.list_users()
    while page:
        yield from page
        page = accounts.list_users(after=page[-1].username)


def _record(user: User) -> UserRecord:
    return UserRecord(user.id, user.username, user.created_at, user.disabled_at)
