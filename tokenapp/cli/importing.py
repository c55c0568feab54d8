"""``flask users import``: every line checked first, then all good ones written in one transaction."""

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
from tokenapp.cli.input import is_storable

FORMATS: Final = ("csv", "jsonl")
MAX_LINE: Final = 64 * 1024
_EXTENSIONS: Final = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
_COLUMNS: Final = ("username", "password", "password_hash")
_BOM: Final = b"\xef\xbb\xbf"


class RefusedLine(msgspec.Struct, frozen=True):
    """A line that makes no user; the reason never repeats what stood there."""

    line: int
    reason: str


class Report(msgspec.Struct, rename="camel"):
    """What an import came to, or would come to."""

    imported: int
    refused: list[RefusedLine]
    dry_run: bool


class Entry(msgspec.Struct):
    """What a line says; other columns or members are ignored."""

    username: str
    password: str | None = None
    password_hash: str | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """A line that names a user, fit or not."""

    number: int
    new: NewUser


def format_of(name: str) -> str:
    """Tell the format from the file's name.

    Raises:
        click.UsageError: the name does not tell.
    """
    form = _EXTENSIONS.get(PurePath(name).suffix.lower())
    if form is None:
        raise click.UsageError("The file's name ends neither in .csv nor in .jsonl: give --format.")
    return form


def run(file: BinaryIO, form: str, now: datetime, *, dry_run: bool) -> Report:
    """Import the users in `file`, and tell which lines were refused.

    Raises:
        click.ClickException: the header is wrong, or a name was taken while we worked; nothing was written.
    """
    refused: list[RefusedLine] = []
    lines = _free_lines(_fit_lines(_read(file, form), refused), refused)
    if not dry_run:
        _write([line.new for line in lines], now)
    return Report(len(lines), sorted(refused, key=lambda line: line.line), dry_run)


def _fit_lines(lines: Iterator[Line | RefusedLine], refused: list[RefusedLine]) -> dict[str, Line]:
    """Give the lines that could be users, by the one form of their names; add all others to `refused`."""
    fit: dict[str, Line] = {}
    for line in lines:
        if isinstance(line, RefusedLine):
            refused.append(line)
            continue
        try:
            username = accounts.check(line.new)
        except errors.TokenappError as refusal:
            refused.append(RefusedLine(line.number, refusal.detail))
            continue
        if username in fit:
            refused.append(RefusedLine(line.number, f"This user is on line {fit[username].number} already."))
        else:
            fit[username] = line
    return fit


def _free_lines(fit: dict[str, Line], refused: list[RefusedLine]) -> list[Line]:
    """Give the lines whose names nobody has; add the others to `refused`."""
    taken = accounts.taken(list(fit))
    refused += [RefusedLine(fit[username].number, errors.UsernameTaken.message) for username in taken]
    return [line for username, line in fit.items() if username not in taken]


def _write(users: list[NewUser], now: datetime) -> None:
    """Hash what is not hashed yet, which takes its time, and store all users at once."""
    drafts = []
    with output.progress("Preparing users", len(users)) as advance:
        for new in users:
            drafts.append(accounts.draft(new, now))
            advance(1)
    try:
        accounts.add_all(drafts, now)
    except errors.UsernameTaken:
        raise click.ClickException("A name was taken meanwhile. Nothing was imported: please try again.") from None


def _read(file: BinaryIO, form: str) -> Iterator[Line | RefusedLine]:
    return (_read_csv if form == "csv" else _read_jsonl)(_numbered(file))


def _numbered(file: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """Give the lines that are not blank with their numbers, from 1; None for one that is too long."""
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


def _read_csv(lines: Iterator[tuple[int, bytes | None]]) -> Iterator[Line | RefusedLine]:
    """Read each line by itself: a stray quote then spoils one line, and numbers are right."""
    header = _header(next(lines, (1, b"")))
    for number, raw in lines:
        cells = _cells(raw)
        if isinstance(cells, str):
            yield RefusedLine(number, cells)
        elif len(cells) != len(header):
            yield RefusedLine(number, f"The line has {len(cells)} columns where the header has {len(header)}.")
        else:
            yield _line(
                number, Entry(**{name: cell for name, cell in zip(header, cells, strict=True) if name in _COLUMNS})
            )


def _header(first: tuple[int, bytes | None]) -> list[str]:
    cells = _cells(first[1])
    names = [cell.strip().lower() for cell in cells] if not isinstance(cells, str) else []
    ours = [name for name in names if name in _COLUMNS]
    if "username" not in ours or len(ours) == 1 or len(ours) > len(set(ours)):
        where = f"Line {first[0]} is no header"
        raise click.ClickException(where + ": it must name username and password or password_hash, each once.")
    return names


def _cells(raw: bytes | None) -> list[str] | str:
    """Split a CSV line into its cells, or say why that cannot be done."""
    if raw is None:
        return f"The line is longer than {MAX_LINE} bytes."
    try:
        return next(csv.reader([raw.decode()], strict=True))
    except UnicodeDecodeError:
        return "The line is not UTF-8."
    except csv.Error:
        return "The line is not well-formed CSV, or a value goes on in the next line."


def _read_jsonl(lines: Iterator[tuple[int, bytes | None]]) -> Iterator[Line | RefusedLine]:
    for number, raw in lines:
        entry = _entry(raw)
        yield RefusedLine(number, entry) if isinstance(entry, str) else _line(number, entry)


def _entry(raw: bytes | None) -> Entry | str:
    """Parse a JSON line, or say why that cannot be done."""
    if raw is None:
        return f"The line is longer than {MAX_LINE} bytes."
    try:
        return msgspec.json.decode(raw, type=Entry)
    except msgspec.ValidationError as fault:
        # Its text names the member and the type that is wanted, and never the value.
        return f"The line is not such an object: {fault}."
    except UnicodeDecodeError:
        return "The line is not UTF-8."
    except (msgspec.DecodeError, RecursionError):
        return "The line is not well-formed JSON, or holds a lone surrogate."


def _line(number: int, entry: Entry) -> Line | RefusedLine:
    if bool(entry.password) == bool(entry.password_hash):
        return RefusedLine(number, "A user needs either a password or a password_hash, and not both.")
    if not is_storable(entry.password or ""):
        return RefusedLine(number, "The password holds a NUL character.")
    return Line(number, NewUser(entry.username, entry.password or None, entry.password_hash or None))
