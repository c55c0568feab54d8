"""The import of users: all lines are checked, then the valid ones are stored."""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import BinaryIO, Final, NamedTuple

import click
import msgspec

from tokenapp import accounts, errors, passwords
from tokenapp.accounts import NewUser
from tokenapp.cli import output, user_files
from tokenapp.cli.user_files import InvalidLine, Line

_SHOWN: Final = 10  # lines with the same reason
_NEITHER: Final = "The line has neither a password nor a password_hash."
_ONE_OF_TWO: Final = "A user needs either a password or a password_hash, not both."


class Report(msgspec.Struct, rename="camel", omit_defaults=True):
    """The result of an import or of a dry run.

    `without_password` are the lines of users who were created without a password, and why. `users` are the names that a
    dry run would create.
    """

    imported: int
    invalid: list[InvalidLine] = msgspec.field(name="refused")
    dry_run: bool
    without_password: list[InvalidLine] = []
    users: list[str] = []
    ignored_columns: list[str] = []


class _Checked(NamedTuple):
    """A valid line, and why its user has no password, if so."""

    number: int
    new: NewUser
    lack: str | None


def run(file: BinaryIO, form: str, now: datetime, *, dry_run: bool, without_password: bool) -> Report:
    """Import the users in `file`.

    `without_password` includes users whose hash is missing or cannot be verified.

    Raises:
        click.ClickException: the header is invalid, or a name was taken during the import; nothing was written.
    """
    contents = user_files.read(file.read(), form, only_names=without_password)
    invalid: list[InvalidLine] = []
    try:
        users = _checked(contents.lines, invalid, without_password=without_password)
    except user_files.MalformedFileError as error:
        return Report(0, [InvalidLine(error.line, str(error))], dry_run)
    taken = accounts.taken(list(users))
    invalid += [InvalidLine(users.pop(username).number, errors.UsernameTaken.message) for username in taken]
    invalid += _without_taken_addresses(users)
    if not dry_run:
        _write([line.new for line in users.values()], now)
    invalid.sort(key=lambda line: line.line)
    lacking = [InvalidLine(line.number, line.lack) for line in users.values() if line.lack]
    return Report(len(users), invalid, dry_run, lacking, list(users) if dry_run else [], contents.ignored)


def show(report: Report) -> None:
    """Print `report` for people."""
    _show_reasons(report.invalid, "")
    _show_reasons(report.without_password, "without a password: ")
    if report.ignored_columns:
        click.echo(f"Ignored columns: {', '.join(report.ignored_columns)}.", err=True)
    for name in report.users:
        click.echo(f"Would create {name}.")
    imported, invalid = output.count(report.imported, "user"), output.count(len(report.invalid), "invalid line")
    lacking = f" ({len(report.without_password)} without a password)" if report.without_password else ""
    click.echo(f"{'Would import' if report.dry_run else 'Imported'} {imported}{lacking}; found {invalid}.")


def _show_reasons(lines: list[InvalidLine], label: str) -> None:
    """Print a few lines for each reason, and then the number of the others."""
    numbers: Counter[str] = Counter()
    for line in lines:
        numbers[line.reason] += 1
        if numbers[line.reason] <= _SHOWN:
            click.echo(f"line {line.line}: {label}{line.reason}", err=True)
    for reason, number in numbers.items():
        if number > _SHOWN:
            click.echo(f"{output.count(number - _SHOWN, 'more line')}: {label}{reason}", err=True)


def _checked(
    lines: Iterable[Line | InvalidLine], invalid: list[InvalidLine], *, without_password: bool
) -> dict[str, _Checked]:
    """Return the valid lines by canonical user name; add the others to `invalid`."""
    valid: dict[str, _Checked] = {}
    for line in lines:
        if isinstance(line, InvalidLine):
            invalid.append(line)
            continue
        try:
            new, lack = _new_user(line, without_password=without_password)
            username = accounts.check(new)
        except errors.TokenappError as error:
            invalid.append(InvalidLine(line.number, error.detail))
            continue
        if username in valid:
            invalid.append(InvalidLine(line.number, f"The user is already on line {valid[username].number}."))
        else:
            valid[username] = _Checked(line.number, new, lack)
    return valid


def _without_taken_addresses(users: dict[str, _Checked]) -> list[InvalidLine]:
    """Remove the users whose address another one has; return their lines."""
    addresses = {name: accounts.canonical(line.new.email) for name, line in users.items() if line.new.email}
    taken = accounts.taken(list(addresses.values()))
    seen, invalid = {name: name for name in users}, []
    for name, address in addresses.items():
        if address in taken or seen.setdefault(address, name) != name:
            invalid.append(InvalidLine(users.pop(name).number, errors.AddressTaken.message))
    return invalid


def _new_user(line: Line, *, without_password: bool) -> tuple[NewUser, str | None]:
    """Return the user on a line and, if they get no password, the reason.

    Raises:
        errors.PasswordRejected: the line has two passwords or, unless `without_password`, none that can be verified.
    """
    stored = passwords.unlabelled(line.password_hash) if line.password_hash else None
    lack = None if line.password else _fault_of(stored)
    if (line.password and stored) or (lack and not without_password):
        raise errors.PasswordRejected(detail=lack or _ONE_OF_TWO)
    email = line.email
    if email == line.username and not accounts.is_deliverable(email):  # it is only a name
        email = None
    new = NewUser(line.username, line.password, None if lack else stored, email, email_verified=line.email_verified)
    return new, lack if stored else lack and _NEITHER


def _fault_of(stored: str | None) -> str | None:
    """Return why a hash cannot be verified, if so."""
    if stored is None:
        return _ONE_OF_TWO
    try:
        passwords.kind_of(stored)
    except errors.PasswordRejected as error:
        return error.detail
    return None


def _write(users: list[NewUser], now: datetime) -> None:
    """Hash the passwords, then store the users in batches."""
    drafts = []
    with output.progress("Preparing users", len(users)) as advance:
        for new in users:
            drafts.append(accounts.draft(new, now))
            advance(1)
    stored: list[int] = []
    try:
        accounts.add_all(drafts, now, stored.append)
    except errors.UsernameTaken:
        message = f"A user name was taken during the import. {_left(sum(stored))} Please try again."
        raise click.ClickException(message) from None
    except BaseException:
        if stored:
            click.echo(_left(sum(stored)), err=True)
        raise


def _left(stored: int) -> str:
    """Return what an import that failed leaves in the database."""
    return f"Only the first {stored} users were imported." if stored else "Nothing was imported."
