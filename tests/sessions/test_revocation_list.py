"""The revocation list: read as a whole once, then only what is new (S11)."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from flask import Flask
from sqlalchemy import event

from tests.conftest import Databases, Servers
from tests.support.access_keys import statements_of
from tests.support.app import application, create_user
from tests.support.client import sign_in
from tests.support.concurrency import at_once
from tokenapp import accounts, db, sessions
from tokenapp.db import DatabaseUnavailableError
from tokenapp.models import Session
from tokenapp.sessions import revocation_list

ACCESS_LIFETIME = timedelta(minutes=15)
CLOCK_SKEW = timedelta(seconds=60)


def open_sessions(app: Flask, count: int, now: datetime) -> list[str]:
    """Open sessions for a new user and return their ids."""
    create_user(app)
    with app.app_context():
        user = accounts.find("alice")
        return [sessions.open_session(user, now).sid for _ in range(count)]


def revoke_at(sid: str, moment: datetime) -> None:
    """Revoke a session as a host does whose clock shows `moment`."""
    db.execute_now(sa.update(Session).where(Session.id == sid).values(revoked_at=moment, revoked_reason="logout"))


def set_database_clock(monkeypatch: pytest.MonkeyPatch, moment: datetime) -> None:
    """Make the database's clock show `moment` to the revocation list."""
    monkeypatch.setattr(revocation_list, "_CLOCK", sa.select(sa.literal(moment, db.Instant())))


def listed(now: datetime, sids: list[str]) -> list[bool]:
    """Return which sessions are on the list."""
    return [revocation_list.is_revoked(sid, now) for sid in sids]


def test_revocation_that_another_host_dates_back_is_noticed(app: Flask) -> None:
    now = datetime.now(UTC)
    sids = open_sessions(app, 3, now)
    with app.app_context():
        assert listed(now, sids) == [False] * 3
        revoke_at(sids[0], now - CLOCK_SKEW)
        revoke_at(sids[1], now + CLOCK_SKEW)
        assert listed(now + timedelta(seconds=2), sids) == [True, True, False]


def test_revocation_stays_listed_as_long_as_an_access_token_can_live(app: Flask) -> None:
    now = datetime.now(UTC)
    (sid,) = open_sessions(app, 1, now)
    with app.app_context():
        sessions.revoke(sid, "logout", now)
        for minutes in range(15):
            assert revocation_list.is_revoked(sid, now + timedelta(minutes=minutes))
        assert revocation_list.is_revoked(sid, now + ACCESS_LIFETIME)


def test_revocation_leaves_the_list_when_its_tokens_have_expired(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime.now(UTC)
    (sid,) = open_sessions(app, 1, now)
    with app.app_context():
        sessions.revoke(sid, "logout", now)
        assert revocation_list.is_revoked(sid, now)
        later = now + ACCESS_LIFETIME + 3 * CLOCK_SKEW
        set_database_clock(monkeypatch, later)
        assert not revocation_list.is_revoked(sid, later)
        assert revocation_list.state() == (0, later)


def test_renewal_reads_only_what_is_new(app: Flask) -> None:
    now = datetime.now(UTC)
    old = open_sessions(app, 20, now)
    with app.app_context():
        for sid in old:
            revoke_at(sid, now - timedelta(minutes=10))
        assert listed(now, old) == [True] * 20
        read_since: list[datetime] = []

        @event.listens_for(db.db.engine, "before_execute")
        def note(*arguments: Any) -> None:
            read_since.extend(value for name, value in arguments[3].items() if name == "since")

        later = now + timedelta(minutes=5)
        assert listed(now + timedelta(seconds=2), old) == listed(later, old) == [True] * 20
        assert len(read_since) == 2
        assert all(now - 2 * CLOCK_SKEW < since < now - CLOCK_SKEW for since in read_since)


def test_list_of_many_pages_is_complete(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revocation_list, "PAGE", 3)
    now = datetime.now(UTC)
    sids = open_sessions(app, 8, now)
    with app.app_context():
        for sid in sids[:7]:
            revoke_at(sid, now)
        assert listed(now, sids) == [True] * 7 + [False]


def test_next_request_continues_a_read_that_ran_out_of_time(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revocation_list, "PAGE", 2)
    now = datetime.now(UTC)
    sids = open_sessions(app, 10, now)
    with app.app_context():
        for number, sid in enumerate(sids):
            revoke_at(sid, now - timedelta(seconds=600 - number))
        read_since: list[datetime] = []

        @event.listens_for(db.db.engine, "before_execute")
        def fail_twice(*arguments: Any) -> None:
            reads = "since" in arguments[3]
            if reads:
                read_since.append(arguments[3]["since"])
            if reads and len(read_since) in {3, 6}:
                raise DatabaseUnavailableError("the request's time is over")

        for _ in range(2):
            with pytest.raises(DatabaseUnavailableError):
                revocation_list.is_revoked(sids[0], now)
        assert revocation_list.is_revoked(sids[9], now)
        assert read_since[:7] == sorted(read_since[:7]), "a page was read twice"


def test_database_clock_that_is_set_back_loses_no_revocation(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime.now(UTC)
    (sid,) = open_sessions(app, 1, now)
    with app.app_context():
        revoke_at(sid, now - timedelta(minutes=5))
        set_database_clock(monkeypatch, now + timedelta(days=1))
        assert not revocation_list.is_revoked(sid, now + timedelta(days=1))
        set_database_clock(monkeypatch, now)
        assert revocation_list.is_revoked(sid, now)


def test_bearer_requests_read_list_and_keys_at_most_once_per_revocation_delay(app: Flask) -> None:
    create_user(app)
    client = sign_in(app)
    statements = statements_of(app)
    began = monotonic()

    def send_many() -> Counter[int]:
        return Counter(client.protected().status for _ in range(500))

    assert sum(at_once(*[send_many] * 4), Counter()) == {200: 2000}
    for table in ("FROM sessions", "FROM signing_keys"):
        count = sum(table in statement for statement in statements)
        assert count <= monotonic() - began + 2, f"{count} times {table} in {monotonic() - began:.1f} s"
    assert all("SELECT" in statement for statement in statements)


def test_bearer_requests_to_several_processes_read_the_list_once_per_process_and_delay(
    databases: Databases, serve: Servers
) -> None:
    delay = 0.2
    url = databases("postgresql")
    with application(url) as app:
        create_user(app)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {connection.info.dbname} SET log_statement = 'all'")
        directory = connection.execute("SHOW data_directory").fetchone()
    client = sign_in(serve(url, TOKENAPP_REVOCATION_DELAY=str(delay)).port)
    at_once(*[client.protected] * 8)
    log = Path(directory[0] if directory else "").parent / "log"
    began, before = monotonic(), log.read_text().count("FROM sessions")

    def send_many() -> Counter[int]:
        return Counter(client.protected().status for _ in range(75))

    assert sum(at_once(*[send_many] * 8), Counter()) == {200: 600}
    seconds, statements = monotonic() - began, log.read_text().count("FROM sessions") - before
    assert 1 <= statements <= 2 * (seconds / delay + 2), f"{statements} statements of 2 workers in {seconds:.1f} s"
