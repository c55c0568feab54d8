"""The indexes that statements on sessions use: none reads all sessions."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import psycopg
import pytest
import sqlalchemy as sa
from flask import Flask
from sqlalchemy import event

from bench.growth_fill import fill
from tests.conftest import Databases
from tests.support.app import application
from tokenapp import accounts, db, sessions
from tokenapp.models import RefreshClaims, Session, User
from tokenapp.sessions import revocation_list

COUNT: Final = 6000
BY_KEY, BY_USER, BY_REVOCATION, BY_LIMIT = (
    "pk_sessions",
    "ix_sessions_live_user",
    "ix_sessions_revoked_at",
    "ix_sessions_ends_at",
)
COUNTERS: Final = "SELECT indexrelname, idx_scan FROM pg_stat_user_indexes WHERE relname = 'sessions'"
SCANS: Final = "SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'sessions'"


@dataclass
class Large:
    """A database with thousands of sessions.

    `one` is a live session, and `user` has some of them. `statements` are those that SQLite ran.
    """

    app: Flask
    url: str
    one: RefreshClaims
    user: User
    statements: list[str] = field(default_factory=list)

    def indexes_of(self, work: Callable[[], object]) -> set[str]:
        """Do `work` and return the indexes on sessions that it used.

        A scan of the table counts as ``none``.
        """
        with self.app.app_context():
            if db.db.engine.dialect.name == "sqlite":
                return self._planned(work)
            before = self._counters()
            work()
            after = self._counters()
        return {name for name, count in after.items() if count > before[name]}

    def _counters(self) -> dict[str, int]:
        """Return how often PostgreSQL has used each index."""
        db.execute_now(sa.text("SELECT pg_stat_force_next_flush()"))
        with psycopg.connect(self.url) as connection:
            scans = connection.execute(SCANS).fetchone()
            return {**dict(connection.execute(COUNTERS).fetchall()), "none": scans[0] if scans else 0}

    def _planned(self, work: Callable[[], object]) -> set[str]:
        """Return the indexes in SQLite's query plans of the statements of `work`."""
        self.statements.clear()
        work()
        found = set()
        relevant = [text for text in self.statements if " sessions" in text and not text.startswith("INSERT")]
        with db.db.engine.connect() as connection:
            for statement in relevant:
                for row in connection.exec_driver_sql("EXPLAIN QUERY PLAN " + statement):
                    if "sessions" in row.detail:
                        detail = row.detail.replace("sqlite_autoindex_sessions_1", BY_KEY)
                        found.add(detail.split("INDEX ")[1].split()[0] if "SEARCH" in detail else "none")
        return found


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def large(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Large]:
    """Fill a database of each kind."""
    url = databases(request.param)
    fill(url, COUNT)
    with application(url) as app:
        statements: list[str] = []
        with app.app_context():

            @event.listens_for(db.db.engine, "connect")
            def trace(connection: Any, _record: Any) -> None:
                if request.param == "sqlite":
                    connection.set_trace_callback(statements.append)

            with db.reading() as reader:
                live = sa.select(Session).where(Session.revoked_at.is_(None)).order_by(Session.id.desc()).limit(1)
                row = reader.scalars(live).one()
                user = reader.get_one(User, row.user_id)
        yield Large(app, url, RefreshClaims(row.id, row.current_jti, row.generation), user, statements)


NOW: Final = datetime.now(UTC)
OPERATIONS: Final[dict[str, tuple[Callable[[Large], object], set[str]]]] = {
    "refresh": (lambda large: sessions.refresh(large.one, datetime.now(UTC)), {BY_KEY}),
    "look up": (lambda large: sessions.exists(large.one.sid), {BY_KEY}),
    "sign in": (lambda large: sessions.open_session(large.user, NOW, replaces="unknown"), {BY_KEY, BY_USER}),
    "revoke": (lambda large: sessions.revoke_own(large.user.id, "unknown", NOW, by=large.one.sid), {BY_KEY}),
    "list": (lambda large: sessions.page_of(large.user.id, NOW, before=None, limit=50), {BY_USER}),
    "revoke all": (
        lambda large: sessions.revoke_all_of(large.user.id, "operator", NOW, keep=large.one.sid),
        {BY_USER},
    ),
    "disable": (lambda large: accounts.disable(large.user, NOW), {BY_USER}),
    "revocation list": (lambda _: revocation_list.is_revoked("unknown", datetime.now(UTC)), {BY_REVOCATION}),
    "feed": (lambda _: sessions.revoked_since(None), {BY_REVOCATION}),
    "prune": (lambda _: sum(sessions.prune(NOW, timedelta(days=30))), {BY_REVOCATION, BY_LIMIT, BY_KEY}),
    "operator's list": (lambda large: sessions.list_sessions(NOW, after=large.one.sid, limit=10), {BY_KEY}),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_uses_its_index(large: Large, name: str) -> None:
    operation, indexes = OPERATIONS[name]
    # PostgreSQL's planner may look at the ends of an index, which counts as a use.
    assert indexes <= large.indexes_of(lambda: operation(large)) <= indexes | {BY_KEY}


@pytest.mark.parametrize("large", ["postgresql"], indirect=True)
def test_rotation_changes_no_index(large: Large) -> None:
    updates = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'sessions'"
    live = sa.select(Session).where(Session.revoked_at.is_(None), Session.expires_at > datetime.now(UTC))

    def counters() -> tuple[int, int]:
        db.execute_now(sa.text("SELECT pg_stat_force_next_flush()"))
        with psycopg.connect(large.url) as connection:
            row = connection.execute(updates).fetchone()
            return row or (0, 0)

    with large.app.app_context():
        with db.reading() as reader:
            rows = reader.scalars(live.limit(1000)).all()
        before = counters()
        for row in rows:
            sessions.refresh(RefreshClaims(row.id, row.current_jti, row.generation), datetime.now(UTC))
        after = counters()
    assert after[0] - before[0] == len(rows) == 1000
    assert after[1] - before[1] >= 950, "rotated rows did not fit on the pages of the old ones"
