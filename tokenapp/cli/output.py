"""The output of commands: tables for terminals, tab-separated lines, or JSON."""

import json
import re
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import chain, islice
from typing import Any, Final, TextIO

import click
import msgspec

_INVISIBLE_CATEGORIES: Final = ("C", "Zl", "Zp")
# The columns of a table, each with the fields that are stacked in its cells.
Layout = Sequence[tuple[str, ...]]
_EMPTY: Final = "-"
_MAX_CELL: Final = 64
_NARROWEST: Final = 80
_GAP: Final = 2
_WHOLE: Final = frozenset({"id", "kid", "sid", "kind", "reason"})
_BREAKABLE: Final = 9
_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\dZ)\Z", re.ASCII)
# An id may begin with a hyphen and has no characters with which a formula could do harm.
_FORMULA: Final = re.compile(r"[=+@]|-(?![\w-]*\Z)", re.ASCII)


def show_list(records: Iterable[msgspec.Struct], columns: Sequence[str], layout: Layout = (), *, as_json: bool) -> None:
    """Print all of `records` as a JSON array, or their `columns` as lines.

    At a terminal they are a table with this layout; by default each field has a column.
    """
    if as_json:
        _show_array(records)
    elif is_terminal(sys.stdout):
        _show_table(records, layout or [(column,) for column in columns])
    else:
        _show_lines(records, columns)


def show_line(record: msgspec.Struct, columns: Sequence[str], *, as_json: bool) -> None:
    """Print one record of a stream, in one line."""
    if as_json:
        click.echo(_to_json(record))
    else:
        click.echo("\t".join(_cells(record, columns) if is_terminal(sys.stdout) else _file_cells(record, columns)))


def show_one(record: msgspec.Struct, *, as_json: bool) -> None:
    """Print `record` as a JSON object, or as one line per field.

    The fields are printed unchanged, because one of them may be a new secret that begins with a hyphen.
    """
    if as_json:
        click.echo(_to_json(record))
        return
    columns = record.__struct_fields__
    for column, cell in zip(columns, _cells(record, columns), strict=True):
        click.echo(
            f"{_title(column)}\t{cell}".expandtabs(16) if is_terminal(sys.stdout) else f"{_title(column)}\t{cell}"
        )


@contextmanager
def progress(label: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on stderr if that is a terminal.

    The value of the context is the function that advances the bar.
    """
    if not is_terminal(sys.stderr):
        yield lambda _steps: None
        return
    from rich.console import Console  # noqa: PLC0415 -- only for terminals
    from rich.progress import Progress  # noqa: PLC0415

    with Progress(console=Console(file=sys.stderr), transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda steps: bar.advance(task, steps)


def count(number: int, noun: str) -> str:
    """Return `number` with its noun: 1 session, 2 sessions."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def visible(text: str) -> str:
    """Return `text` with a replacement for each character that is not visible.

    Names and user agents are untrusted: their control characters must not reach the operator's terminal.
    """
    return "".join("\ufffd" if unicodedata.category(char).startswith(_INVISIBLE_CATEGORIES) else char for char in text)


def is_terminal(stream: TextIO | None) -> bool:
    """Return whether `stream` is a terminal."""
    # Rich itself would also print boxes and colours to a pipe if FORCE_COLOR is set.
    return stream is not None and stream.isatty()


def _show_array(records: Iterable[msgspec.Struct]) -> None:
    """Print one record per line while reading them: there may be millions."""
    separator = "["
    for record in records:
        click.echo(separator + _to_json(record), nl=False)
        separator = ",\n "
    click.echo("[]" if separator == "[" else "]")


def _to_json(record: msgspec.Struct) -> str:
    """Encode `record` as the API does, in ASCII, which every output can encode."""
    return json.dumps(msgspec.to_builtins(record))


def _show_lines(records: Iterable[msgspec.Struct], columns: Sequence[str]) -> None:
    """Print a header and one record per line, or nothing if reading the first fails."""
    lines = ("\t".join(_file_cells(record, columns)) for record in records)
    first = list(islice(lines, 1))
    for line in chain(["\t".join(map(_title, columns))], first, lines):
        click.echo(line)


def _show_table(records: Iterable[msgspec.Struct], layout: Layout) -> None:
    """Print a table that fits the terminal, or 80 columns if that is narrower.

    Ids, kinds and the parts of a time are not broken: a part of an id is useless.
    """
    from rich import box  # noqa: PLC0415 -- only for terminals
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    rows = [[_stacked(record, names) for names in layout] for record in records]
    titles = [[_title(name) for name in names] for names in layout]
    wanted = [max(map(len, chain(*column))) for column in zip(titles, *rows, strict=True)]
    least = [
        max(_least_width(name, (row[place][line] for row in rows)) for line, name in enumerate(names))
        for place, names in enumerate(layout)
    ]
    console = Console(file=sys.stdout)
    widths = _fit(wanted, least, max(console.width, _NARROWEST) - _GAP * (len(layout) - 1))
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for lines, width in zip(titles, widths, strict=True):
        table.add_column("\n".join(lines), width=width, overflow="fold")
    for row in rows:
        table.add_row(*(Text("\n".join(filter(None, lines)) or _EMPTY) for lines in row))
    console.width = sum(widths) + _GAP * len(layout)
    console.print(table, crop=False)


def _stacked(record: msgspec.Struct, names: Sequence[str]) -> list[str]:
    """Return the lines of the cell with these fields of a record."""
    return ["" if cell == _EMPTY else _clip(_TIME.sub(r"\1 \2", cell)) for cell in _cells(record, names)]


def _least_width(name: str, cells: Iterable[str]) -> int:
    """Return the width that a field needs, if long words may be broken."""
    longest = max((len(word) for cell in (_title(name), *cells) for word in cell.split()), default=0)
    return longest if name in _WHOLE or name.endswith("at") else min(longest, _BREAKABLE)


def _fit(wanted: Sequence[int], least: Sequence[int], width: int) -> list[int]:
    """Shorten the columns with the most to spare until they fit `width`."""
    widths = list(wanted)
    while sum(widths) > width:
        spare, widest = max((widths[place] - least[place], place) for place in range(len(widths)))
        if spare <= 0:
            break
        widths[widest] -= 1
    return widths


def _clip(cell: str) -> str:
    return cell if len(cell) <= _MAX_CELL else cell[: _MAX_CELL - 1] + "…"


def _title(column: str) -> str:
    return column.replace("_", " ")


def _cells(record: msgspec.Struct, columns: Sequence[str]) -> list[str]:
    return [_cell(getattr(record, column)) for column in columns]


def _file_cells(record: msgspec.Struct, columns: Sequence[str]) -> list[str]:
    """Return the cells for a file or a pipe.

    A spreadsheet would run a cell such as ``=HYPERLINK(...)``, which a client can send as its user agent. A leading
    apostrophe makes it text.
    """
    return ["'" + cell if _FORMULA.match(cell) else cell for cell in _cells(record, columns)]


def _cell(value: Any) -> str:
    if value is None or value == "":
        return _EMPTY
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds").replace("+00:00", "Z")
    return visible(str(value))
