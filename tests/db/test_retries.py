"""Transactions that PostgreSQL refuses for what others did: done again a few times, then 503, and never half an effect.

What happens where many of them really meet is shown in test_races.py, on a database that is set to be serializable.
"""

import psycopg
import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient

from tests.support.app import PASSWORD, create_user
from tokenapp import db
from tokenapp.models import AuditEvent, Session

pytestmark = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
CODES = ["40001", "40P01"]


def refuse_writes(url: str, table: str, code: str, *, times: int) -> None:
    """Let the database refuse the next transactions that write to `table`, so many times.

    A sequence counts them: it is not taken back with the transaction.
    """
    body = f"IF nextval('refusals') <= {times} THEN RAISE EXCEPTION 'met others' USING ERRCODE = '{code}'; END IF;"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE SEQUENCE refusals")
        connection.execute(
            f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NEW; END $$".encode()
        )
        # At the end of the transaction: there it is that engines find most conflicts, with all work done.
        connection.execute(
            f"CREATE CONSTRAINT TRIGGER refusing AFTER INSERT OR UPDATE ON {table}"
            " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()".encode()
        )


def tries(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT last_value FROM refusals").fetchone()
        return int(row[0]) if row else 0


def sign_in(app: Flask) -> FlaskClient:
    """Return a browser that is signed in."""
    create_user(app)
    browser = app.test_client()
    assert browser.post("/api/login", json={"username": "alice", "password": PASSWORD}).status_code == 200
    return browser


def stored(app: Flask) -> tuple[list[int], int]:
    """Return the generations of all sessions, and how many records the trail has."""
    with app.app_context(), db.reading() as session:
        generations = list(session.scalars(sa.select(Session.generation)))
        return generations, session.scalar(sa.select(sa.func.count()).select_from(AuditEvent)) or 0


@pytest.mark.parametrize("code", CODES)
def test_a_refresh_that_met_others_is_done_again(app: Flask, database_url: str, code: str) -> None:
    browser = sign_in(app)
    refuse_writes(database_url, "sessions", code, times=3)
    assert browser.post("/api/token").status_code == 200
    assert (stored(app)[0], tries(database_url)) == ([1], 4)


@pytest.mark.parametrize("code", CODES)
def test_a_sign_in_and_a_sign_out_that_met_others_are_done_again_and_recorded_once(
    app: Flask, database_url: str, code: str
) -> None:
    browser = sign_in(app)
    _, before = stored(app)
    refuse_writes(database_url, "events", code, times=2)
    assert browser.post("/api/logout").status_code == 204
    assert browser.post("/api/login", json={"username": "alice", "password": PASSWORD}).status_code == 200
    assert stored(app) == ([0, 0], before + 2)


def test_a_new_password_that_met_others_is_stored(app: Flask, database_url: str) -> None:
    bearer = (sign_in(app).post("/api/token").json or {})["accessToken"]
    refuse_writes(database_url, "users", "40001", times=2)
    reply = app.test_client().put(
        "/api/me/password",
        json={"currentPassword": PASSWORD, "newPassword": "another horse, another staple"},
        headers={"Authorization": f"Bearer {bearer}"},
    )
    assert (reply.status_code, tries(database_url)) == (204, 3)


def test_whoever_meets_others_every_time_is_told_to_come_back(app: Flask, database_url: str) -> None:
    browser = sign_in(app)
    before = stored(app)
    refuse_writes(database_url, "sessions", "40001", times=1_000_000)
    for path in ("/api/token", "/api/logout"):
        reply = browser.post(path)
        assert (reply.status_code, reply.headers.get("Set-Cookie")) == (503, None)
        assert int(reply.headers["Retry-After"]) > 0
    assert stored(app) == before
    assert tries(database_url) <= 20
