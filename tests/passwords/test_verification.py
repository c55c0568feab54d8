"""Verification of passwords that are not in the normal form NFC."""

import unicodedata
from collections.abc import Callable
from contextvars import Context
from functools import partial

import bcrypt
import pytest
import sqlalchemy as sa
from argon2 import PasswordHasher
from flask import Flask
from werkzeug.security import generate_password_hash

from tests.support.client import Client
from tests.support.commandline import run
from tokenapp import accounts, db, passwords
from tokenapp.models import User
from tokenapp.passwords import hashing

SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
COMPOSED = "tiếng Việt rất hay và dài"
DECOMPOSED = unicodedata.normalize("NFD", COMPOSED)
OHM = "resistance of 17 \u2126"  # the ohm sign is no NFC: its normal form is the Greek letter
HASHERS: dict[str, Callable[[str], str]] = {
    "argon2": PasswordHasher(1, 8, 1).hash,  # the cost of new hashes in tests
    "bcrypt": lambda password: bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode(),
    "scrypt": partial(generate_password_hash, method="scrypt:1024:8:1"),
}


def add(app: Flask, password: str, kind: str = "argon2") -> None:
    def insert() -> None:
        with app.app_context():
            now = db.execute_now(sa.select(db.clock()))[0][0]
            accounts.create(accounts.NewUser("alice", password_hash=HASHERS[kind](password)), now)

    Context().run(insert)


def status(app: Flask, password: str, username: str = "alice") -> int:
    return Client(app).login(username, password).status


def stored_hash(app: Flask) -> str:
    def read() -> str:
        with app.app_context(), db.reading() as session:
            return session.scalars(sa.select(User.password_hash)).one()

    return Context().run(read)


@pytest.mark.parametrize("kind", HASHERS)
@pytest.mark.parametrize("password", [DECOMPOSED, OHM], ids=["decomposed", "ohm"])
def test_imported_hash_is_verified_with_the_password_as_sent(app: Flask, kind: str, password: str) -> None:
    add(app, password, kind)
    composed = unicodedata.normalize("NFC", password)
    assert status(app, composed) == 401
    assert status(app, password) == 200
    assert PasswordHasher().verify(stored_hash(app), composed)
    assert [status(app, composed), status(app, password)] == [200, 200]


@SQLITE
def test_hash_of_the_normal_form_is_not_replaced(app: Flask) -> None:
    add(app, COMPOSED)
    before = stored_hash(app)
    assert [status(app, DECOMPOSED), status(app, COMPOSED)] == [200, 200]
    assert stored_hash(app) == before


@pytest.mark.parametrize("kind", HASHERS)
@SQLITE
def test_number_of_verifications_depends_only_on_what_was_sent(
    app: Flask, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    add(app, COMPOSED, kind)
    verified: list[str] = []
    matches = hashing._matches

    def record(stored: str, password: str) -> bool:
        verified.append(stored)
        return matches(stored, password)

    monkeypatch.setattr(hashing, "_matches", record)

    def verifications(username: str, password: str) -> list[str]:
        verified.clear()
        status(app, password, username)
        return [passwords.kind_of(stored) for stored in verified]

    for password in ("wrong but long enough", "wronge\u0301 but long enough"):
        forms = len({password, unicodedata.normalize("NFC", password)})
        assert forms == 1 + ("\u0301" in password)
        known = verifications("alice", password)
        assert len(known) == forms
        assert verifications("nobody", password) == known
    assert len(verifications("alice", DECOMPOSED)) == 2
    run(app, "users", "disable", "alice")
    assert len(verifications("alice", DECOMPOSED)) == 2
    assert len(verifications("alice", COMPOSED)) == 1
