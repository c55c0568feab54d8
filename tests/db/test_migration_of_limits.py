"""Migration 0005 applies the new limits to the rows that there are."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

import flask_migrate
import pytest
import sqlalchemy as sa
from flask import Flask
from werkzeug.security import generate_password_hash

from tests.support.app import PASSWORD, create_user
from tests.support.client import Client, sign_in
from tokenapp import accounts, clients, db
from tokenapp.models import AuditEvent, Session, User

PREVIOUS: Final = "0004"
LIMIT: Final = 100
EXPENSIVE: Final = "pbkdf2:sha256:90000000$salt$" + "0" * 64


@pytest.fixture(autouse=True)
def in_context(app: Flask) -> Iterator[None]:
    """Keep the application's context, which the commands for migrations need."""
    with app.app_context():
        yield


def upgrade_again() -> None:
    """Return to the previous version and upgrade."""
    flask_migrate.downgrade(revision=PREVIOUS)
    flask_migrate.upgrade()


def add_sessions(user_id: str, number: int, *, lifetime: timedelta = timedelta(days=1)) -> list[str]:
    """Add sessions, opened a minute apart; return their ids, oldest first."""
    now = datetime.now(UTC)
    opened = [now - timedelta(minutes=number - index) for index in range(number)]
    session = {
        "user_id": user_id,
        "current_jti": "unused",
        "generation": 0,
        "expires_at": now + lifetime,
        "ends_at": now + timedelta(days=2),
    }
    rows = [session | {"id": db.new_id(at), "created_at": at, "authenticated_at": at} for at in opened]
    with db.current().engine.begin() as connection:
        connection.execute(sa.insert(Session), rows)
    return [str(row["id"]) for row in rows]


def revoked() -> dict[str, str | None]:
    """Return the reasons of revoked sessions by their ids."""
    found = sa.select(Session.id, Session.revoked_reason).where(Session.revoked_at.is_not(None))
    return {row.id: row.revoked_reason for row in db.execute_now(found)}


def test_oldest_sessions_beyond_the_limit_are_revoked(app: Flask) -> None:
    alice, bob = create_user(app), create_user(app, "bob")
    sids = add_sessions(alice, LIMIT + 3)
    add_sessions(bob, LIMIT)
    upgrade_again()
    assert revoked() == dict.fromkeys(sids[:3], "too_many_sessions")


def test_revocations_of_the_migration_are_in_the_audit_log(app: Flask) -> None:
    user_id = create_user(app)
    sids = add_sessions(user_id, LIMIT + 2)
    upgrade_again()
    ended = sa.select(AuditEvent.user_id, AuditEvent.sid, AuditEvent.reason, AuditEvent.actor).where(
        AuditEvent.kind == "session_ended"
    )
    expected = {(user_id, sid, "too_many_sessions", "operator") for sid in sids[:2]}
    assert {tuple(row) for row in db.execute_now(ended)} == expected


def test_expired_sessions_do_not_count(app: Flask) -> None:
    user_id = create_user(app)
    add_sessions(user_id, LIMIT)
    add_sessions(user_id, 10, lifetime=-timedelta(hours=1))
    upgrade_again()
    assert revoked() == {}


def test_clients_keep_all_rights() -> None:
    client, _ = clients.create("shop", [], datetime.now(UTC))
    upgrade_again()
    stored = db.execute_now(sa.text("SELECT id, rights FROM clients"))
    assert [tuple(row) for row in stored] == [(client.id, "introspect revoke feed")]


def test_live_sessions_keep_their_device(app: Flask) -> None:
    create_user(app)
    client = Client(app)
    client.login(headers={"User-Agent": "Firefox"})
    upgrade_again()
    row = db.execute_now(sa.select(Session.last_user_agent, Session.last_ip_address))[0]
    assert tuple(row) == ("Firefox", "127.0.0.1")


def test_kinds_of_hashes_are_recorded(app: Flask) -> None:
    hashes = {"argon2": None, "pbkdf2": generate_password_hash(PASSWORD, "pbkdf2:sha256:1000")}
    for name, stored in hashes.items():
        create_user(app, name)
        if stored:
            db.execute_now(sa.update(User).where(User.username == name).values(password_hash=stored))
    upgrade_again()
    kinds = {row.username: row.hash_kind for row in db.execute_now(sa.select(User.username, User.hash_kind))}
    assert kinds["argon2"].startswith("argon2id")
    assert kinds["pbkdf2"].startswith("pbkdf2")
    assert [sign_in(app, name).protected().status for name in hashes] == [200] * 2


def test_user_with_a_hash_that_is_too_expensive_is_found(app: Flask) -> None:
    create_user(app)
    db.execute_now(sa.update(User).values(password_hash=EXPENSIVE))
    upgrade_again()
    assert accounts.with_unverifiable_hash(limit=10) == ["alice"]
    assert Client(app).login().code == "invalid_credentials"
