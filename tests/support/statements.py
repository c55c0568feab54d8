"""The SQL statements that an application runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flask import Flask
from sqlalchemy import event

from tokenapp import db


@contextmanager
def statements(app: Flask) -> Iterator[list[str]]:
    """Collect the statements of the block, without their values."""
    seen: list[str] = []
    with app.app_context():
        engine = db.db.engine

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "clock" not in statement and "FROM sessions" not in statement:  # the revocation list, read once a second
            seen.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", note)
