"""The circuit breakers: one probe at a time while the database is unavailable."""

from time import monotonic

import pytest
import sqlalchemy as sa
from flask import Flask

from tokenapp import db
from tokenapp.db import Database, DatabaseUnavailableError
from tokenapp.db.breaker import Breaker
from tokenapp.models import User

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
READ = db.Statement(sa.select(User.id))
WRITE = sa.delete(User)


@pytest.fixture
def database(app: Flask) -> Database:
    """Return the application's database."""
    with app.app_context():
        return db.current()


def make_probe_due(breaker: Breaker) -> None:
    """Open the breaker, with the interval between probes over."""
    breaker.trip()
    breaker.retry_at = monotonic()


def test_tripped_breaker_rejects_calls_until_a_probe_is_due(app: Flask, database: Database) -> None:
    with app.app_context():
        database.server.trip()
        with pytest.raises(DatabaseUnavailableError):
            db.run(READ)
        make_probe_due(database.server)
        assert db.run(READ) == []
        assert db.run(READ) == []


def test_only_one_call_is_the_probe(database: Database) -> None:
    make_probe_due(database.server)
    database.server.admit()
    with pytest.raises(DatabaseUnavailableError):
        database.server.admit()
    database.server.close()
    database.server.admit()


def test_reads_are_served_while_writes_are_rejected(app: Flask, database: Database) -> None:
    with app.app_context():
        database.writes.trip()
        assert db.run(READ) == []
        with pytest.raises(DatabaseUnavailableError):
            db.execute_now(WRITE)


def test_write_that_its_own_breaker_rejects_is_not_the_probe_of_the_server(app: Flask, database: Database) -> None:
    with app.app_context():
        make_probe_due(database.server)
        database.writes.trip()
        guard = db._Guard(database, writes=True)
        with pytest.raises(DatabaseUnavailableError):
            guard.__enter__()
        assert db.run(READ) == []
