"""The log: a line for each refusal and each change, in one form, which nobody can forge and which holds no secret."""

import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from werkzeug.test import TestResponse

from bench.canaries import Canaries, canary_requests, dump, malformed_requests, send_raw, use_account
from tests.conftest import Databases, Servers
from tests.support.app import PASSWORD, ROOT, create_user, environment, make_app
from tests.support.client import Client
from tests.support.concurrency import wait_until
from tests.support.server import Server
from tokenapp import db
from tokenapp.http import logs
from tokenapp.models import Session

Captured = pytest.CaptureFixture[str]
PAGE = ROOT / "docs/operations.md"
SECRET = "c4n4ry-of-the-log"
LOGIN = {"username": "alice", "password": PASSWORD}
TEXT_LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z (info|warning|error) [\w.-]+ .+")


def written(capfd: Captured) -> list[dict[str, Any]]:
    """Return the lines written since the last call."""
    return [json.loads(line) for line in capfd.readouterr().err.splitlines()]


def only(capfd: Captured) -> dict[str, Any]:
    (line,) = written(capfd)
    return line


def sign_in(app: Flask, capfd: Captured) -> tuple[TestResponse, dict[str, Any]]:
    """Sign a new user in; return the answer and its line."""
    create_user(app)
    reply = app.test_client(use_cookies=False).post("/api/login", json=LOGIN)
    return reply, only(capfd)


def cookie_of(reply: TestResponse) -> dict[str, str]:
    return {"Cookie": reply.headers["Set-Cookie"].partition(";")[0]}


def bearer_of(reply: TestResponse) -> dict[str, str]:
    return {"Authorization": f"Bearer {(reply.json or {})['accessToken']}"}


def age(app: Flask, **columns: timedelta) -> None:
    """Move times of all sessions back."""
    with app.app_context():
        for name, by in columns.items():
            (old,) = db.execute_now(sa.select(getattr(Session, name)))[0]
            db.execute_now(sa.update(Session).values({name: old - by}))


def test_a_change_leaves_one_line_with_all_that_an_operator_asks_for(app: Flask, capfd: Captured) -> None:
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
def test_a_read_that_went_well_leaves_no_line(databases: Databases, capfd: Captured, path: str) -> None:
    app = make_app(databases("sqlite"))
    reply, _ = sign_in(app, capfd)
    assert app.test_client().get(path, headers=bearer_of(reply)).status_code == 200
    assert written(capfd) == []


def test_the_outcome_of_each_refresh_is_told(app: Flask, capfd: Captured) -> None:
    reply, opened = sign_in(app, capfd)
    client, outcomes = app.test_client(use_cookies=False), []
    for cookie in (cookie_of(reply), cookie_of(reply)):
        last = client.post("/api/token", headers=cookie)
        outcomes.append(only(capfd))
    client.post("/api/token", headers=cookie_of(last))
    outcomes.append(only(capfd))
    assert [line["outcome"] for line in outcomes] == ["rotated", "grace", "damped"]
    assert {(line["sub"], line["sid"]) for line in outcomes} == {(opened["sub"], opened["sid"])}


def test_a_reuse_is_told_to_the_log_and_not_to_the_client(app: Flask, capfd: Captured) -> None:
    first, opened = sign_in(app, capfd)
    app.test_client(use_cookies=False).post("/api/token", headers=cookie_of(first))
    age(app, rotated_at=timedelta(minutes=11))
    capfd.readouterr()
    refused = app.test_client(use_cookies=False).post("/api/token", headers=cookie_of(first))
    line = only(capfd)
    assert (line["outcome"], line["reason"], line["status"]) == ("refresh_token_revoked", "reuse", 403)
    assert (line["sub"], line["sid"]) == (opened["sub"], opened["sid"])
    assert "reuse" not in refused.text


def test_a_logout_names_the_session_that_it_ended(app: Flask, capfd: Captured) -> None:
    reply, opened = sign_in(app, capfd)
    app.test_client(use_cookies=False).post("/api/logout", headers=cookie_of(reply))
    line = only(capfd)
    assert (line["status"], line["outcome"], line["sid"]) == (204, "done", opened["sid"])


def test_a_change_of_the_account_names_user_and_session(app: Flask, capfd: Captured) -> None:
    reply, opened = sign_in(app, capfd)
    app.test_client(use_cookies=False).delete("/api/sessions?keep=current", headers=bearer_of(reply))
    line = only(capfd)
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
def test_each_refusal_leaves_one_line_with_its_code_and_the_route(
    databases: Databases, capfd: Captured, method: str, target: str, path: str, outcome: str
) -> None:
    reply = make_app(databases("sqlite")).test_client().open(target, method=method)
    line = only(capfd)
    assert (line["method"], line["path"], line["outcome"]) == (method, path, outcome)
    assert (line["status"], line["request_id"]) == (reply.status_code, reply.headers["X-Request-ID"])


def test_the_address_is_the_one_that_trusted_proxies_vouch_for(databases: Databases, capfd: Captured) -> None:
    app = make_app(databases("sqlite"), TOKENAPP_TRUSTED_PROXIES="127.0.0.1")
    app.test_client().post("/api/token", headers={"X-Forwarded-For": "203.0.113.9"})
    assert only(capfd)["client"] == "203.0.113.9"


def test_a_bug_is_told_by_its_type_and_place_and_not_in_its_words(databases: Databases, capfd: Captured) -> None:
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
    assert re.fullmatch(r"http/test_logs\.py:\d+ fail", line["stack"][-1])


def test_a_missing_table_is_told_in_the_words_of_the_database_without_the_statement(
    app: Flask, capfd: Captured
) -> None:
    create_user(app)
    with app.app_context():
        db.execute_now(sa.text("ALTER TABLE throttles RENAME TO gone"))
    capfd.readouterr()
    assert app.test_client().post("/api/login", json=LOGIN).status_code == 503
    line = only(capfd)
    assert (line["level"], line["outcome"]) == ("error", "service_unavailable")
    assert "throttles" in line["detail"]
    assert "INSERT" not in json.dumps(line)


def test_a_row_that_the_database_rejects_is_not_shown(databases: Databases, capfd: Captured) -> None:
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


@pytest.mark.parametrize(
    ("line", "secret"),
    [
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.c4n4ry", "c4n4ry"),
        ("eyJhbGciOiJIUzI1NiIsImtpZCI6ImM0bjRyeSIsInR5cCI6ImF0K2p3dCJ9", "ImM0bjRyeSI"),
        ("Authorization: BEARER c4n4ry0123456789", "c4n4ry"),
        ("Basic dXNlcjpjNG40cnk=", "dXNlcjpjNG40cnk"),
        ("__Host-refreshToken=c4n4ry", "c4n4ry"),
        ("$argon2id$v=19$m=8,t=1,p=1$c2FsdA$c4n4ry", "c4n4ry"),
        ("scrypt:32768:8:1$salt$c4n4ry", "c4n4ry"),
    ],
)
def test_what_looks_like_a_secret_is_cut_out_of_any_line(
    databases: Databases, capfd: Captured, line: str, secret: str
) -> None:
    make_app(databases("sqlite"))
    logging.getLogger("somebody.else").warning("before '%s' after", line)
    event = only(capfd)["event"]
    assert event.startswith("before '")
    assert event.endswith("[cut]' after")
    assert secret not in event


@pytest.mark.parametrize("server", ["gunicorn.error", "gunicorn.access", "werkzeug"])
def test_a_query_is_cut_out_of_a_server_line(databases: Databases, capfd: Captured, server: str) -> None:
    make_app(databases("sqlite"))
    logging.getLogger(server).error('"%s /path?token=%s HTTP/1.1" 200', "GET", SECRET)
    assert only(capfd)["event"] == '"GET /path?[cut] HTTP/1.1" 200'


def test_ids_that_only_begin_like_a_token_are_left_alone(databases: Databases, capfd: Captured) -> None:
    app = make_app(databases("sqlite"))
    app.test_client().post("/api/token", headers={"X-Request-ID": "eyJhbGciOiJIUzI1"})
    assert only(capfd)["request_id"] == "eyJhbGciOiJIUzI1"


def test_a_line_that_cannot_be_made_is_named_without_its_arguments(databases: Databases, capfd: Captured) -> None:
    make_app(databases("sqlite"))
    logging.getLogger("somebody.else").warning("%d", SECRET)
    line = only(capfd)
    assert (line["event"], line["logger"]) == ("unloggable", "somebody.else")
    assert line["place"].startswith("test_logs.py:")


def test_a_library_line_names_the_request_in_which_it_was_written(databases: Databases, capfd: Captured) -> None:
    app = make_app(databases("sqlite"))

    @app.get("/chatty")
    def chat() -> str:
        logging.getLogger("somebody.else").warning("hear me")
        return ""

    reply = app.test_client().get("/chatty")
    assert only(capfd)["request_id"] == reply.headers["X-Request-ID"]


def test_an_exception_that_ends_a_thread_is_one_line(
    databases: Databases, capfd: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_app(databases("sqlite"))
    monkeypatch.setattr(threading, "excepthook", logs.log_thread_exception)
    thread = threading.Thread(target={"": ""}.__getitem__, args=(SECRET,))
    thread.start()
    thread.join()
    text = capfd.readouterr().err
    assert (json.loads(text)["event"], json.loads(text)["error"]) == ("thread ended", "KeyError")
    assert SECRET not in text


def test_every_field_of_a_line_is_explained_on_the_page_for_operators(databases: Databases, capfd: Captured) -> None:
    app = make_app(databases("sqlite"))

    @app.get("/bug")
    def fail() -> str:
        raise KeyError

    reply, line = sign_in(app, capfd)
    app.test_client().get("/bug", headers={"X-Request-ID": "chosen-by-the-caller"})
    app.test_client().get("/api/protected", headers={"Authorization": "Bearer malformed"})
    logging.getLogger("somebody.else").warning("%d", "no number")
    with app.app_context():
        db.execute_now(sa.text("ALTER TABLE sessions RENAME TO gone"))
    app.test_client(use_cookies=False).post("/api/token", headers=cookie_of(reply))
    seen = set(line).union(*written(capfd))
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \|$", PAGE.read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(seen)


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_every_line_of_a_server_has_the_one_form_from_the_first_to_the_last(
    databases: Databases, tmp_path: Path, log_format: str
) -> None:
    log = tmp_path / "log"
    with Server(databases("sqlite"), {"TOKENAPP_LOG_FORMAT": log_format}, log=log) as server:
        server.client.refresh(None)
        send_raw(server.port, f"GET /?{SECRET} HTTP/9.9\r\n\r\n".encode())
        os.kill(server.workers()[0], signal.SIGKILL)
        wait_until(lambda: "was sent SIGKILL" in log.read_text(), what="the line about the worker")
        wait_until(lambda: log.read_text().count("Booting worker") == 3, what="a new worker")
    lines = log.read_text().splitlines()
    told = "\n".join(lines)
    for words in ("Starting gunicorn", "Booting worker", "bad request", "InvalidHTTPVersion", "Shutting down"):
        assert words in told
    assert "Starting gunicorn" in lines[0]
    assert SECRET not in told
    if log_format == "json":
        assert all({"timestamp", "level", "logger", "event"} <= json.loads(line).keys() for line in lines)
    else:
        assert [line for line in lines if not TEXT_LINE.fullmatch(line)] == []


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_nobody_can_forge_a_line_or_steer_a_terminal(databases: Databases, tmp_path: Path, log_format: str) -> None:
    log = tmp_path / "log"
    forged = '{"event":"forged"}' if log_format == "json" else "2026-01-01T00:00:00.0Z info tokenapp forged"
    breaks = [
        "\n",
        "\r\n",
        "\x0b",
        "\x0c",
        "\x1c",
        "\x85",
        "\u2028",
        "\u2029",
        "\x1b[2J",
        "\x7f",
        "\u202e",
        "\x00",
        " ",
    ]
    with Server(databases("sqlite"), {"TOKENAPP_LOG_FORMAT": log_format}, log=log) as server:
        before = len(log.read_bytes().splitlines())
        for each in breaks:
            sent = "".join(f"%{byte:02x}" for byte in f"{each}{forged}{each}".encode())
            assert server.client.send("GET", f"/{sent}", headers={"X-Request-ID": "a b\t"}).status == 404
        wait_until(lambda: len(log.read_text().split("\n")) - 1 >= before + len(breaks), what="the lines")
        lines = log.read_text().splitlines()[before:]
    assert len([line for line in lines if "/" in line and "not_found" in line]) == len(breaks)
    assert not any(line.startswith(forged) for line in lines)
    assert set(log.read_bytes()) <= {*range(0x20, 0x7F), 0x0A}


def test_a_log_that_cannot_be_written_fails_nothing(databases: Databases) -> None:
    url = databases("sqlite")
    app = make_app(url)
    create_user(app)
    with app.app_context():
        db.db.engine.dispose()
    with Server(url, log=Path("/dev/full")) as server:
        reply = server.client.login()
        assert [reply.status, server.client.refresh(reply.cookie).status] == [200, 200]
        assert server.client.refresh(None).status == 401


def test_faults_in_the_settings_end_the_server_with_their_list_and_no_traceback() -> None:
    env = environment(TOKENAPP_ENV="production", SECRET_KEY=SECRET, TOKENAPP_LOG_FORMAT="loud")
    ended = subprocess.run(
        [sys.executable, "-m", "gunicorn"], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode != 0
    assert ended.stderr.startswith("tokenapp cannot start:\n")
    assert {"SECRET_KEY", "TOKENAPP_LOG_FORMAT", "TOKENAPP_ISSUER"} <= set(re.findall(r"- (\w+) ", ended.stderr))
    assert "Traceback" not in ended.stderr
    assert SECRET not in ended.stderr


def test_no_secret_reaches_the_log_or_the_database(database_url: str, serve: Servers, tmp_path: Path) -> None:
    canaries, app = Canaries(), make_app(database_url)
    create_user(app, "alice", canaries.password)
    server = serve(database_url)
    use_account(server.client, canaries)
    for method, path, more in canary_requests(app, canaries):
        reply = server.client.send(method, path, **more)
        assert reply.status < 500 or reply.status == 501, (method, path, more, reply.body)
    for message in malformed_requests(canaries):
        send_raw(server.port, message)
    assert canaries.found_in(dump(database_url)) == []
    fail_with(app, canaries.token, server.client, canaries)
    log = (tmp_path / "server.log").read_bytes()
    assert canaries.found_in(log) == []
    outcomes = {json.loads(line).get("outcome") for line in log.splitlines()}
    assert {"internal_error", "service_unavailable", "opened", "rotated", "invalid_credentials"} <= outcomes


def fail_with(app: Flask, words: str, client: Client, canaries: Canaries) -> None:
    """Make the database refuse to open sessions: with those words, as a bug of ours would; then for want of a table."""
    with app.app_context(), closing(db.db.engine.raw_connection()) as connection:
        cursor = connection.cursor()
        if db.db.engine.dialect.name == "sqlite":
            cursor.execute(f"CREATE TRIGGER fail BEFORE INSERT ON sessions BEGIN SELECT RAISE(ABORT, '{words}'); END")
        else:
            function = f"BEGIN RAISE EXCEPTION '{words} %', NEW.id USING ERRCODE = '23514', DETAIL = '{words}'; END"
            cursor.execute(f"CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ {function} $$")
            cursor.execute("CREATE TRIGGER fail BEFORE INSERT ON sessions FOR EACH ROW EXECUTE FUNCTION fail()")
        connection.commit()
        assert client.login("alice", canaries.password).status == 500
        cursor.execute("ALTER TABLE throttles RENAME TO gone")
        connection.commit()
        assert client.login("alice", canaries.password).status == 503
