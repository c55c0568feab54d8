"""The import of users: all lines are checked, then the valid ones are stored."""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import BinaryIO, Final

import click
import msgspec

from tokenapp import accounts, errors
from tokenapp.accounts import NewUser
from tokenapp.cli import output, user_files
from tokenapp.cli.user_files import InvalidLine, Line

_SHOWN: Final = 10  # lines with the same reason


class Report(msgspec.Struct, rename="camel", omit_defaults=True):
    """The result of an import or of a dry run.

    `users` are the names that a dry run would create.
    """

    imported: int
    invalid: list[InvalidLine] = msgspec.field(name="refused")
    dry_run: bool
    users: list[str] = []
    ignored_columns: list[str] = []


def run(file: BinaryIO, form: str, now: datetime, *, dry_run: bool) -> Report:
    """Import the users in `file`.

    Raises:
        click.ClickException: the header is invalid, or a name was taken during the import; nothing was written.
    """
    contents = user_files.read(file.read(), form, only_names=False)
    invalid: list[InvalidLine] = []
    try:
        users = _without_taken(_checked(contents.lines, invalid), invalid)
    except user_files.MalformedFileError as error:
        return Report(0, [InvalidLine(error.line, str(error))], dry_run)
    if not dry_run:
        _write(list(users.values()), now)
    invalid.sort(key=lambda line: line.line)
    return Report(len(users), invalid, dry_run, list(users) if dry_run else [], contents.ignored)


def show(report: Report) -> None:
    """Print `report`: a few lines for each reason, and the number of the others."""
    lines_of: Counter[str] = Counter()
    for line in report.invalid:
        lines_of[line.reason] += 1
        if lines_of[line.reason] <= _SHOWN:
            click.echo(f"line {line.line}: {line.reason}", err=True)
    for reason, lines in lines_of.items():
        if lines > _SHOWN:
            click.echo(f"{output.count(lines - _SHOWN, 'more line')}: {reason}", err=True)
    if report.ignored_columns:
        click.echo(f"Ignored columns: {', '.join(report.ignored_columns)}.", err=True)
    for name in report.users:
        click.echo(f"Would create {name}.")
    imported, invalid = output.count(report.imported, "user"), output.count(len(report.invalid), "invalid line")
    click.echo(f"{'Would import' if report.dry_run else 'Imported'} {imported}; found {invalid}.")


def _checked(lines: Iterable[Line | InvalidLine], invalid: list[InvalidLine]) -> dict[str, Line]:
    """Return the valid lines by canonical user name; add the others to `invalid`."""
    valid: dict[str, Line] = {}
    for line in lines:
        if isinstance(line, InvalidLine):
            invalid.append(line)
            continue
        try:
            username = accounts.check(_new_user(line))
        except errors.TokenappError as error:
            invalid.append(InvalidLine(line.number, error.detail))
            continue
        if username in valid:
            invalid.append(InvalidLine(line.number, f"The user is already on line {valid[username].number}."))
        else:
            valid[username] = line
    return valid


def _without_taken(lines: dict[str, Line], invalid: list[InvalidLine]) -> dict[str, NewUser]:
    """Return the users whose names are free; add the other lines to `invalid`."""
    taken = accounts.taken(list(lines))
    invalid += [InvalidLine(lines[username].number, errors.UsernameTaken.message) for username in taken]
    return {username: _new_user(line) for username, line in lines.items() if username not in taken}


def _write(users: list[NewUser], now: datetime) -> None:
    """Hash the passwords, then store all users in one transaction."""
    drafts = []
    with output.progress("Preparing users", len(users)) as advance:
        for new in users:
            drafts.append(accounts.draft(new, now))
            advance(1)
    try:
        accounts.add_all(drafts, now)
    except errors.UsernameTaken:
        message = "A user name was taken during the import. Nothing was imported. Please try again."
        raise click.ClickException(message) from None


def _new_user(line: Line) -> NewUser:
    """Return the user on a line.

    Raises:
        errors.PasswordRejected: the line has no password, or two.
    """
    if (line.password is None) == (line.password_hash is None):
        raise errors.PasswordRejected(detail="A user needs either a password or a password_hash, not both.")
    return NewUser(line.username, line.password, line.password_hash)
