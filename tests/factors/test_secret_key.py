"""Authenticator apps after a change of ``SECRET_KEY``."""

import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from flask import Flask

from tests.support.app import SETTINGS, application, create_user
from tests.support.authenticator import Authenticator, confirm, enrol, pending_of, second_step
from tests.support.client import Client, sign_in
from tests.support.commandline import run_json

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
