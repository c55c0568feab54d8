"""A user has a limited number of sessions, and no user can slow down another."""

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from flask import Flask

from tests.conftest import Databases, Servers
from tests.support.app import create_user, make_app
from tests.support.client import Client, sign_in
from tests.support.concurrency import at_once
from tokenapp import db
from tokenapp.models import AuditEvent, Session

MANY = 20_000


def fill(app: Flask, user_id: str, number: int) -> None:
    """Add live sessions that were opened before the limit existed."""
    now = datetime.now(UTC)
    rows = [
        {
            "id": db.new_id(now - timedelta(hours=1)),
            "user_id": user_id,
            "current_jti": "unused",
            "generation": 0,
            "created_at": now,
            "authenticated_at": now,
            "expires_at": now + timedelta(days=1),
            "ends_at": now + timedelta(days=2),
        }
        for _ in range(number)
    ]
    with app.app_context(), db.current().engine.begin() as connection:
        connection.execute(sa.insert(Session), rows)


def live(app: Flask, user_id: str) -> int:
    with app.app_context():
        live = sa.select(sa.func.count()).where(Session.user_id == user_id, Session.revoked_at.is_(None))
        return int(db.execute_now(live)[0][0])


def test_oldest_session_is_revoked_beyond_the_limit(database_url: str) -> None:
    app = make_app(database_url, TOKENAPP_MAX_SESSIONS="3")
    user_id = create_user(app)
    first, *others = [sign_in(app) for _ in range(4)]
    assert live(app, user_id) == 3
    assert first.refresh().code == "refresh_token_revoked"
    assert [client.refresh().status for client in others] == [200] * 3
    with app.app_context():
        revoked = sa.select(AuditEvent.reason).where(AuditEvent.kind == "session_ended")
        assert [row.reason for row in db.execute_now(revoked)] == ["too_many_sessions"]


def test_sign_in_with_the_cookie_of_a_session_replaces_it_and_revokes_no_other(database_url: str) -> None:
    app = make_app(database_url, TOKENAPP_MAX_SESSIONS="2")
    create_user(app)
    other, client = sign_in(app), sign_in(app)
    assert client.login(headers={"Cookie": f"refreshToken={client.cookie}"}).status == 200
    assert other.refresh().status == 200


def test_surplus_of_earlier_sessions_is_revoked_by_sign_ins(database_url: str) -> None:
    app = make_app(database_url, TOKENAPP_MAX_SESSIONS="5")
    user_id = create_user(app)
    fill(app, user_id, 1500)
    for _ in range(2):
        sign_in(app)
    assert live(app, user_id) == 5


def test_concurrent_sign_ins_stay_near_the_limit(database_url: str) -> None:
    app = make_app(database_url, TOKENAPP_MAX_SESSIONS="4", TOKENAPP_THREADS="16")
    user_id = create_user(app)
    for _ in range(3):
        at_once(*[lambda: sign_in(app)] * 4)
    sign_in(app)
    assert live(app, user_id) == 4


def test_user_with_many_sessions_ends_all_in_one_request(app: Flask) -> None:
    user_id = create_user(app)
    fill(app, user_id, MANY)
    client = sign_in(app)
    response = client.call("DELETE", "/api/sessions?keep=current")
    assert response.status == 204
    assert live(app, user_id) == 1
    assert client.refresh().status == 200


def test_other_users_refresh_while_one_ends_many_sessions(databases: Databases, serve: Servers) -> None:
    url = databases("postgresql")
    app = make_app(url)
    user_id = create_user(app)
    create_user(app, "bob")
    fill(app, user_id, MANY)
    server = serve(url, TOKENAPP_REFRESH_GRACE="0")
    alice, bob = sign_in(server.port), sign_in(server.port, "bob")
    done = threading.Event()
    statuses: list[int] = []

    def end_all() -> None:
        try:
            for _ in range(3):
                alice.call("DELETE", "/api/sessions?keep=current")
                fill(app, user_id, MANY // 4)
        finally:
            done.set()

    thread = threading.Thread(target=end_all)
    thread.start()
    while not done.is_set():
        statuses.append(bob.refresh().status)
    thread.join()
    assert set(statuses) == {200}


def test_requests_that_wait_for_a_row_lock_open_no_breaker(databases: Databases, serve: Servers) -> None:
    url = databases("postgresql")
    app = make_app(url)
    user_id = create_user(app)
    create_user(app, "bob")
    server = serve(url, TOKENAPP_REFRESH_GRACE="0", TOKENAPP_THREADS="8", WEB_CONCURRENCY="1")
    alice, bob = sign_in(server.port), sign_in(server.port, "bob")
    with app.app_context(), db.current().engine.connect() as connection, connection.begin():
        connection.execute(sa.select(Session.id).where(Session.user_id == user_id).with_for_update())
        blocked = threading.Thread(target=lambda: at_once(*[alice.refresh] * 3))
        blocked.start()
        began = time.monotonic()
        statuses = []
        while time.monotonic() - began < 4:
            statuses.append(bob.refresh().status)
        blocked.join()
    assert set(statuses) == {200}


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_sign_ins_of_one_user_are_limited(database_url: str) -> None:
    app = make_app(database_url, TOKENAPP_ADDRESS_FAILURES="5")
    create_user(app)
    create_user(app, "bob")
    client = Client(app)
    responses = [client.login() for _ in range(12)]
    refused = [response for response in responses if response.status != 200]
    assert {response.code for response in refused} == {"too_many_attempts"}
    assert 1 <= int(refused[0].header("Retry-After") or 0) <= 60
    assert Client(app).login("bob").status == 200
