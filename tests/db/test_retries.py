"""Transactions that PostgreSQL aborts: repeated a few times, then 503.

The race tests of the sessions run on a serializable database, where transactions really conflict.
"""

import psycopg
import pytest
import sqlalchemy as sa
from flask import Flask

from tests.support.app import PASSWORD, create_user
from tests.support.client import Client, sign_in
from tokenapp import db
from tokenapp.models import AuditEvent, Session

pytestmark = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
CODES = ["40001", "40P01"]


def abort_writes(url: str, table: str, code: str, *, times: int) -> None:
    """Make the database abort the next `times` transactions that write to `table`.

    A sequence counts them, because the transaction's rollback does not reset it.
    """
    body = f"IF nextval('aborts') <= {times} THEN RAISE EXCEPTION 'conflict' USING ERRCODE = '{code}'; END IF;"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE SEQUENCE aborts")
        connection.execute(
            f"CREATE FUNCTION abort() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NEW; END $$".encode()
        )
        # Databases find most conflicts at the end of a transaction, when all its work is done.
        connection.execute(
            f"CREATE CONSTRAINT TRIGGER aborting AFTER INSERT OR UPDATE ON {table}"
            " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION abort()".encode()
        )


def tries(url: str) -> int:
    """Return how many transactions wrote to the table."""
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT last_value FROM aborts").fetchone()
        return int(row[0]) if row else 0


@pytest.fixture
def client(app: Flask) -> Client:
    """Return a client that is signed in."""
    create_user(app)
    return sign_in(app)


def stored(app: Flask) -> tuple[list[int], int]:
    """Return the generations of all sessions, and the number of audit events."""
    with app.app_context(), db.reading() as session:
        generations = list(session.scalars(sa.select(Session.generation)))
        return generations, session.scalar(sa.select(sa.func.count()).select_from(AuditEvent)) or 0


@pytest.mark.parametrize("code", CODES)
def test_aborted_refresh_is_repeated(app: Flask, client: Client, database_url: str, code: str) -> None:
    abort_writes(database_url, "sessions", code, times=3)
    assert client.refresh().status == 200
    assert (stored(app)[0], tries(database_url)) == ([1], 4)


@pytest.mark.parametrize("code", CODES)
def test_aborted_sign_in_and_sign_out_are_repeated_and_recorded_once(
    app: Flask, client: Client, database_url: str, code: str
) -> None:
    _, before = stored(app)
    abort_writes(database_url, "events", code, times=2)
    assert client.logout().status == 204
    assert client.login().status == 200
    assert stored(app) == ([0, 0], before + 2)


def test_aborted_change_of_password_is_repeated(client: Client, database_url: str) -> None:
    abort_writes(database_url, "users", "40001", times=2)
    body = {"currentPassword": PASSWORD, "newPassword": "another horse, another staple"}
    assert client.call("PUT", "/api/me/password", payload=body).status == 204
    assert tries(database_url) == 3


def test_request_that_is_aborted_every_time_is_503_and_changes_nothing(
    app: Flask, client: Client, database_url: str
) -> None:
    before = stored(app)
    abort_writes(database_url, "sessions", "40001", times=1_000_000)
    for response in (client.refresh(), client.logout()):
        assert (response.status, response.all("Set-Cookie")) == (503, [])
        assert int(response.header("Retry-After") or 0) > 0
    assert stored(app) == before
    assert tries(database_url) <= 20
