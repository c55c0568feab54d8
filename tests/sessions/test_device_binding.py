"""Device binding: copied cookies, and browsers that cannot sign (B1 to B3)."""

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
import time_machine
from flask import Flask
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.support.app import ROOT, create_user, environment, make_app
from tests.support.bound_device import REFRESH, REGISTRATION, Browser, copy_of
from tests.support.client import Client, Response, sign_in
from tests.support.documented import check, document_of
from tokenapp import audit, history
from tokenapp.db import execute_now
from tokenapp.models import Session

LIFETIME = 600
SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture(params=["report", "enforce"])
def mode(request: pytest.FixtureRequest) -> str:
    """Give each of the two modes."""
    return str(request.param)


@pytest.fixture
def bound_app(database_url: str, mode: str) -> Flask:
    """Give an application that binds sessions."""
    app = make_app(database_url, TOKENAPP_DEVICE_BINDING=mode)
    create_user(app)
    return app


@pytest.fixture
def enforcing(database_url: str) -> Flask:
    """Give an application that requires proofs."""
    app = make_app(database_url, TOKENAPP_DEVICE_BINDING="enforce")
    create_user(app)
    return app


def new_browser(app: Flask) -> Browser:
    """Return a browser with a bound session that has proved its key once."""
    browser = Browser(app)
    browser.sign_in()
    assert browser.register().status == 200
    assert browser.prove().status == 200
    return browser


def pass_time(app: Flask, sid: str, **time: float) -> None:
    """Move all times of a session into the past."""
    by = timedelta(**time)
    with app.app_context():
        (row,) = execute_now(sa.select(Session.__table__).where(Session.id == sid))
        moved = {
            name: getattr(row, name) - by
            for name in ("rotated_at", "bound_at", "proved_at")
            if getattr(row, name) is not None
        }
        execute_now(sa.update(Session).where(Session.id == sid).values(moved))


def events(app: Flask, kind: str) -> list[Any]:
    """Return the audit events of a kind."""
    with app.app_context():
        return list(audit.list_events(kind=kind))


def row_of(app: Flask, sid: str) -> Any:
    """Return the row of a session."""
    with app.app_context():
        return execute_now(sa.select(Session.__table__).where(Session.id == sid))[0]


@SQLITE
def test_sign_in_offers_to_bind_the_session(bound_app: Flask) -> None:
    browser = Browser(bound_app)
    browser.sign_in()
    assert browser.offer is not None
    assert browser.offer.startswith('(ES256 RS256);path="/api/device-binding/registration";challenge="')


def test_registration_binds_the_session_and_sets_the_bound_cookie(bound_app: Flask) -> None:
    browser = Browser(bound_app)
    browser.sign_in()
    response = browser.register()
    assert response.status == 200
    assert response.header("Set-Cookie") == (
        f"__Host-bound={browser.bound}; Max-Age=595; Path=/; Secure; HttpOnly; SameSite=Strict"
    )
    assert response.json["session_identifier"] == browser.sid
    assert response.json["refresh_url"] == "/api/device-binding/refresh"
    assert response.json["credentials"] == [
        {"type": "cookie", "name": "__Host-bound", "attributes": "Path=/; Secure; HttpOnly; SameSite=Strict"}
    ]
    rules = response.json["scope"]["scope_specification"]
    assert [(rule["type"], rule["path"]) for rule in rules] == [
        ("include", "/api/token"),
        ("exclude", "/"),
        ("include", "/api/token"),
    ]
    (event,) = events(bound_app, "session_bound")
    assert event.sid == browser.sid


def test_bound_session_refreshes_with_its_cookie(bound_app: Flask) -> None:
    browser = new_browser(bound_app)
    for _ in range(3):
        assert browser.refresh().status == 200
        pass_time(bound_app, browser.sid, minutes=1)
    assert events(bound_app, "refresh_unproved") == []


def test_copied_cookies_refresh_nothing_once_the_bound_cookie_has_expired(enforcing: Flask) -> None:
    browser = new_browser(enforcing)
    pass_time(enforcing, browser.sid, seconds=LIFETIME + 1)
    thief = copy_of(browser, with_cookie=False)
    response = thief.refresh()
    assert response.problem == (403, "refresh_token_revoked", "Refresh token invalid or revoked.")
    assert response.all("Set-Cookie") == []
    assert browser.prove().status == 200
    assert browser.refresh().status == 200
    (event,) = events(enforcing, "refresh_unproved")
    assert (event.sid, event.reason) == (browser.sid, "rejected")


def test_copied_cookies_are_reported(database_url: str) -> None:
    app = make_app(database_url, TOKENAPP_DEVICE_BINDING="report")
    create_user(app)
    browser = new_browser(app)
    pass_time(app, browser.sid, seconds=LIFETIME + 1)
    assert copy_of(browser, with_cookie=False).refresh().status == 200
    (event,) = events(app, "refresh_unproved")
    assert (event.sid, event.reason) == (browser.sid, "reported")
    (device,) = browser.call("GET", "/api/sessions").json["items"]
    assert device["boundAt"] is not None
    assert device["unprovedAt"] is not None


def test_repeated_theft_is_one_event_with_a_count(enforcing: Flask) -> None:
    browser = new_browser(enforcing)
    thief = copy_of(browser, with_cookie=False)
    assert [thief.refresh().status for _ in range(4)] == [403] * 4
    assert sum(event.count for event in events(enforcing, "refresh_unproved")) == 4
    assert len(events(enforcing, "refresh_unproved")) <= 2  # the hour may change between them


def test_old_copy_without_proof_does_not_revoke_the_session(enforcing: Flask) -> None:
    browser = new_browser(enforcing)
    thief = copy_of(browser, with_cookie=False)
    for _ in range(2):
        assert browser.refresh().status == 200
        pass_time(enforcing, browser.sid, minutes=1)
    assert thief.refresh().status == 403
    assert row_of(enforcing, browser.sid).revoked_at is None
    assert browser.refresh().status == 200


def test_old_copy_with_a_valid_bound_cookie_is_reuse(enforcing: Flask) -> None:
    browser = new_browser(enforcing)
    thief = copy_of(browser)
    for _ in range(2):
        assert browser.refresh().status == 200
        pass_time(enforcing, browser.sid, minutes=1)
    assert thief.refresh().status == 403
    assert row_of(enforcing, browser.sid).revoked_reason == "reuse"


@pytest.mark.parametrize("change", ["expired", "another session", "another time", "garbage", "empty", "huge"])
@SQLITE
def test_forged_bound_cookie_proves_nothing(enforcing: Flask, change: str) -> None:
    browser, other = new_browser(enforcing), new_browser(enforcing)
    assert browser.bound is not None
    expires, _, digest = browser.bound.partition(".")
    browser.bound = {
        "expired": f"{int(expires) - 2 * LIFETIME}.{digest}",
        "another session": other.bound,
        "another time": f"{int(expires) + 1}.{digest}",
        "garbage": "x.y.z",
        "empty": "",
        "huge": "9" * 5000,
    }[change]
    assert browser.refresh().status == 403


@SQLITE
def test_one_valid_cookie_among_two_is_enough(enforcing: Flask) -> None:
    browser = new_browser(enforcing)
    browser.bound = f"stale; __Host-bound={browser.bound}"
    assert browser.refresh().status == 200


def test_browser_that_has_just_registered_may_lack_the_cookie(enforcing: Flask) -> None:
    browser = Browser(enforcing)
    browser.sign_in()
    assert browser.register().status == 200
    browser.bound = None
    assert browser.refresh().status == 200
    pass_time(enforcing, browser.sid, seconds=LIFETIME + 1)
    assert browser.refresh().status == 403


@pytest.mark.parametrize("reason", ["quota_exceeded", "server_error", "unreachable"])
def test_browser_that_cannot_sign_goes_on_for_a_while(enforcing: Flask, reason: str) -> None:
    browser = new_browser(enforcing)
    browser.bound = None
    pass_time(enforcing, browser.sid, minutes=14)
    assert browser.refresh(skipped=reason).status == 200
    assert events(enforcing, "refresh_unproved") == []


def test_browser_that_cannot_sign_for_long_is_not_signed_out(enforcing: Flask) -> None:
    browser = new_browser(enforcing)
    browser.bound = None
    pass_time(enforcing, browser.sid, minutes=16)
    response = browser.refresh(skipped="server_error")
    assert (response.status, response.header("Retry-After")) == (503, "1")
    assert browser.prove().status == 200
    assert browser.refresh().status == 200


@pytest.mark.parametrize("header", ["no_such_reason", "quota", ""])
@SQLITE
def test_unknown_reason_is_no_excuse(enforcing: Flask, header: str) -> None:
    browser = new_browser(enforcing)
    browser.bound = None
    assert browser.refresh(skipped=header).status == 403


def test_skipped_proof_of_another_session_is_no_excuse(enforcing: Flask) -> None:
    browser, other = new_browser(enforcing), new_browser(enforcing)
    headers = {
        "Cookie": f"refreshToken={browser.cookie}",
        "Secure-Session-Skipped": f'quota_exceeded;session_identifier="{other.sid}"',
    }
    assert browser.send("POST", "/api/token", headers=headers).status == 403


def test_cookie_that_expired_on_its_way_is_a_503(enforcing: Flask) -> None:
    browser = new_browser(enforcing)
    late = datetime.now(UTC) + timedelta(seconds=LIFETIME + 30)
    with time_machine.travel(late):
        assert browser.refresh().status == 503
    with time_machine.travel(late + timedelta(seconds=60)):
        assert browser.refresh().status == 403


def test_client_that_never_registers_notices_nothing(bound_app: Flask) -> None:
    client = sign_in(bound_app)
    assert [client.refresh().status for _ in range(3)] == [200] * 3
    assert events(bound_app, "refresh_unproved") == []


def test_new_password_starts_a_session_that_is_not_bound_yet(enforcing: Flask) -> None:
    browser = new_browser(enforcing)
    old = browser.sid
    response = browser.send(
        "POST",
        "/api/reauthenticate",
        payload={"password": "correct horse battery staple"},
        bearer=browser.token,
        cookie=browser.cookie,
    )
    browser._keep(response)
    browser.offer = response.header("Secure-Session-Registration")
    assert browser.sid != old
    assert browser.refresh().status == 200
    browser.key = Browser(enforcing).key
    assert browser.register().status == 200
    assert browser.refresh().status == 200


def test_sign_out_ends_the_binding_and_deletes_its_cookie(bound_app: Flask) -> None:
    browser = new_browser(bound_app)
    response = browser.logout()
    deleted = [line for line in response.all("Set-Cookie") if line.startswith("__Host-bound=;")]
    assert len(deleted) == 1
    assert "Secure" in deleted[0]
    answer = browser.send("POST", "/api/device-binding/refresh", headers={"Sec-Secure-Session-Id": browser.sid})
    assert (answer.status, answer.json["continue"]) == (200, False)


def test_history_tells_of_the_refresh_without_the_key(enforcing: Flask) -> None:
    browser = new_browser(enforcing)
    copy_of(browser, with_cookie=False).refresh()
    with enforcing.app_context():
        (sentence,) = history.explain(browser.sid, datetime.now(UTC))
    assert "bound to a key of the device" in sentence
    assert "A refresh without that key was last seen" in sentence


@SQLITE
def test_responses_are_those_of_the_openapi_document(bound_app: Flask) -> None:
    document = document_of(bound_app)
    assert not list(OpenAPIV31SpecValidator(document).iter_errors())
    browser = Browser(bound_app)
    browser.sign_in()
    exchanges: list[tuple[str, str, Callable[[], Response]]] = [
        ("POST", "/api/login", browser.login),
        ("POST", REGISTRATION, lambda: browser.register("wrong")),
        ("POST", REFRESH, lambda: browser.prove("wrong")),
        ("POST", REGISTRATION, browser.register),
        ("POST", REFRESH, lambda: browser.prove("wrong")),
        ("POST", REFRESH, browser.prove),
        ("POST", "/api/token", browser.refresh),
        ("POST", "/api/logout", browser.logout),
    ]
    for method, path, send in exchanges:
        response = send()
        browser.offer = response.header("Secure-Session-Registration") or browser.offer
        check(document, method, path, response)


@SQLITE
def test_routes_do_not_exist_while_binding_is_off(app: Flask) -> None:
    create_user(app)
    browser = Browser(app)
    browser.sign_in()
    assert browser.offer is None
    for path in ("/api/device-binding/registration", "/api/device-binding/refresh"):
        assert Client(app).send("POST", path).status == 404


@SQLITE
def test_nothing_is_loaded_while_binding_is_off(database_url: str) -> None:
    program = (
        "import sys; from tokenapp import create_app; create_app();"
        "print([name for name in sys.modules if 'bind' in name or 'bound' in name or 'device_proof' in name])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environment(DATABASE_URL=database_url),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "tokenapp" not in done.stdout
