"""The cost of stored hashes is bounded, and the same for unknown users."""

import secrets
import threading
from typing import Any

import pytest
import sqlalchemy as sa
from argon2 import PasswordHasher
from flask import Flask
from werkzeug.security import generate_password_hash

from tests.support.app import PASSWORD, create_user
from tests.support.client import Client
from tests.support.commandline import run
from tokenapp import accounts, db, errors, passwords
from tokenapp.models import AuditEvent, Throttle, User
from tokenapp.passwords import hashing

SALT, DIGEST = "c2FsdHNhbHRzYWx0", "aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNo"
CHEAP = ["argon2id:64:1:1", "pbkdf2:sha256:1000", "scrypt:1024:8:1"]


def argon2(memory: int, passes: int) -> str:
    return f"$argon2id$v=19$m={memory},t={passes},p=1${SALT}${DIGEST}"


def scrypt(cost: str) -> str:
    return f"scrypt:{cost}$salt${'ab' * 64}"


def pbkdf2(rounds: int) -> str:
    return f"pbkdf2:sha256:{rounds}$salt${'ab' * 32}"


@pytest.mark.parametrize(
    "stored",
    [
        *(argon2(1 << 20, 4), argon2(1 << 20, 99), argon2(19456, 100), argon2(1 << 19, 1)),
        *(scrypt("1048576:8:1"), scrypt("32768:8:16"), scrypt("131072:16:1")),
        *(pbkdf2(9_999_999), pbkdf2(2_000_001)),
    ],
)
def test_expensive_hash_is_rejected_with_advice(app: Flask, stored: str) -> None:
    with app.app_context(), pytest.raises(errors.PasswordRejected) as raised:
        accounts.check(accounts.NewUser("alice", password_hash=stored))
    assert "too expensive" in raised.value.detail
    assert "Set a new password" in raised.value.detail


@pytest.mark.parametrize(
    "stored",
    [
        *(argon2(65536, 3), argon2(47104, 1), argon2(1 << 18, 3)),
        *(scrypt("32768:8:1"), scrypt("131072:8:1")),
        *(pbkdf2(1_000_000), pbkdf2(260_000)),
    ],
)
def test_hash_of_a_common_cost_is_accepted(app: Flask, stored: str) -> None:
    with app.app_context():
        assert accounts.check(accounts.NewUser("alice", password_hash=stored)) == "alice"


@pytest.mark.parametrize("kind", CHEAP)
def test_decoy_has_the_kind_that_it_imitates(kind: str) -> None:
    assert passwords.kind_of(hashing._decoy_hash(kind)) == kind


def add(app: Flask, name: str, stored: str) -> None:
    with app.app_context():
        accounts.add_all([accounts.draft(accounts.NewUser(name, password_hash=stored), db_now())], db_now())


def db_now() -> Any:
    return db.execute_now(sa.select(db.clock()))[0][0]


def test_unknown_names_imitate_the_kinds_in_their_proportions(app: Flask) -> None:
    cheap = PasswordHasher(1, 64, 1).hash(PASSWORD)
    for number in range(6):
        add(app, f"a{number}", cheap)
    for number in range(3):
        add(app, f"s{number}", generate_password_hash(PASSWORD, "scrypt:1024:8:1"))
    with app.app_context():
        kinds = [passwords.kind_for(secrets.token_hex(8)) for _ in range(900)]
        assert passwords.kind_for("mallory") == passwords.kind_for("mallory")
    assert set(kinds) == {"argon2id:64:1:1", "scrypt:1024:8:1"}
    assert 450 < kinds.count("argon2id:64:1:1") < 750


def test_every_sign_in_verifies_one_hash(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    create_user(app)
    seconds: list[float] = []
    monkeypatch.setattr(passwords.watch, "seconds", seconds.append)
    for username, password in (("alice", "wrong"), ("nobody", "wrong"), ("alice", PASSWORD)):
        before = len(seconds)
        Client(app).login(username, password)
        assert len(seconds) == before + 1, username


def test_verification_that_was_started_counts(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    # Two hashes are computed at a time, so both requests start one. Neither finishes within the time of a request.
    create_user(app)
    finish = threading.Event()
    monkeypatch.setattr(hashing, "_matches", lambda _stored, _password: finish.wait(60))
    try:
        assert [Client(app).login(password="wrong").status for _ in range(2)] == [503, 503]
    finally:
        finish.set()
    with app.app_context():
        failures = db.execute_now(sa.select(Throttle.failures))[0][0]
        reasons = sa.select(AuditEvent.reason).where(AuditEvent.kind == "sign_in_failed")
        assert [row[0] for row in db.execute_now(reasons)] == ["verification unfinished"] * 2
    assert failures == 2


def row(stored: str) -> dict[str, object]:
    now = db_now()
    return {
        "id": "user",
        "username": "alice",
        "password_hash": stored,
        "hash_kind": "",
        "credentials_changed_at": now,
        "created_at": now,
    }


def test_doctor_names_stored_hashes_over_the_bound(app: Flask) -> None:
    with app.app_context():
        db.execute_now(sa.insert(User).values(**row(argon2(1 << 20, 4))))
    assert "alice" in run(app, "doctor", code=1).output
