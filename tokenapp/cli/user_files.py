"""Files of users, read as a whole: CSV (RFC 4180) or JSON lines."""

import codecs
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Final, Literal, NamedTuple

import click
import msgspec

FORMATS: Final = ("csv", "jsonl")
MAX_LINE: Final = 64 * 1024
_EXTENSIONS: Final = {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
_COLUMNS: Final = ("username", "password", "password_hash")
_OPTIONAL: Final = ("email", "email_verified")
_TRUE: Final = ("true", "t", "1", "yes")
_DELIMITERS: Final = (",", ";", "\t")
_NULLS: Final = ("NULL", "\\N")  # without quotation marks, as databases export a missing value
_BOMS: Final = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_SEPARATOR_LINE: Final = re.compile(r'\s*"?sep=([^"\r\n])"?(?:\r*\n|\r)', re.IGNORECASE)
_NOT_TEXT: Final = re.compile(r"[\0\ufffd\ud800-\udfff]")
_QUOTED: Final = r'"(?P<quoted>(?:[^"]++|"")*+)"'


class MalformedFileError(Exception):
    """The file is not well-formed CSV, so it is unclear where its values end."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"{reason}. The whole file is rejected, because its other values may be misread.")
        self.line = line


class InvalidLine(msgspec.Struct, frozen=True):
    """An invalid line; the reason does not repeat its text, which may be a password."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class Line:
    """The values of a user, not checked yet, and the number of the first line."""

    number: int
    username: str
    password: str | None
    password_hash: str | None
    email: str | None = None
    email_verified: bool = False


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file contains, and the names of the columns that are not used."""

    lines: Iterator[Line | InvalidLine]
    ignored: list[str] = field(default_factory=list)


class _Entry(msgspec.Struct):
    """The fields of a JSON line; others are ignored."""

    username: str | msgspec.UnsetType = msgspec.UNSET
    email: object = None
    email_verified: object = None
    password: str | None = None
    password_hash: str | None = None


class _Dialect(NamedTuple):
    """How a CSV file separates values and lines, and where its header begins."""

    delimiter: str
    line_end: str
    place: int
    line: int


class _Record(NamedTuple):
    line: int
    text: str
    cells: list[str | None]


def format_of(name: str) -> str:
    """Return the format of the file `name`.

    Raises:
        click.UsageError: the extension is unknown.
    """
    form = _EXTENSIONS.get(PurePath(name).suffix.lower())
    if form is None:
        raise click.UsageError("The file's extension is neither .csv nor .jsonl: give --format.")
    return form


def read(content: bytes, form: str, *, only_names: bool) -> Contents:
    """Return the users in a file; `only_names` allows a CSV file without passwords.

    Raises:
        click.ClickException: the header is invalid.
        MalformedFileError: from the iterator, if the file is not well-formed CSV.
    """
    text = _decode(content)
    if form == "csv":
        return _read_csv(text, only_names=only_names)
    return Contents(_read_jsonl(text))


def _decode(content: bytes) -> str:
    """Decode UTF-8 or UTF-16; what is not UTF-8 becomes lone surrogates."""
    encoding = next((encoding for bom, encoding in _BOMS if content.startswith(bom)), None)
    if encoding is None:  # a file begins with an ASCII character: in UTF-16 one of its bytes is NUL
        encoding = "utf-16-le" if content[1:2] == b"\0" else "utf-16-be" if content[:1] == b"\0" else "utf-8"
    errors = "surrogateescape" if encoding == "utf-8" else "replace"
    return content.decode(encoding, errors).lstrip("\ufeff")


def _fault_of(text: str) -> str | None:
    """Return why the text of a line is invalid, if it is."""
    try:
        if len(text.encode()) > MAX_LINE:
            return f"The line is longer than {MAX_LINE} bytes."
    except UnicodeEncodeError:
        return "The line is not UTF-8: export the file as UTF-8."
    if "\ufffd" in text:
        return "The line contains U+FFFD: characters were lost when the file was written."
    return None


def _read_csv(text: str, *, only_names: bool) -> Contents:
    separator = _SEPARATOR_LINE.match(text)
    place, line = (separator.end(), 1 + len(re.findall(r"\r*\n|\r", separator[0]))) if separator else (0, 1)
    first_end = re.search(r"\r*\n|\r", text[place:])
    line_end = r"\r" if first_end and first_end[0] == "\r" else r"\r*\n"
    for delimiter in separator[1] if separator else _DELIMITERS:
        records = _records(text, _Dialect(delimiter, line_end, place, line))
        try:
            header = next(records, _Record(line, "", []))
        except MalformedFileError as error:
            header = _Record(error.line, "", [])
        names = [(cell or "").strip().lower() for cell in header.cells]
        columns = _columns(names, only_names=only_names)
        if columns is not None:
            columns = {**{name: names.index(name) for name in _OPTIONAL if names.count(name) == 1}, **columns}
            ignored = [name for index, name in enumerate(names) if name.isprintable() and index not in columns.values()]
            return Contents(_lines(records, columns, len(names)), ignored)
    if _NOT_TEXT.search(text[:1024]):
        raise click.ClickException(
            "The file is not text in UTF-8 or UTF-16, but perhaps a spreadsheet or an archive. Export CSV in UTF-8."
        )
    message = (
        f"Line {header.line} must be a header with username and password or password_hash, each once, separated by "
        "commas, semicolons or tabs. The column email can take the place of username."
    )
    raise click.ClickException(message)


def _columns(names: Sequence[str], *, only_names: bool) -> dict[str, int] | None:
    """Return the place of each column that is used, or None if the header is invalid."""
    found = [name for name in names if name in _COLUMNS]
    columns = {name: names.index(name) for name in found}
    # Without a user name, the e-mail address is the name with which the user signs in.
    if "username" not in columns and names.count("email") == 1:
        columns["username"] = names.index("email")
    valid = "username" in columns and len(found) == len(set(found)) and (only_names or len(columns) > 1)
    return columns if valid else None


def _lines(records: Iterable[_Record], columns: dict[str, int], width: int) -> Iterator[Line | InvalidLine]:
    for line, text, cells in records:
        fault = _fault_of(text)
        if fault is None and len(cells) != width:
            fault = f"The line has {len(cells)} columns, but the header has {width}."
        if fault is not None:
            yield InvalidLine(line, fault)
            continue
        username, password, password_hash, email, verified = (
            cells[columns[name]] if name in columns else None for name in (*_COLUMNS, *_OPTIONAL)
        )
        yield Line(line, username or "", password or None, password_hash or None, email or None, _is_true(verified))


def _records(text: str, dialect: _Dialect) -> Iterator[_Record]:
    """Yield the records that are not blank.

    The csv module is not used because it accepts quotation marks inside of values that are not quoted, even if it is
    strict. Of a program that quotes or escapes in another way, the inside of a value would be read as a record.

    Raises:
        MalformedFileError: RFC 4180, section 2, does not allow the text.
    """
    delimiter = re.escape(dialect.delimiter)
    plain = rf'(?P<plain>[^"\r\n{delimiter}]*+)'
    value = re.compile(rf"(?:{_QUOTED}|{plain})(?P<after>{delimiter}|{dialect.line_end}|\Z)")
    place, line = dialect.place, dialect.line
    opened = None  # the line of a value that begins with an apostrophe, and does not end with one
    while place < len(text):
        start, after = place, dialect.delimiter
        cells: list[str | None] = []
        bare: list[str] = []
        while after == dialect.delimiter:
            match = value.match(text, place)
            if match is None:
                raise MalformedFileError(line, _malformed(text, place))
            place, after = match.end(), match["after"]
            cells.append(_cell(match))
            bare.append(match["plain"] or "")
        if opened is not None and any(_has_apostrophe_only_at(-1, cell) for cell in bare):
            raise MalformedFileError(opened, "A value in apostrophes seems to contain a line break")
        if opened is None and any(_has_apostrophe_only_at(0, cell) for cell in bare):
            opened = line
        if after and (len(bare[-1]) - len(bare[-1].rstrip("\\"))) % 2:
            raise MalformedFileError(line, "A backslash stands before a line break, as if to escape it")
        record = _Record(line, text[start:place].rstrip("\r\n"), cells)
        line += text.count("\r" if dialect.line_end == r"\r" else "\n", start, place)
        if any(cell is None or cell.strip() for cell in cells):
            yield record


def _cell(match: re.Match[str]) -> str | None:
    if match["quoted"] is not None:
        return match["quoted"].replace('""', '"')
    return None if match["plain"] in _NULLS else match["plain"]


def _has_apostrophe_only_at(end: Literal[0, -1], cell: str) -> bool:
    """Return whether a value in apostrophes begins (0) or ends (-1) with `cell`."""
    return cell == "'" or (cell[end:][:1] == "'" and cell[-1 - end :][:1] != "'")


def _malformed(text: str, place: int) -> str:
    if not text.startswith('"', place):
        return "A value that is not in quotation marks contains a quotation mark or a line break"
    closed = re.compile(_QUOTED).match(text, place)
    return "A value in quotation marks is followed by other text" if closed else "A quotation mark is never closed"


def _read_jsonl(text: str) -> Iterator[Line | InvalidLine]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield _parse_json(number, line)


def _parse_json(number: int, line: str) -> Line | InvalidLine:
    fault = _fault_of(line)
    if fault is not None:
        return InvalidLine(number, fault)
    try:
        entry = msgspec.json.decode(line, type=_Entry)
    except msgspec.ValidationError as error:
        # The error names the field and the expected type, but not the value.
        return InvalidLine(number, f"The line is not a valid user: {error}.")
    except (msgspec.DecodeError, RecursionError):
        return InvalidLine(number, "The line is not well-formed JSON, or contains a lone surrogate.")
    username = entry.email if entry.username is msgspec.UNSET else entry.username
    if not isinstance(username, str):
        return InvalidLine(number, "The line is not a valid user: Object missing required field `username`.")
    email = entry.email if isinstance(entry.email, str) and entry.email else None
    verified = _is_true(entry.email_verified)
    return Line(number, username, entry.password or None, entry.password_hash or None, email, verified)


def _is_true(value: object) -> bool:
    return str(value).strip().lower() in _TRUE
