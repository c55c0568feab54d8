"""Moments in time, stored and returned in UTC on both databases."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
import sqlalchemy as sa
from flask import Flask
from sqlalchemy.exc import StatementError

from tokenapp import db

MOMENT = datetime(2026, 1, 31, 23, 59, 59, 1, tzinfo=UTC)
ELSEWHERE = timezone(timedelta(hours=-5, minutes=-30))
ECHO = db.Statement(sa.select(sa.bindparam("at", type_=db.Instant()).label("at")))


def stored(app: Flask, value: datetime | None) -> datetime | None:
    """Send a moment to the database and return it, in both ways that there are."""
    with app.app_context():
        returned = db.execute_now(sa.select(sa.literal(value, db.Instant())))[0][0]
        assert db.run(ECHO, at=value)[0].at == returned
    assert returned is None or isinstance(returned, datetime)
    return returned


@pytest.mark.parametrize("moment", [MOMENT, MOMENT.replace(microsecond=0), MOMENT.astimezone(ELSEWHERE)])
def test_moment_is_returned_in_utc(app: Flask, moment: datetime) -> None:
    returned = stored(app, moment)
    assert returned == moment
    assert returned is not None
    assert returned.tzinfo is UTC


def test_no_moment_stays_none(app: Flask) -> None:
    assert stored(app, None) is None


def test_moment_without_a_time_zone_is_rejected(app: Flask) -> None:
    naive = MOMENT.replace(tzinfo=None)
    with app.app_context():
        with pytest.raises(StatementError, match="without a time zone"):
            db.execute_now(sa.select(sa.literal(naive, db.Instant())))
        with pytest.raises(ValueError, match="without a time zone"):
            db.run(ECHO, at=naive)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_sqlite_stores_moments_in_the_format_of_sqlalchemy(app: Flask) -> None:
    with app.app_context():
        query = sa.text("SELECT :at").bindparams(sa.bindparam("at", MOMENT.astimezone(ELSEWHERE), db.Instant()))
        assert db.execute_now(query)[0][0] == "2026-01-31 23:59:59.000001"


def test_not_before_is_the_later_of_a_moment_and_the_clock_of_the_database(app: Flask) -> None:
    def later(moment: datetime) -> datetime:
        found = db.execute_now(sa.select(db.not_before(sa.literal(moment, db.Instant()))))[0][0]
        assert isinstance(found, datetime)
        return found

    now, future = datetime.now(UTC), datetime.now(UTC) + timedelta(hours=1)
    with app.app_context():
        assert later(future) == future
        assert abs(later(now - timedelta(hours=1)) - now) < timedelta(minutes=1)
