"""Wrong passwords inside a live session count against it, not the account."""

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from flask import Flask

from tests.support.app import PASSWORD, create_user
from tests.support.client import Client, Response, sign_in
from tokenapp import db
from tokenapp.models import AuditEvent, Throttle
from tokenapp.throttle import lockout

WRONG = "not the password of anybody"


def guess(client: Client, password: str = WRONG) -> Response:
    return client.call("POST", "/api/reauthenticate", payload={"password": password})


def age(app: Flask, by: timedelta) -> None:
    """Make all failures older, instead of waiting."""
    with app.app_context():
        for row in db.execute_now(sa.select(Throttle.account, Throttle.last_failed_at)):
            older = sa.update(Throttle).where(Throttle.account == row.account)
            older = older.values(last_failed_at=row.last_failed_at - by)
            db.execute_now(older)


def test_owner_proves_the_password_while_strangers_lock_the_account(app: Flask) -> None:
    create_user(app)
    owner = sign_in(app)
    stranger = Client(app)
    for _ in range(6):
        stranger.login(password=WRONG)
    assert stranger.login().code == "too_many_attempts"
    assert guess(owner, PASSWORD).status == 200
    assert owner.call("DELETE", "/api/sessions?keep=current").status == 204


def test_guesses_inside_a_session_do_not_lock_the_account(app: Flask) -> None:
    create_user(app)
    thief = sign_in(app)
    for _ in range(8):
        guess(thief)
    assert Client(app).login().status == 200


def test_waits_begin_at_the_fifth_failure(app: Flask) -> None:
    create_user(app)
    client = sign_in(app)
    codes = [guess(client).code for _ in range(6)]
    assert codes == ["invalid_credentials"] * 5 + ["too_many_attempts"]


def test_right_password_clears_the_failures(app: Flask) -> None:
    create_user(app)
    client = sign_in(app)
    for _ in range(4):
        guess(client)
    assert guess(client, PASSWORD).status == 200
    assert guess(client).code == "invalid_credentials"


def test_session_is_revoked_after_twenty_failures_in_a_row(app: Flask) -> None:
    create_user(app)
    client, other = sign_in(app), sign_in(app)
    for _ in range(20):
        age(app, lockout.LONGEST_WAIT)
        assert guess(client).code == "invalid_credentials"
    assert client.refresh().code == "refresh_token_revoked"
    assert other.refresh().status == 200
    with app.app_context():
        revoked = sa.select(AuditEvent.reason).where(AuditEvent.kind == "session_ended")
        assert [row.reason for row in db.execute_now(revoked)] == ["too_many_failures"]


def test_locked_account_opens_after_a_day_and_locks_again_only_after_a_hundred(app: Flask) -> None:
    create_user(app)
    with app.app_context():
        now = datetime.now(UTC)
        lockout.count_attempt("password", "alice", now)
        db.execute_now(sa.update(Throttle).values(failures=lockout.LOCK_AFTER))
    client = Client(app)
    locked = client.login()
    assert locked.code == "too_many_attempts"
    assert 86_000 < int(locked.header("Retry-After") or 0) <= 86_400
    age(app, lockout.LOCK_TIME)
    assert client.login(password=WRONG).code == "invalid_credentials"
    assert client.login().status == 200
