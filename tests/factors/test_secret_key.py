"""Authenticator apps after a change of ``SECRET_KEY``."""

import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

import pyotp
import pytest
import sqlalchemy as sa
import time_machine
from flask import Flask

from tests.support.app import SETTINGS, application, create_user
from tests.support.authenticator import Authenticator, confirm, enrol, pending_of, second_step
from tests.support.client import Client, sign_in
from tests.support.commandline import error_of, run, run_json
from tests.support.concurrency import at_once
from tokenapp import accounts, db
from tokenapp.factor_models import Totp
from tokenapp.factors import totp_secrets

FORMER = SETTINGS["SECRET_KEY"]
CHANGED = {"SECRET_KEY": secrets.token_urlsafe(48)}
WITH_FALLBACK = {**CHANGED, "SECRET_KEY_FALLBACKS": FORMER}


@pytest.fixture
def authenticator(database_url: str) -> Authenticator:
    """Return alice's authenticator app, from before the change."""
    with application(database_url) as app:
        create_user(app)
        return enrol(sign_in(app))


def reported(app: Flask, code: int = 1) -> list[tuple[str, str]]:
    """Return the severity and the problem of what is reported about the apps."""
    found: list[dict[str, Any]] = run_json(app, "doctor", code=code)
    return [(each["severity"], each["problem"]) for each in found if each["subject"] == "authenticator apps"]


def test_app_works_without_the_former_key_once_it_was_used(database_url: str, authenticator: Authenticator) -> None:
    with application(database_url, **WITH_FALLBACK) as app:
        assert reported(app) == [("warning", "1 of them still need a former SECRET_KEY")]
        assert second_step(Client(app), pending_of(app), authenticator.code()).status == 200
        assert reported(app) == []
    with application(database_url, **CHANGED) as app, time_machine.travel(datetime.now(UTC) + timedelta(minutes=2)):
        client = Client(app)
        # The signing keys are encrypted again at their first use, too.
        assert second_step(client, pending_of(app), authenticator.code()).status == 200


def test_confirmation_encrypts_the_secret_again(database_url: str) -> None:
    with application(database_url) as app:
        create_user(app)
        client = sign_in(app)
        started = client.call("POST", "/api/me/factors/totp").json
    with application(database_url, **WITH_FALLBACK) as app:
        client.target = app
        assert confirm(client, started["id"], Authenticator(started["secret"]).code()).status == 200
        assert reported(app) == []


def test_wrong_code_does_not_encrypt_the_secret_again(database_url: str, authenticator: Authenticator) -> None:
    with application(database_url, **WITH_FALLBACK) as app:
        assert second_step(Client(app), pending_of(app), authenticator.wrong).code == "invalid_code"
        assert reported(app) == [("warning", "1 of them still need a former SECRET_KEY")]


def test_app_that_no_key_decrypts_is_reported(database_url: str, authenticator: Authenticator) -> None:
    del authenticator
    with application(database_url, **CHANGED) as app:
        assert reported(app, 2) == [("error", "1 of them were encrypted under another SECRET_KEY")]


def store(app: Flask, number: int) -> None:
    """Store many confirmed authenticator apps of alice."""
    with app.app_context():
        user_id, now = accounts.find("alice").id, datetime.now(UTC)
        about = {"user_id": user_id, "created_at": now, "confirmed_at": now, "last_step": 0}
        ids = [db.new_id(now) for _ in range(number)]
        rows = [{"id": each, "encrypted": totp_secrets.encrypt(pyotp.random_base32(), each), **about} for each in ids]
        with db.writing() as writer:
            writer.execute(sa.insert(Totp), rows)


def test_command_encrypts_the_secrets_of_people_who_do_not_sign_in(
    database_url: str, authenticator: Authenticator
) -> None:
    number = 2 * totp_secrets.BATCH
    with application(database_url) as app:
        store(app, number)
    with application(database_url, **WITH_FALLBACK) as app:
        assert run(app, "keys", "reencrypt").stdout == f"Encrypted {number + 1} secrets under the current SECRET_KEY.\n"
        assert run(app, "keys", "reencrypt").stdout == "Encrypted 0 secrets under the current SECRET_KEY.\n"
        run_json(app, "keys", "list")
        assert reported(app) == []
        sign_in_with(app, authenticator)
    with application(database_url, **CHANGED) as app, app.app_context():
        assert totp_secrets.count_outdated() == (0, 0)


def test_command_that_runs_beside_enrolments_and_sign_ins_loses_nothing(
    database_url: str, authenticator: Authenticator
) -> None:
    with application(database_url) as former:
        store(former, 50)
        create_user(former, "bob")
        bob = sign_in(former, "bob")
        started = bob.call("POST", "/api/me/factors/totp").json
    fresh = Authenticator(started["secret"])
    with application(database_url, **WITH_FALLBACK) as app:
        create_user(app, "carol")
        bob.target, carol = app, sign_in(app, "carol")
        at_once(
            lambda: run(app, "keys", "reencrypt"),
            lambda: sign_in_with(app, authenticator),
            lambda: confirm(bob, started["id"], fresh.code(0)),
            lambda: enrol(carol),
        )
        run(app, "keys", "reencrypt")
    with application(database_url, **CHANGED) as app:
        with app.app_context():
            assert totp_secrets.count_outdated() == (0, 0)
        assert second_step(Client(app), pending_of(app, "bob"), fresh.code()).status == 200


def test_command_names_what_no_key_decrypts_and_encrypts_the_rest(
    database_url: str, authenticator: Authenticator
) -> None:
    del authenticator
    with application(database_url, SECRET_KEY=secrets.token_urlsafe(48)) as other:
        store(other, 2)
    with application(database_url, **WITH_FALLBACK) as app:
        result = run(app, "keys", "reencrypt", code=1)
        assert result.stdout == "Encrypted 1 secret under the current SECRET_KEY.\n"
        assert error_of(result) == "No known SECRET_KEY decrypts 2 other secrets."
        assert reported(app, 2) == [("error", "2 of them were encrypted under another SECRET_KEY")]


def sign_in_with(app: Flask, authenticator: Authenticator) -> None:
    assert second_step(Client(app), pending_of(app), authenticator.code()).status == 200
