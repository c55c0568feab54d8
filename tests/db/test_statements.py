"""Statements that run on the driver's own connection."""

from datetime import UTC, datetime

import psycopg
import pytest
import sqlalchemy as sa
from flask import Flask
from sqlalchemy.exc import IntegrityError, OperationalError

from tokenapp import db
from tokenapp.models import Client

SECRET = "a value that no error may repeat"
INSERT = db.Statement(
    sa.insert(Client)
    .values(id=sa.bindparam("id"), name="a constant", secret_hash=sa.bindparam("secret"), created_at=sa.bindparam("at"))
    .returning(Client.id, Client.name, Client.created_at)
)
COUNT = db.Statement(sa.select(sa.func.count().label("count")).select_from(Client).where(Client.name == "a constant"))


def test_values_and_rows_are_converted(app: Flask) -> None:
    now = datetime.now(UTC)
    with app.app_context():
        (row,) = db.run(INSERT, id="one", secret=SECRET, at=now)
        assert (row.id, row.name, row.created_at) == ("one", "a constant", now)
        assert db.run(COUNT)[0].count == 1


def test_error_is_that_of_sqlalchemy_and_shows_no_values(app: Flask) -> None:
    now = datetime.now(UTC)
    with app.app_context():
        db.run(INSERT, id="one", secret=SECRET, at=now)
        with pytest.raises(IntegrityError) as caught:
            db.run(INSERT, id="one", secret=SECRET, at=now)
        assert SECRET not in str(caught.value)
        assert db.run(COUNT)[0].count == 1


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_lost_connection_discards_all_that_were_opened_before(app: Flask, database_url: str) -> None:
    with app.app_context():
        for connection in [db.db.engine.connect() for _ in range(3)]:
            connection.close()
        with psycopg.connect(database_url, autocommit=True) as operator:
            operator.execute(
                "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        with pytest.raises(OperationalError) as caught:
            db.run(COUNT)
        assert caught.value.connection_invalidated
        for _ in range(3):
            assert db.run(COUNT)[0].count == 0
