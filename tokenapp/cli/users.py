"""``flask users``: create, import, list, show, change and delete users."""

import dataclasses
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import BinaryIO

import click
import msgspec

from tokenapp import accounts, audit, errors
from tokenapp.cli import importing, output, sessions, user_files
from tokenapp.cli.command import Group
from tokenapp.cli.completion import USER
from tokenapp.cli.input import Text, confirm, limit_option, read_password
from tokenapp.factors import enrolment, registry
from tokenapp.models import User
from tokenapp.throttle import lockout

_COLUMNS = ("username", "id", "created_at", "disabled_at")
_LAYOUT = (("username",), ("id",), ("created_at",), ("disabled_at",))

group = Group("users", help="Users: create, import, list, show, change, delete.")


class UserRecord(msgspec.Struct, rename="camel"):
    """A user without the password hash."""

    id: str
    username: str | None
    created_at: datetime
    disabled_at: datetime | None


class UserDetails(UserRecord, omit_defaults=True):
    """A user with data that needs other queries.

    `failures` are consecutive. A deleted user has no name.
    """

    deleted_at: datetime | None
    password_changed_at: datetime | None
    last_sign_in_at: datetime | None
    failures: int
    locked_until: datetime | None
    live_sessions: int
    roles: list[str] = []
    email: str | None = None
    email_verified_at: datetime | None = None
    locale: str | None = None
    second_factors: list[str] = []
    recovery_codes_left: int = 0
    code_failures: int = 0
    codes_locked_until: datetime | None = None


@group.command("create")
@click.argument("name", type=Text())
@click.option("--email", type=Text(), help="The address of the user.")
@click.option("--email-verified", is_flag=True, help="The address is known to be the user's.")
@click.option("--if-missing", is_flag=True, help="Do nothing if the user exists.")
def create(name: str, *, email: str | None, email_verified: bool, if_missing: bool) -> None:
    """Create the user NAME.

    The password is read from a prompt, or from the first line of standard input if that is not a terminal. The user can
    sign in with the address once it is verified.
    """
    username = accounts.check_username(name)
    if email_verified and email is None:
        raise click.UsageError("--email-verified needs --email.")
    try:
        _create(accounts.NewUser(username, email=email, email_verified=email_verified))
    except errors.UsernameTaken:
        if not if_missing:
            raise
        click.echo(f"The user {username} already exists.")
    else:
        click.echo(f"Created the user {username}.")


@group.command("list")
@click.option("--search", type=Text(), default="", help="Only users whose name or address contains this text.")
@limit_option("At most this many.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def list_users(search: str, limit: int | None, *, as_json: bool) -> None:
    """List the users, sorted by name."""
    users = islice(_all_users(search), limit)
    output.show_list(map(_record, users), _COLUMNS, _LAYOUT, as_json=as_json)


@group.command("show")
@click.argument("name", type=USER)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def show(name: str, *, as_json: bool) -> None:
    """Show the user NAME: state, lockout, last sign-in and live sessions."""
    now = datetime.now(UTC)
    user = accounts.find(name, deleted=True)
    state, codes = lockout.state("password", user.username, now), lockout.state("code", user.id, now)
    details = UserDetails(
        **msgspec.structs.asdict(_record(user)),
        deleted_at=user.deleted_at,
        password_changed_at=None if user.deleted_at else user.credentials_changed_at,
        last_sign_in_at=audit.latest(user.id, ("sign_in",)),
        failures=state.failures,
        locked_until=state.locked_until,
        live_sessions=sum(1 for _ in sessions.all_sessions(now, user.id, live=True)),
        roles=user.roles.split(),
        email=user.email,
        email_verified_at=user.email_verified_at,
        locale=user.locale,
        second_factors=registry.kinds_of(user),
        recovery_codes_left=enrolment.codes_left(user.id),
        code_failures=codes.failures,
        codes_locked_until=codes.locked_until,
    )
    output.show_one(details, as_json=as_json)


@group.command("rename")
@click.argument("name", type=USER)
@click.argument("new_name", type=Text())
def rename(name: str, new_name: str) -> None:
    """Give the user NAME the name NEW_NAME. Their sessions go on.

    Access tokens have the new name from the next refresh on. The failed sign-ins on both names are cleared.
    """
    user = accounts.find(name)
    renamed = accounts.rename(user, new_name, datetime.now(UTC))
    click.echo(f"Renamed the user {user.username} to {renamed}.")


@group.command("roles")
@click.argument("name", type=USER)
@click.argument("action", type=click.Choice(["add", "remove"]), required=False)
@click.argument("role", type=Text(), required=False)
def roles(name: str, action: str | None, role: str | None) -> None:
    """Show the roles of the user NAME, or add or remove ROLE.

    A role that is removed is gone from all access tokens within a second, and the user stays signed in. A role that is
    added is in access tokens from the next refresh on, within 15 minutes by default.
    """
    if action is not None and role is None:
        raise click.UsageError("Give the role, too.")
    user = accounts.find(name)
    held = user.roles.split()
    if role is not None:
        change = accounts.add_role if action == "add" else accounts.remove_role
        held = change(user, role, datetime.now(UTC))
    click.echo(f"Roles of {user.username}: {', '.join(held) or 'none'}.")


@group.command("disable")
@click.argument("name", type=USER)
def disable(name: str) -> None:
    """Disable the user NAME and revoke all of their sessions."""
    user = accounts.find(name)
    revoked = accounts.disable(user, datetime.now(UTC))
    click.echo(f"Disabled the user {user.username} and revoked {output.count(revoked, 'session')}.")


@group.command("enable")
@click.argument("name", type=USER)
def enable(name: str) -> None:
    """Enable the user NAME. Revoked sessions stay revoked."""
    user = accounts.find(name)
    accounts.enable(user, datetime.now(UTC))
    click.echo(f"Enabled the user {user.username}.")


@group.command("unlock")
@click.argument("name", type=USER)
def unlock(name: str) -> None:
    """End the lockout of the user NAME after failed sign-ins."""
    user = accounts.find(name)
    accounts.unlock(user, datetime.now(UTC))
    click.echo(f"Unlocked {user.username}.")


@group.command("reset-factors")
@click.argument("name", type=USER)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def reset_factors(name: str, *, yes: bool) -> None:
    """Remove all second factors of the user NAME and revoke their sessions.

    This is for someone who has lost them. Make sure that it is that person: afterwards the password alone signs in.
    """
    user = accounts.find(name)
    confirm(f"This removes all second factors of {user.username}. Continue?", yes=yes)
    revoked = enrolment.reset(user, datetime.now(UTC))
    click.echo(f"Removed the second factors of {user.username} and revoked {output.count(revoked, 'session')}.")
    if not user.password_hash:
        click.echo(f"{user.username} has no password, and cannot sign in until `flask users set-password` sets one.")


@group.command("delete")
@click.argument("name", type=USER)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def delete(name: str, *, yes: bool) -> None:
    """Delete the user NAME for good, and revoke all of their sessions.

    Name, password, addresses and browsers are erased, from the audit log too. The id stays and is never used again. The
    name can be given to another user.
    """
    user = accounts.find(name)
    confirm(f"This deletes the user {user.username} ({user.id}) for good. Continue?", yes=yes)
    revoked = accounts.delete(user, datetime.now(UTC))
    click.echo(f"Deleted the user {user.username} ({user.id}) and revoked {output.count(revoked, 'session')}.")


@group.command("set-password")
@click.argument("name", type=USER)
@click.option("--temporary", is_flag=True, help="The user must choose a new password at the next sign-in.")
def set_password(name: str, *, temporary: bool) -> None:
    """Set a new password for the user NAME and revoke all of their sessions.

    The password is read from a prompt, or from the first line of standard input if that is not a terminal.
    """
    user = accounts.find(name)
    password = read_password(user.username)
    revoked = accounts.set_password(user, password, datetime.now(UTC), temporary=temporary)
    click.echo(f"Changed the password of {user.username} and revoked {output.count(revoked, 'session')}.")


@group.command("import")
@click.argument("file", type=click.File("rb"))
@click.option("--format", "form", type=click.Choice(user_files.FORMATS), help="Default: by the file's extension.")
@click.option("--dry-run", is_flag=True, help="Check the lines and show whom they would create.")
@click.option(
    "--without-password", is_flag=True, help="Also create users whose password hash is missing or cannot be verified."
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object with the invalid lines.")
@click.pass_context
def import_users(
    ctx: click.Context, file: BinaryIO, *, form: str | None, dry_run: bool, without_password: bool, as_json: bool
) -> None:
    """Create users from FILE, or from standard input if FILE is -.

    It contains CSV with a header, or JSON lines. Each line has a username and either a password or a password_hash
    of argon2, bcrypt or Werkzeug. All lines are checked first. Then the users of all valid lines are created in
    batches of 2,000, so that the service can write in between. After an error, run the import again. The exit code
    is 1 if a line is invalid. A file that is not well-formed CSV is rejected as a whole.
    """
    form = form or user_files.format_of(str(getattr(file, "name", "")))
    report = importing.run(file, form, datetime.now(UTC), dry_run=dry_run, without_password=without_password)
    if as_json:
        output.show_one(report, as_json=True)
    else:
        importing.show(report)
    ctx.exit(1 if report.invalid else 0)


def _create(new: accounts.NewUser) -> None:
    """Create the user; check the names before the password is read."""
    if new.email is not None:
        accounts.check_address(new.email)
    accounts.check_free(new.username, new.email)
    accounts.create(dataclasses.replace(new, password=read_password(new.username)), datetime.now(UTC))


def _all_users(search: str) -> Iterator[User]:
    """Yield the users whose name contains `search`, reading one page at a time."""
    page = accounts.list_users(search=search)
    while page:
        yield from page
        page = accounts.list_users(search=search, after=page[-1].username)


def _record(user: User) -> UserRecord:
    return UserRecord(user.id, None if user.deleted_at else user.username, user.created_at, user.disabled_at)
