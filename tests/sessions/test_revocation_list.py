"""The list of ended sessions that each process keeps: read whole once, and then only what is new."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from sqlalchemy import event

from tests.support.app import create_user
from tokenapp import accounts, db, sessions
from tokenapp.db import DatabaseUnavailableError
from tokenapp.models import Session
from tokenapp.sessions import revocation_list

ACCESS_LIFETIME = timedelta(minutes=15)
CLOCKS_APART = timedelta(seconds=60)


def open_some(count: int, now: datetime) -> list[str]:
    user = accounts.find("alice")
    return [sessions.open_session(user, now).sid for _ in range(count)]


def date_end(sid: str, moment: datetime) -> None:
    """End a session as a host does whose clock shows `moment`."""
    db.execute_now(sa.update(Session).where(Session.id == sid).values(revoked_at=moment, revoked_reason="logout"))


def known_at(now: datetime, sids: list[str]) -> list[bool]:
    return [revocation_list.is_revoked(sid, now) for sid in sids]


def test_an_end_that_another_host_dates_back_is_learnt_of(app: Flask) -> None:
    create_user(app)
    now = datetime.now(UTC)
    with app.app_context():
        sids = open_some(3, now)
        assert known_at(now, sids) == [False] * 3
        date_end(sids[0], now - CLOCKS_APART)
        date_end(sids[1], now + CLOCKS_APART)
        assert known_at(now + timedelta(seconds=2), sids) == [True, True, False]


def test_what_was_learnt_once_stays_known_while_a_token_may_live(app: Flask) -> None:
    create_user(app)
    now = datetime.now(UTC)
    with app.app_context():
        (sid,) = open_some(1, now)
        sessions.revoke(sid, "logout", now)
        for minutes in range(15):
            assert revocation_list.is_revoked(sid, now + timedelta(minutes=minutes))
        assert revocation_list.is_revoked(sid, now + ACCESS_LIFETIME)


def test_ends_that_no_token_outlives_are_forgotten(app: Flask) -> None:
    create_user(app)
    now = datetime.now(UTC)
    with app.app_context():
        (sid,) = open_some(1, now)
        sessions.revoke(sid, "logout", now)
        assert revocation_list.is_revoked(sid, now)
        later = now + ACCESS_LIFETIME + 3 * CLOCKS_APART
        assert not revocation_list.is_revoked(sid, later)
        assert revocation_list.state() == (0, later)


def test_a_later_reading_asks_for_what_is_new_only(app: Flask) -> None:
    create_user(app)
    now = datetime.now(UTC)
    with app.app_context():
        old = open_some(20, now)
        for sid in old:
            date_end(sid, now - timedelta(minutes=10))
        assert known_at(now, old) == [True] * 20
        asked: list[datetime] = []

        @event.listens_for(db.db.engine, "before_execute")
        def note(*told: Any) -> None:
            asked.append(told[3]["since"])

        later = now + timedelta(minutes=5)
        assert known_at(now + timedelta(seconds=2), old) == known_at(later, old) == [True] * 20
        assert len(asked) == 2
        assert all(now - 2 * CLOCKS_APART < since < now - CLOCKS_APART for since in asked), "each from the one before"


def test_a_list_of_many_pages_is_known_whole(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revocation_list, "PAGE", 3)
    create_user(app)
    now = datetime.now(UTC)
    with app.app_context():
        sids = open_some(8, now)
        for sid in sids[:7]:
            date_end(sid, now)
        assert known_at(now, sids) == [True] * 7 + [False]


def test_a_list_that_takes_longer_than_a_request_may_is_read_on_by_the_next(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revocation_list, "PAGE", 2)
    create_user(app)
    now = datetime.now(UTC)
    with app.app_context():
        sids = open_some(10, now)
        for number, sid in enumerate(sids):
            date_end(sid, now - timedelta(seconds=600 - number))
        asked: list[datetime] = []

        @event.listens_for(db.db.engine, "before_execute")
        def fail_twice(*told: Any) -> None:
            asked.append(told[3]["since"])
            if len(asked) in {3, 6}:
                raise DatabaseUnavailableError("the time of the request is over")

        for _ in range(2):
            with pytest.raises(DatabaseUnavailableError):
                revocation_list.is_revoked(sids[0], now)
        assert revocation_list.is_revoked(sids[9], now)
        assert asked[:7] == sorted(asked[:7]), "what was read before is not read again"


def test_a_clock_that_is_put_back_makes_nothing_be_forgotten(app: Flask) -> None:
    create_user(app)
    now = datetime.now(UTC)
    with app.app_context():
        (sid,) = open_some(1, now)
        date_end(sid, now - timedelta(minutes=5))
        assert not revocation_list.is_revoked(sid, now + timedelta(days=1))
        assert revocation_list.is_revoked(sid, now)
