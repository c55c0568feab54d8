"""SQLite: one file, one writer at a time, and durable commits."""

import os
import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from contextvars import ContextVar
from time import monotonic
from typing import Any, Final

from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DisconnectionError

from tokenapp.db.breaker import Breaker
from tokenapp.db.deadline import SERVER_TIMEOUT_MS, deadline

_PATIENCE: Final = SERVER_TIMEOUT_MS / 1000  # seconds
CONNECT: Final[Mapping[str, Any]] = {
    "timeout": _PATIENCE,
    "isolation_level": None,
    "check_same_thread": False,
}
# A write after a plain BEGIN fails with "database is locked" instead of waiting.
BEGIN: Final = "BEGIN IMMEDIATE"
MIGRATION_TIMEOUT_MS: Final = 30_000  # to wait for other writers
# Only migrations create the file.
may_create: Final[ContextVar[bool]] = ContextVar("may_create", default=False)


def set_up(engine: Engine, _breaker: Breaker) -> None:
    """Make commits durable, writers wait, and a replaced file an error."""
    path = str(engine.url.database).removeprefix("file:")

    @event.listens_for(engine, "do_connect")
    def open_file(*_: Any) -> None:
        if _identity(path) is None:
            if not may_create.get():  # a new, empty file would hide that the URL is wrong or the file is lost
                message = f"the database file {path} does not exist: run `flask db upgrade`"
                raise sqlite3.OperationalError(message)
            _make_private(path)

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, record: Any) -> None:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")
        record.info["file"] = _identity(path)

    @event.listens_for(engine, "checkout")
    def check_file(connection: Any, record: Any, _proxy: Any) -> None:
        # An open connection keeps a file that was deleted or replaced, and what it writes there is lost.
        if _identity(path) != record.info["file"]:
            raise DisconnectionError("the database file was deleted or replaced")
        ends_at = deadline.get()
        left = _PATIENCE if ends_at is None else ends_at - monotonic()
        if left < _PATIENCE:  # an earlier statement of the request waited for the lock
            connection.execute(f"PRAGMA busy_timeout={max(1, int(left * 1000))}")
            record.info["hurried"] = True
        elif record.info.pop("hurried", False):
            connection.execute(f"PRAGMA busy_timeout={SERVER_TIMEOUT_MS}")


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 -- on the way of every statement
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _make_private(path: str) -> None:
    """Create a file that is readable by this user only. SQLite's would be by all.

    Raises:
        OSError: for example, there is no such folder, or it is read-only.
    """
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
