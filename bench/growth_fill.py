"""A database as it is after years: N sessions of N/10 users, made in minutes.

    python -m bench.growth_fill DATABASE_URL 1e7

The tables are those of the migrations, the ids and times such as the product makes. Of ten sessions eight are live, one
was ended, one has been over for so long that it may be pruned. Rows go in by COPY (PostgreSQL) or in long transactions
(SQLite); secondary indexes and the foreign key are laid aside meanwhile, and made again as they were.
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
LIVE_FROM, DEAD_FROM, DEAD_UNTIL = timedelta(days=23), timedelta(days=90), timedelta(days=62)
IDLE, WHOLE = timedelta(days=7), timedelta(days=30)
AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"
# What a hash looks like; nobody signs in with it.
HASH = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$" + "A" * 43
USERS = ("id", "username", "password_hash", "password_changed_at", "created_at")
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


class Texts:
    """Random texts of 22 characters, as many as are asked for, cut from one long random one."""

    def __init__(self) -> None:
        self._text, self._at = "", 0

    def take(self) -> str:
        """Return the next one."""
        if self._at + 22 > len(self._text):
            self._text, self._at = secrets.token_urlsafe(600_000), 0
        self._at += 22
        return self._text[self._at - 22 : self._at]


def an_id(moment: datetime, texts: Texts) -> str:
    """Make an id as the product does: the time, so that ids sort by it, and 128 random bits."""
    return f"{int(moment.timestamp() * 1000):012x}{texts.take()}"


def user_ids(count: int, began: datetime) -> list[str]:
    """Make the ids of the users, in their order."""
    texts = Texts()
    return [an_id(began + timedelta(milliseconds=number), texts) for number in range(count)]


def users(ids: list[str], began: datetime) -> Iterator[Row]:
    """Make the rows of the users."""
    for number, user_id in enumerate(ids):
        yield user_id, f"user{number:08d}", HASH, began, began


def sessions(count: int, ids: list[str], now: datetime) -> Iterator[Row]:
    """Make the rows of the sessions in the order in which they were opened, the dead ones first."""
    texts, pick, uniform = Texts(), random.choice, random.random
    dead = count // PER_USER
    for number in range(count):
        if number < dead:
            created = now - DEAD_FROM + (DEAD_FROM - DEAD_UNTIL) * (number / dead)
            used, ended = created + timedelta(days=uniform()), number % 2 == 0
        else:
            created = now - LIVE_FROM * (1 - (number - dead) / (count - dead)) - timedelta(minutes=10)
            used, ended = max(created, now - timedelta(minutes=5) - timedelta(days=6) * uniform()), number % 9 == 0
        address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        yield (
            an_id(created, texts),
            pick(ids),
            texts.take(),
            texts.take(),
            1 + number % 300,
            created,
            created,
            used,
            min(used + IDLE, created + WHOLE),
            created + WHOLE,
            used if ended else None,
            "logout" if ended else None,
            address,
            AGENT,
        )


class Sqlite:
    """A SQLite file, filled with nothing that slows filling down."""

    def __init__(self, path: str) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        for pragma in ("synchronous=OFF", "cache_size=-2000000", "temp_store=MEMORY", "wal_autocheckpoint=100000"):
            self._connection.execute(f"PRAGMA {pragma}")

    def set_aside(self) -> list[str]:
        """Drop secondary indexes; return what makes them again."""
        found = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'sessions' AND sql NOT NULL"
        rows = self._connection.execute(found).fetchall()
        for name, _ in rows:
            self._connection.execute(f"DROP INDEX {name}")
        return [sql for _, sql in rows]

    def insert(self, table: str, columns: tuple[str, ...], rows: list[Row]) -> None:
        """Add rows."""
        marks = ", ".join("?" * len(columns))
        into = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})"  # noqa: S608 -- names of our own
        texts = [tuple(f"{v:%Y-%m-%d %H:%M:%S.%f}" if v.__class__ is datetime else v for v in row) for row in rows]
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(into, texts)
        self._connection.execute("COMMIT")

    def restore(self, statements: list[str]) -> None:
        """Make the indexes again, and say what the planner should know."""
        for statement in [*statements, "ANALYZE", "PRAGMA wal_checkpoint(TRUNCATE)"]:
            self._connection.execute(statement)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


class Postgresql:
    """A PostgreSQL database, filled by COPY."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)
        self._connection.execute("SET maintenance_work_mem = '1GB'")
        self._connection.execute("SET synchronous_commit = off")

    def set_aside(self) -> list[str]:
        """Drop secondary indexes and the foreign key; return what makes them again."""
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
        """Make indexes and key again, and leave the table as autovacuum would."""
        for statement in [*statements, "VACUUM ANALYZE", "CHECKPOINT"]:
            self._run(statement)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _run(self, statement: str) -> None:
        self._connection.execute(statement.encode())


def fill(url: str, count: int) -> None:
    """Make the tables in the empty database `url`, and fill them."""
    app = make_app(url)
    with app.app_context():
        flask_migrate.upgrade()
        db.engine.dispose()
    now = datetime.now(UTC)
    began = now - timedelta(days=400)
    ids = user_ids(max(1, count // PER_USER), began)
    parts = make_url(url)
    store = Sqlite(str(parts.database)) if parts.drivername.startswith("sqlite") else Postgresql(url)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with closing(store), Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn()) as progress:
        statements = store.set_aside()
        for table, names, rows, total in (
            ("users", USERS, users(ids, began), len(ids)),
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
