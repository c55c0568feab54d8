"""Fill a database with N sessions of N/10 users, as after years of use.

    python -m bench.growth_fill DATABASE_URL 1e7

The migrations create the tables, and ids and times are like those of the application. Of ten sessions eight are live,
one is revoked, and one ended so long ago that it can be pruned. Rows are inserted with COPY (PostgreSQL) or in long
transactions (SQLite). Secondary indexes and the foreign key are dropped first, and created again at the end.
"""

import random
import secrets
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import flask_migrate
import psycopg
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from sqlalchemy.engine import make_url

from tests.support.app import make_app
from tokenapp.db import db

BATCH = 50_000
PER_USER = 10
LIVE_FROM, EXPIRED_FROM, EXPIRED_UNTIL = timedelta(days=23), timedelta(days=90), timedelta(days=62)
IDLE, WHOLE = timedelta(days=7), timedelta(days=30)
AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"
# It has the form of a hash, but no password matches it.
HASH = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$" + "A" * 43
USERS = ("id", "username", "password_hash", "credentials_changed_at", "created_at")
SESSIONS = (
    "id",
    "user_id",
    "current_jti",
    "previous_jti",
    "generation",
    "created_at",
    "authenticated_at",
    "rotated_at",
    "expires_at",
    "ends_at",
    "revoked_at",
    "revoked_reason",
    "ip_address",
    "user_agent",
)
Row = tuple[Any, ...]


class RandomStrings:
    """A source of random strings of 22 characters, cut from a longer one."""

    def __init__(self) -> None:
        self._text, self._at = "", 0

    def take(self) -> str:
        """Return the next string."""
        if self._at + 22 > len(self._text):
            self._text, self._at = secrets.token_urlsafe(600_000), 0
        self._at += 22
        return self._text[self._at - 22 : self._at]


def make_id(moment: datetime, texts: RandomStrings) -> str:
    """Return an id like those of the application: the time and 128 random bits."""
    return f"{int(moment.timestamp() * 1000):012x}{texts.take()}"


def user_ids(count: int, start: datetime) -> list[str]:
    """Return the ids of the users in ascending order."""
    texts = RandomStrings()
    return [make_id(start + timedelta(milliseconds=number), texts) for number in range(count)]


def users(ids: list[str], start: datetime) -> Iterator[Row]:
    """Yield the rows of the users."""
    for number, user_id in enumerate(ids):
        yield user_id, f"user{number:08d}", HASH, start, start


def sessions(count: int, ids: list[str], now: datetime) -> Iterator[Row]:
    """Yield the rows of the sessions by creation time, the expired ones first."""
    texts, pick, uniform = RandomStrings(), random.choice, random.random
    expired = count // PER_USER
    for number in range(count):
        if number < expired:
            created = now - EXPIRED_FROM + (EXPIRED_FROM - EXPIRED_UNTIL) * (number / expired)
            used, revoked = created + timedelta(days=uniform()), number % 2 == 0
        else:
            created = now - LIVE_FROM * (1 - (number - expired) / (count - expired)) - timedelta(minutes=10)
            used, revoked = max(created, now - timedelta(minutes=5) - timedelta(days=6) * uniform()), number % 9 == 0
        address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        yield (
            make_id(created, texts),
            pick(ids),
            texts.take(),
            texts.take(),
            1 + number % 300,
            created,
            created,
            used,
            min(used + IDLE, created + WHOLE),
            created + WHOLE,
            used if revoked else None,
            "logout" if revoked else None,
            address,
            AGENT,
        )


class Sqlite:
    """A SQLite file with settings for fast inserts."""

    def __init__(self, path: str) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        for pragma in ("synchronous=OFF", "cache_size=-2000000", "temp_store=MEMORY", "wal_autocheckpoint=100000"):
            self._connection.execute(f"PRAGMA {pragma}")

    def drop_indexes(self) -> list[str]:
        """Drop secondary indexes; return the statements that create them."""
        found = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'sessions' AND sql NOT NULL"
        rows = self._connection.execute(found).fetchall()
        for name, _ in rows:
            self._connection.execute(f"DROP INDEX {name}")
        return [sql for _, sql in rows]

    def insert(self, table: str, columns: tuple[str, ...], rows: list[Row]) -> None:
        """Add rows."""
        marks = ", ".join("?" * len(columns))
        into = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})"  # noqa: S608 -- constant names
        texts = [tuple(f"{v:%Y-%m-%d %H:%M:%S.%f}" if v.__class__ is datetime else v for v in row) for row in rows]
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(into, texts)
        self._connection.execute("COMMIT")

    def restore(self, statements: list[str]) -> None:
        """Create the indexes again and update the planner's statistics."""
        for statement in [*statements, "ANALYZE", "PRAGMA wal_checkpoint(TRUNCATE)"]:
            self._connection.execute(statement)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


class Postgresql:
    """A PostgreSQL database, filled with COPY."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)
        self._connection.execute("SET maintenance_work_mem = '1GB'")
        self._connection.execute("SET synchronous_commit = off")

    def drop_indexes(self) -> list[str]:
        """Drop indexes and the foreign key; return the statements that create them."""
        indexes = self._connection.execute(
            "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'sessions' AND indexname LIKE 'ix%'"
        ).fetchall()
        keys = self._connection.execute(
            "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint"
            " WHERE conrelid = 'sessions'::regclass AND contype = 'f'"
        ).fetchall()
        for name, _ in indexes:
            self._run(f"DROP INDEX {name}")
        for name, _ in keys:
            self._run(f"ALTER TABLE sessions DROP CONSTRAINT {name}")
        return [row[1] for row in indexes] + [f"ALTER TABLE sessions ADD CONSTRAINT {n} {what}" for n, what in keys]

    def insert(self, table: str, columns: tuple[str, ...], rows: list[Row]) -> None:
        """Add rows."""
        with (
            self._connection.cursor() as cursor,
            cursor.copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN".encode()) as copy,
        ):
            lines = ("\t".join(r"\N" if value is None else str(value) for value in row) for row in rows)
            copy.write("\n".join(lines) + "\n")

    def restore(self, statements: list[str]) -> None:
        """Create the indexes and the key again, and vacuum the tables."""
        for statement in [*statements, "VACUUM ANALYZE", "CHECKPOINT"]:
            self._run(statement)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _run(self, statement: str) -> None:
        self._connection.execute(statement.encode())


def fill(url: str, count: int) -> None:
    """Create the tables in the empty database `url` and fill them."""
    app = make_app(url)
    with app.app_context():
        flask_migrate.upgrade()
        db.engine.dispose()
    now = datetime.now(UTC)
    start = now - timedelta(days=400)
    ids = user_ids(max(1, count // PER_USER), start)
    parts = make_url(url)
    store = Sqlite(str(parts.database)) if parts.drivername.startswith("sqlite") else Postgresql(url)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with closing(store), Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn()) as progress:
        statements = store.drop_indexes()
        for table, names, rows, total in (
            ("users", USERS, users(ids, start), len(ids)),
            ("sessions", SESSIONS, sessions(count, ids, now), count),
        ):
            task = progress.add_task(table, total=total)
            batch: list[Row] = []
            for row in rows:
                batch.append(row)
                if len(batch) == BATCH:
                    store.insert(table, names, batch)
                    progress.advance(task, len(batch))
                    batch = []
            if batch:
                store.insert(table, names, batch)
                progress.advance(task, len(batch))
        task = progress.add_task("indexes", total=1)
        store.restore(statements)
        progress.advance(task)


if __name__ == "__main__":
    fill(sys.argv[1], int(float(sys.argv[2])))
