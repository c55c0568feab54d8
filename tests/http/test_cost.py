"""What a request costs, counted and not timed: so many function calls, so many statements, and no more."""

import sys
from collections.abc import Callable
from types import FrameType

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import EnvironBuilder

from tests.conftest import Databases
from tests.support.app import PASSWORD, create_user, make_app


@pytest.fixture
def app(databases: Databases) -> Flask:
    """Give the application on SQLite: what the drivers do by themselves is not what is counted here."""
    app = make_app(databases("sqlite"), TOKENAPP_REFRESH_GRACE="0")
    create_user(app)
    return app


def calls_of(app: Flask, builder: EnvironBuilder) -> int:
    """Return how many functions are called, in Python and in C, to answer a request."""
    environ, count = builder.get_environ(), 0
    answered: list[str] = []

    def note(_frame: FrameType, what: str, _argument: object) -> None:
        nonlocal count
        count += what in {"call", "c_call"}

    def start(status: str, *_: object) -> Callable[[bytes], object]:
        answered.append(status)
        return answered.append  # type: ignore[return-value]  # nothing is written by it

    tracer = sys.getprofile()
    sys.setprofile(note)
    try:
        b"".join(app.wsgi_app(environ, start))
    finally:
        sys.setprofile(tracer)
    assert answered == ["200 OK"]
    return count


def signed_in(app: Flask) -> tuple[FlaskClient, str]:
    client = app.test_client()
    reply = client.post("/api/login", json={"username": "alice", "password": PASSWORD})
    return client, (reply.json or {})["accessToken"]


def test_a_protected_request_stays_within_its_budget(app: Flask) -> None:
    _, token = signed_in(app)

    def builder() -> EnvironBuilder:
        return EnvironBuilder("/api/protected", headers=[("Authorization", f"Bearer {token}")])

    calls_of(app, builder())  # the first finds its signature not verified yet
    assert calls_of(app, builder()) <= 650


def test_a_rotation_stays_within_its_budget(app: Flask) -> None:
    client, _ = signed_in(app)

    def builder() -> EnvironBuilder:
        cookie = client.get_cookie("refreshToken")
        assert cookie is not None
        return EnvironBuilder("/api/token", method="POST", headers=[("Cookie", f"refreshToken={cookie.value}")])

    client.post("/api/token")
    assert calls_of(app, builder()) <= 1120
