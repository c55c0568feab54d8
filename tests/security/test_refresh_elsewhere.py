"""Use of a copied cookie in the grace period, and rotations in the future."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from flask import Flask

from tests.support.app import create_user, make_app
from tests.support.client import Client, claims_of
from tokenapp import db
from tokenapp.models import AuditEvent, Session

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0"
CURL = "curl/8.9.1"
HOME, AWAY = "203.0.113.7", "198.51.100.9"


def at(address: str, browser: str) -> dict[str, str]:
    return {"X-Forwarded-For": address, "User-Agent": browser}


@pytest.fixture
def app(database_url: str) -> Flask:
    app = make_app(database_url, TOKENAPP_TRUSTED_PROXIES="127.0.0.1")
    create_user(app)
    return app


def events(app: Flask) -> list[tuple[str | None, str | None]]:
    with app.app_context():
        found = sa.select(AuditEvent.sid, AuditEvent.ip_address).where(AuditEvent.kind == "refresh_elsewhere")
        return [(row.sid, row.ip_address) for row in db.execute_now(found)]


@pytest.mark.parametrize("replayed", ["current", "previous"])
def test_use_in_another_network_and_browser_is_an_audit_event(app: Flask, replayed: str) -> None:
    client = Client(app)
    client.login(headers=at(HOME, FIREFOX))
    previous = client.cookie
    client.refresh(headers=at(HOME, FIREFOX))
    cookie = client.cookie if replayed == "current" else previous
    assert Client(app).refresh(cookie, headers=at(AWAY, CURL)).status == 200
    assert events(app) == [(claims_of(str(client.token))["sid"], AWAY)]


@pytest.mark.parametrize(("address", "browser"), [(HOME, CURL), (AWAY, FIREFOX), (HOME, FIREFOX)])
def test_another_network_or_another_browser_alone_is_none(app: Flask, address: str, browser: str) -> None:
    client = Client(app)
    client.login(headers=at(HOME, FIREFOX))
    client.refresh(headers=at(HOME, FIREFOX))
    assert client.refresh(headers=at(address, browser)).status == 200
    assert events(app) == []


def test_list_shows_address_and_browser_of_the_last_rotation(app: Flask) -> None:
    client = Client(app)
    client.login(headers=at(HOME, FIREFOX))
    client.refresh(headers=at(AWAY, CURL))
    (device,) = client.call("GET", "/api/sessions").json["items"]
    assert (device["ipAddress"], device["userAgent"]) == (AWAY, CURL)


def date_rotation(app: Flask, ahead: timedelta) -> None:
    with app.app_context():
        db.execute_now(sa.update(Session).values(rotated_at=datetime.now(UTC) + ahead))


def test_replaced_token_is_not_valid_because_of_a_rotation_in_the_future(app: Flask) -> None:
    client = Client(app)
    client.login()
    previous = client.cookie
    client.refresh()
    date_rotation(app, timedelta(hours=1))
    assert Client(app).refresh(previous).code == "refresh_token_revoked"
    assert client.refresh().code == "refresh_token_revoked", "reuse revoked the session"


def test_current_token_rotates_in_spite_of_a_rotation_in_the_future(app: Flask) -> None:
    client = Client(app)
    client.login()
    client.refresh()
    before = client.cookie
    date_rotation(app, timedelta(hours=1))
    assert client.refresh().status == 200
    assert client.cookie != before


def test_small_difference_of_clocks_does_not_matter(app: Flask) -> None:
    client = Client(app)
    client.login()
    previous = client.cookie
    client.refresh()
    date_rotation(app, timedelta(seconds=50))
    assert Client(app).refresh(previous).status == 200
