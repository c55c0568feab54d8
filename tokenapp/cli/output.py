"""What operators see: tables on a terminal, tab-separated lines for other programs, JSON when asked for."""

import json
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import chain, islice
from typing import Any, Final, TextIO

import click
import msgspec
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

_INVISIBLE_CATEGORIES: Final = ("C", "Zl", "Zp")
_LONGEST_ON_TERMINAL: Final = 64
_UNBOUNDED: Final = 10_000


def show_list(records: Iterable[msgspec.Struct], columns: Sequence[str], *, as_json: bool) -> None:
    """Show `records`: all their members as a JSON array, or `columns` of them as a table."""
    if as_json:
        _show_array(records)
    elif is_terminal(sys.stdout):
        _show_table(records, columns)
    else:
        _show_lines(records, columns)


def show_line(record: msgspec.Struct, columns: Sequence[str], *, as_json: bool) -> None:
    """Show one record of many that come by and by, on a line of its own."""
    click.echo(_to_json(record) if as_json else "\t".join(_cells(record, columns)))


def show_one(record: msgspec.Struct, *, as_json: bool) -> None:
    """Show `record` as a JSON object, or as one line for each member."""
    if as_json:
        click.echo(_to_json(record))
        return
    columns = record.__struct_fields__
    for column, cell in zip(columns, _cells(record, columns), strict=True):
        click.echo(
            f"{_title(column)}\t{cell}".expandtabs(16) if is_terminal(sys.stdout) else f"{_title(column)}\t{cell}"
        )


@contextmanager
def progress(doing: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on stderr if that is a terminal; the function that is given moves it on by some steps."""
    shown = is_terminal(sys.stderr)
    with Progress(console=Console(file=sys.stderr), transient=True, disable=not shown) as bar:
        task = bar.add_task(doing, total=total)
        yield lambda steps: bar.advance(task, steps)


def count(number: int, noun: str) -> str:
    """Put `number` before its noun: 1 session, 2 sessions."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person looks at `stream`; programs get no boxes, no colours and no bars, whatever FORCE_COLOR says."""
    return stream is not None and stream.isatty()


def _show_array(records: Iterable[msgspec.Struct]) -> None:
    """Write one record a line, as they come: there may be millions."""
    before = "["
    for record in records:
        click.echo(before + _to_json(record), nl=False)
        before = ",\n "
    click.echo("[]" if before == "[" else "]")


def _to_json(record: msgspec.Struct) -> str:
    """Encode with the API's names and times; in ASCII, so that no encoding and no terminal can stumble over it."""
    return json.dumps(msgspec.to_builtins(record))


def _show_lines(records: Iterable[msgspec.Struct], columns: Sequence[str]) -> None:
    """Write a header and then one record a line, as they come; nothing at all if the first cannot be had."""
    lines = ("\t".join(_cells(record, columns)) for record in records)
    first = list(islice(lines, 1))
    for line in chain(["\t".join(map(_title, columns))], first, lines):
        click.echo(line)


def _show_table(records: Iterable[msgspec.Struct], columns: Sequence[str]) -> None:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in columns:
        table.add_column(_title(column), no_wrap=True)
    for record in records:
        table.add_row(*(Text(_clip(cell)) for cell in _cells(record, columns)))
    console = Console(file=sys.stdout)
    # An id that is cut short cannot be used: a table too wide for the terminal is wrapped by the terminal instead.
    unbounded = console.options.update(width=_UNBOUNDED)
    console.width = Measurement.get(console, unbounded, table).maximum
    console.print(table, crop=False)


def _clip(cell: str) -> str:
    return cell if len(cell) <= _LONGEST_ON_TERMINAL else cell[: _LONGEST_ON_TERMINAL - 1] + "…"


def _title(column: str) -> str:
    return column.replace("_", " ")


def _cells(record: msgspec.Struct, columns: Sequence[str]) -> list[str]:
    return [_cell(getattr(record, column)) for column in columns]


def _cell(value: Any) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds").replace("+00:00", "Z")
    # User agents come from strangers: a control character among them must not steer the operator's terminal.
    return "".join(
        "\ufffd" if unicodedata.category(char).startswith(_INVISIBLE_CATEGORIES) else char for char in str(value)
    )
