"""SQLite's files, seen by another program."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path


def file_of(url: str) -> Path:
    """Return the file of a database by its URL."""
    return Path(url.removeprefix("sqlite:///"))


@contextmanager
def write_lock(url: str) -> Iterator[None]:
    """Hold the file's only write lock, as another program may."""
    with closing(sqlite3.connect(file_of(url), isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")
