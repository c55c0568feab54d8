"""The import of users: all lines are checked, then the valid ones are stored."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePath
from typing import BinaryIO, Final

import click
import msgspec

from tokenapp import accounts, errors
from tokenapp.accounts import NewUser
from tokenapp.cli import output

FORMATS: Final = ("csv", "jsonl")
MAX_LINE: Final = 64 * 1024
_EXTENSIONS: Final = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
_COLUMNS: Final = ("username", "password", "password_hash")
_BOM: Final = b"\xef\xbb\xbf"


class InvalidLine(msgspec.Struct, frozen=True):
    """An invalid line; the reason does not repeat its text, which may be a password."""

    line: int
    reason: str


class Report(msgspec.Struct, rename="camel"):
    """The result of an import or of a dry run."""

    imported: int
    invalid: list[InvalidLine] = msgspec.field(name="refused")
    dry_run: bool


class Entry(msgspec.Struct):
    """The fields of a line; others are ignored."""

    username: str
    password: str | None = None
    password_hash: str | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """A line with a user that is not checked yet."""

    number: int
    new: NewUser


def format_of(name: str) -> str:
    """Return the format of the file `name`.

    Raises:
        click.UsageError: the extension is unknown.
    """
    form = _EXTENSIONS.get(PurePath(name).suffix.lower())
    if form is None:
        raise click.UsageError("The file's extension is neither .csv nor .jsonl: give --format.")
    return form


def run(file: BinaryIO, form: str, now: datetime, *, dry_run: bool) -> Report:
    """Import the users in `file`.

    Raises:
        click.ClickException: the header is invalid, or a name was taken during the import; nothing was written.
    """
    invalid: list[InvalidLine] = []
    lines = _without_taken(_checked(_read(file, form), invalid), invalid)
    if not dry_run:
        _write([line.new for line in lines], now)
    return Report(len(lines), sorted(invalid, key=lambda line: line.line), dry_run)


def _checked(lines: Iterator[Line | InvalidLine], invalid: list[InvalidLine]) -> dict[str, Line]:
    """Return the valid lines by canonical user name; add the others to `invalid`."""
    valid: dict[str, Line] = {}
    for line in lines:
        if isinstance(line, InvalidLine):
            invalid.append(line)
            continue
        try:
            username = accounts.check(line.new)
        except errors.TokenappError as error:
            invalid.append(InvalidLine(line.number, error.detail))
            continue
        if username in valid:
            invalid.append(InvalidLine(line.number, f"The user is already on line {valid[username].number}."))
        else:
            valid[username] = line
    return valid


def _without_taken(lines: dict[str, Line], invalid: list[InvalidLine]) -> list[Line]:
    """Return the lines whose user names are free; add the others to `invalid`."""
    taken = accounts.taken(list(lines))
    invalid += [InvalidLine(lines[username].number, errors.UsernameTaken.message) for username in taken]
    return [line for username, line in lines.items() if username not in taken]


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


def _read(file: BinaryIO, form: str) -> Iterator[Line | InvalidLine]:
    return (_read_csv if form == "csv" else _read_jsonl)(_numbered(file))


def _numbered(file: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """Yield number and text of the lines that are not blank; None if one is too long."""
    number = 0
    while raw := file.readline(MAX_LINE + 1):
        number += 1
        whole = len(raw) <= MAX_LINE
        while len(raw) > MAX_LINE and not raw.endswith(b"\n"):
            raw = file.readline(MAX_LINE + 1)
        if number == 1:
            raw = raw.removeprefix(_BOM)
        if raw.strip():
            yield number, raw.strip(b"\r\n") if whole else None


def _read_csv(lines: Iterator[tuple[int, bytes | None]]) -> Iterator[Line | InvalidLine]:
    """Parse each line by itself, so that a stray quote makes only its line invalid."""
    header = _header(next(lines, (1, b"")))
    for number, raw in lines:
        cells = _cells(raw)
        if isinstance(cells, str):
            yield InvalidLine(number, cells)
        elif len(cells) != len(header):
            yield InvalidLine(number, f"The line has {len(cells)} columns, but the header has {len(header)}.")
        else:
            yield _line(
                number, Entry(**{name: cell for name, cell in zip(header, cells, strict=True) if name in _COLUMNS})
            )


def _header(first: tuple[int, bytes | None]) -> list[str]:
    cells = _cells(first[1])
    names = [cell.strip().lower() for cell in cells] if not isinstance(cells, str) else []
    known = [name for name in names if name in _COLUMNS]
    if "username" not in known or len(known) == 1 or len(known) > len(set(known)):
        message = f"Line {first[0]} must be a header with username and password or password_hash, each once."
        raise click.ClickException(message)
    return names


def _cells(raw: bytes | None) -> list[str] | str:
    """Split a CSV line into cells, or return the reason why it is invalid."""
    if raw is None:
        return f"The line is longer than {MAX_LINE} bytes."
    try:
        return next(csv.reader([raw.decode()], strict=True))
    except UnicodeDecodeError:
        return "The line is not UTF-8."
    except csv.Error:
        return "The line is not well-formed CSV, or a value spans several lines."


def _read_jsonl(lines: Iterator[tuple[int, bytes | None]]) -> Iterator[Line | InvalidLine]:
    for number, raw in lines:
        entry = _entry(raw)
        yield InvalidLine(number, entry) if isinstance(entry, str) else _line(number, entry)


def _entry(raw: bytes | None) -> Entry | str:
    """Parse a JSON line, or return the reason why it is invalid."""
    if raw is None:
        return f"The line is longer than {MAX_LINE} bytes."
    try:
        return msgspec.json.decode(raw, type=Entry)
    except msgspec.ValidationError as error:
        # The error names the field and the expected type, but not the value.
        return f"The line is not a valid user: {error}."
    except UnicodeDecodeError:
        return "The line is not UTF-8."
    except (msgspec.DecodeError, RecursionError):
        return "The line is not well-formed JSON, or contains a lone surrogate."


def _line(number: int, entry: Entry) -> Line | InvalidLine:
    if bool(entry.password) == bool(entry.password_hash):
        return InvalidLine(number, "A user needs either a password or a password_hash, not both.")
    return Line(number, NewUser(entry.username, entry.password or None, entry.password_hash or None))
