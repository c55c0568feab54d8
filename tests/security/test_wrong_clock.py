"""A host whose clock is wrong learns of every revoked session all the same (S11)."""

import logging
from datetime import timedelta

import pytest
import time_machine
from flask import Flask

from tests.support.app import create_user, make_app
from tests.support.client import Client, Response, claims_of, sign_in
from tokenapp import sessions

HOURS = [-5, -1, 1, 5]


def at(app: Flask, client: Client) -> Response:
    """Present the access token of a client to another application."""
    return Client(app).protected(client.token)


@pytest.mark.parametrize("hours", HOURS)
def test_revocation_reaches_a_host_with_a_wrong_clock(database_url: str, hours: int) -> None:
    settings = {"TOKENAPP_ACCESS_LIFETIME": "12h", "TOKENAPP_REVOCATION_DELAY": "0.05"}
    here, there = make_app(database_url, **settings), make_app(database_url, **settings)
    create_user(here)
    with time_machine.travel(timedelta(hours=min(hours, 0)), tick=True):
        first, second = sign_in(here), sign_in(here)
    with time_machine.travel(timedelta(hours=hours), tick=True):
        assert at(there, first).status == 200
    assert first.logout().status == 204
    with time_machine.travel(timedelta(hours=hours, seconds=2), tick=True):
        assert at(there, first).code == "access_token_invalid"
        assert at(there, second).status == 200


def test_revocation_is_in_the_feed_of_a_host_with_a_wrong_clock(app: Flask) -> None:
    create_user(app)
    client = sign_in(app)
    sid = claims_of(str(client.token))["sid"]
    with app.app_context(), time_machine.travel(timedelta(hours=3), tick=True):
        _, cursor, _ = sessions.revoked_since(None)
    client.logout()
    with app.app_context(), time_machine.travel(timedelta(hours=3, seconds=2), tick=True):
        revoked, _, _ = sessions.revoked_since(cursor)
    assert sid in [each for each, _ in revoked]


def test_difference_of_clocks_is_logged_once(app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    create_user(app)
    client = sign_in(app)
    with caplog.at_level(logging.CRITICAL), time_machine.travel(timedelta(seconds=45), tick=True):
        for _ in range(3):
            client.protected()
    messages = [record.getMessage() for record in caplog.records if "clock" in record.getMessage()]
    assert len(messages) == 1
    assert "45 s" in messages[0] or "44 s" in messages[0]
