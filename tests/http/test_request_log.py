"""The log lines of requests."""

import json
import logging
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from werkzeug.test import TestResponse

from tests.conftest import Databases
from tests.support.app import PASSWORD, ROOT, create_user, make_app
from tests.support.log_lines import Captured, read_line, read_lines
from tokenapp import db
from tokenapp.http import logs
from tokenapp.models import Session

PAGE = ROOT / "docs/operations.md"
SECRET = "c4n4ry-of-the-log"
LOGIN = {"username": "alice", "password": PASSWORD}


def sign_in(app: Flask, capfd: Captured) -> tuple[TestResponse, dict[str, Any]]:
    """Sign in a new user; return the response and its log line."""
    create_user(app)
    reply = app.test_client(use_cookies=False).post("/api/login", json=LOGIN)
    return reply, read_line(capfd)


def cookie_of(reply: TestResponse) -> dict[str, str]:
    return {"Cookie": reply.headers["Set-Cookie"].partition(";")[0]}


def bearer_of(reply: TestResponse) -> dict[str, str]:
    return {"Authorization": f"Bearer {(reply.json or {})['accessToken']}"}


def age(app: Flask, **columns: timedelta) -> None:
    """Move the given timestamps of all sessions into the past."""
    with app.app_context():
        for name, by in columns.items():
            (old,) = db.execute_now(sa.select(getattr(Session, name)))[0]
            db.execute_now(sa.update(Session).values({name: old - by}))


def test_change_is_logged_as_one_line_with_all_fields(app: Flask, capfd: Captured) -> None:
    reply, line = sign_in(app, capfd)
    assert line.pop("ms") > 0
    assert datetime.fromisoformat(line.pop("timestamp")) <= datetime.now(UTC)
    with app.app_context():
        session = db.execute_now(sa.select(Session.id, Session.user_id))[0]
    assert line == {
        "event": "request",
        "level": "info",
        "logger": "tokenapp.request",
        "request_id": reply.headers["X-Request-ID"],
        "method": "POST",
        "path": "/api/login",
        "status": 200,
        "outcome": "opened",
        "sub": session.user_id,
        "sid": session.id,
        "client": "127.0.0.1",
    }


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/api/protected", "/api/me", "/api/sessions"])
def test_successful_read_is_not_logged(databases: Databases, capfd: Captured, path: str) -> None:
    app = make_app(databases("sqlite"))
    reply, _ = sign_in(app, capfd)
    assert app.test_client().get(path, headers=bearer_of(reply)).status_code == 200
    assert read_lines(capfd) == []


def test_outcome_of_each_refresh_is_logged(app: Flask, capfd: Captured) -> None:
    reply, opened = sign_in(app, capfd)
    client, outcomes = app.test_client(use_cookies=False), []
    for cookie in (cookie_of(reply), cookie_of(reply)):
        last = client.post("/api/token", headers=cookie)
        outcomes.append(read_line(capfd))
    client.post("/api/token", headers=cookie_of(last))
    outcomes.append(read_line(capfd))
    assert [line["outcome"] for line in outcomes] == ["rotated", "grace", "damped"]
    assert {(line["sub"], line["sid"]) for line in outcomes} == {(opened["sub"], opened["sid"])}


def test_reuse_is_logged_and_hidden_from_the_client(app: Flask, capfd: Captured) -> None:
    first, opened = sign_in(app, capfd)
    app.test_client(use_cookies=False).post("/api/token", headers=cookie_of(first))
    age(app, rotated_at=timedelta(minutes=11))
    capfd.readouterr()
    rejected = app.test_client(use_cookies=False).post("/api/token", headers=cookie_of(first))
    line = read_line(capfd)
    assert (line["outcome"], line["reason"], line["status"]) == ("refresh_token_revoked", "reuse", 403)
    assert (line["sub"], line["sid"]) == (opened["sub"], opened["sid"])
    assert "reuse" not in rejected.text


def test_line_of_a_logout_contains_the_revoked_session(app: Flask, capfd: Captured) -> None:
    reply, opened = sign_in(app, capfd)
    app.test_client(use_cookies=False).post("/api/logout", headers=cookie_of(reply))
    line = read_line(capfd)
    assert (line["status"], line["outcome"], line["sid"]) == (204, "done", opened["sid"])


def test_line_of_an_account_change_contains_user_and_session(app: Flask, capfd: Captured) -> None:
    reply, opened = sign_in(app, capfd)
    app.test_client(use_cookies=False).delete("/api/sessions?keep=current", headers=bearer_of(reply))
    line = read_line(capfd)
    assert (line["path"], line["sub"], line["sid"]) == ("/api/sessions", opened["sub"], opened["sid"])


@pytest.mark.parametrize(
    ("method", "target", "path", "outcome"),
    [
        ("POST", "/api/token", "/api/token", "refresh_token_missing"),
        ("POST", f"/api/token?token={SECRET}", "/api/token", "refresh_token_missing"),
        ("GET", "/api/protected", "/api/protected", "access_token_missing"),
        ("DELETE", f"/api/sessions/{SECRET}", "/api/sessions/<sid>", "access_token_missing"),
        ("PUT", f"/api/token?{SECRET}", "/api/token", "method_not_allowed"),
        ("GET", f"/no/such/path?token={SECRET}", "/no/such/path", "not_found"),
        ("GET", "/" + "long" * 200, ("/" + "long" * 200)[: logs.MAX_PATH], "not_found"),
    ],
)
def test_each_error_is_logged_as_one_line_with_its_code_and_route(
    databases: Databases, capfd: Captured, method: str, target: str, path: str, outcome: str
) -> None:
    reply = make_app(databases("sqlite")).test_client().open(target, method=method)
    line = read_line(capfd)
    assert (line["method"], line["path"], line["outcome"]) == (method, path, outcome)
    assert (line["status"], line["request_id"]) == (reply.status_code, reply.headers["X-Request-ID"])


def test_logged_address_is_the_one_reported_by_trusted_proxies(databases: Databases, capfd: Captured) -> None:
    app = make_app(databases("sqlite"), TOKENAPP_TRUSTED_PROXIES="127.0.0.1")
    app.test_client().post("/api/token", headers={"X-Forwarded-For": "203.0.113.9"})
    assert read_line(capfd)["client"] == "203.0.113.9"


def test_bug_is_logged_with_type_and_place_but_without_its_message(databases: Databases, capfd: Captured) -> None:
    app = make_app(databases("sqlite"))

    @app.get("/bug")
    def fail() -> str:
        secret = f"{SECRET} eyJhbGciOiJIUzI1NiJ9.{SECRET}.{SECRET}"
        try:
            return {"": ""}[secret]
        except KeyError as error:
            raise ValueError(secret) from error

    assert app.test_client().get("/bug").status_code == 500
    text = capfd.readouterr().err
    line = json.loads(text)
    assert SECRET not in text
    assert (line["level"], line["outcome"], line["error"]) == ("error", "internal_error", "ValueError from KeyError")
    assert re.fullmatch(r"http/test_request_log\.py:\d+ fail", line["stack"][-1])


def test_missing_table_is_logged_without_the_sql_statement(app: Flask, capfd: Captured) -> None:
    create_user(app)
    with app.app_context():
        db.execute_now(sa.text("ALTER TABLE throttles RENAME TO gone"))
    capfd.readouterr()
    assert app.test_client().post("/api/login", json=LOGIN).status_code == 503
    line = read_line(capfd)
    assert (line["level"], line["outcome"]) == ("error", "service_unavailable")
    assert "throttles" in line["detail"]
    assert "INSERT" not in json.dumps(line)


def test_row_rejected_by_the_database_is_not_logged(databases: Databases, capfd: Captured) -> None:
    app = make_app(databases("postgresql"))
    reply, _ = sign_in(app, capfd)
    with app.app_context():
        db.execute_now(sa.text("ALTER TABLE users ADD CHECK (password_hash = '') NOT VALID"))
    body = {"currentPassword": PASSWORD, "newPassword": "another horse battery staple"}
    assert app.test_client().put("/api/me/password", json=body, headers=bearer_of(reply)).status_code == 500
    text = capfd.readouterr().err
    assert json.loads(text)["error"] == "IntegrityError from CheckViolation"
    assert "$argon2" not in text
    assert "alice" not in text


def test_line_of_a_library_contains_the_request_id(databases: Databases, capfd: Captured) -> None:
    app = make_app(databases("sqlite"))

    @app.get("/logs")
    def write_line() -> str:
        logging.getLogger("some.library").warning("a message")
        return ""

    reply = app.test_client().get("/logs")
    assert read_line(capfd)["request_id"] == reply.headers["X-Request-ID"]


def test_every_field_is_documented_for_operators(databases: Databases, capfd: Captured) -> None:
    app = make_app(databases("sqlite"))

    @app.get("/bug")
    def fail() -> str:
        raise KeyError

    reply, line = sign_in(app, capfd)
    app.test_client().get("/bug", headers={"X-Request-ID": "chosen-by-the-caller"})
    app.test_client().get("/api/protected", headers={"Authorization": "Bearer malformed"})
    logging.getLogger("some.library").warning("%d", "no number")
    with app.app_context():
        db.execute_now(sa.text("ALTER TABLE sessions RENAME TO gone"))
    app.test_client(use_cookies=False).post("/api/token", headers=cookie_of(reply))
    seen = set(line).union(*read_lines(capfd))
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \|$", PAGE.read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(seen)
