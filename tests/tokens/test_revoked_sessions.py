"""Valid tokens of sessions that are revoked, unknown or ahead of the database."""

import time

import pytest
import sqlalchemy as sa
from flask import Flask

from tests.support.app import make_app
from tests.support.forge import BAD_REFRESH, issue
from tokenapp import db
from tokenapp.models import Session


def test_token_of_a_revoked_session_is_rejected_as_revoked(app: Flask, capfd: pytest.CaptureFixture[str]) -> None:
    issued = issue(app)
    assert issued.logout(cookie=issued.good["refresh"]).status == 204
    for _ in range(2):
        response = issued.refresh(issued.good["refresh"])
        assert response.problem == BAD_REFRESH
        assert response.cookie is None
    # The library's blocklist hook did not reject it first: only the domain logs the reason.
    assert capfd.readouterr().err.count("session ended: logout") == 2


def test_token_of_an_unknown_session_is_rejected_as_revoked(app: Flask) -> None:
    issued = issue(app)
    before = issued.row()
    for sid in ("unknown", issued.claims("refresh")["sid"][:-1], "'--", "x" * 128):
        response = issued.refresh(issued.with_claims("refresh", sid=sid))
        assert response.problem == BAD_REFRESH
        assert issued.logout(cookie=issued.with_claims("refresh", sid=sid)).status == 204
    assert issued.row() == before


def test_expired_refresh_token_can_sign_out(app: Flask) -> None:
    issued = issue(app)
    now = int(time.time())
    assert issued.logout(cookie=issued.with_claims("refresh", iat=now - 120, exp=now - 60)).status == 204
    assert issued.refresh(issued.good["refresh"]).problem == BAD_REFRESH


def test_expired_access_token_cannot_sign_out(app: Flask) -> None:
    issued = issue(app)
    now = int(time.time())
    assert issued.logout(bearer=issued.with_claims("access", iat=now - 120, exp=now - 60)).status == 204
    assert issued.refresh(issued.good["refresh"]).status == 200


def test_reuse_revokes_the_session(database_url: str) -> None:
    app = make_app(database_url, TOKENAPP_REFRESH_GRACE="0")
    issued = issue(app)
    assert issued.refresh(issued.good["refresh"]).status == 200
    assert issued.refresh(issued.good["refresh"]).problem == BAD_REFRESH
    with app.app_context():
        reasons = db.execute_now(sa.select(Session.revoked_reason))
        db.db.engine.dispose()
    assert [row[0] for row in reasons] == ["reuse"]


def test_token_ahead_of_the_database_is_rejected_and_its_session_not_revoked(app: Flask) -> None:
    issued = issue(app)
    before = issued.row()
    assert issued.refresh(issued.with_claims("refresh", jti="later", gen=10**30)).problem == BAD_REFRESH
    assert issued.row() == before
