"""The format of the log, and the secrets it must not contain."""

import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
from flask import Flask

from bench.canaries import Canaries, canary_requests, dump, malformed_requests, send_raw, use_account
from tests.conftest import Databases, Servers
from tests.support.app import ROOT, create_user, environment, make_app
from tests.support.client import Client
from tests.support.concurrency import wait_until
from tests.support.log_lines import Captured, read_line
from tests.support.server import Server
from tokenapp import db
from tokenapp.http import logs

SECRET = "c4n4ry-of-the-log"
TEXT_LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z (info|warning|error) [\w.-]+ .+")


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
        ("key tokenapp_0123456789c4n4ry0123456789", "c4n4ry"),
    ],
)
def test_values_that_look_like_secrets_are_removed_from_every_line(
    databases: Databases, capfd: Captured, line: str, secret: str
) -> None:
    make_app(databases("sqlite"))
    logging.getLogger("some.library").warning("before '%s' after", line)
    event = read_line(capfd)["event"]
    assert event.startswith("before '")
    assert event.endswith("[cut]' after")
    assert secret not in event


@pytest.mark.parametrize("server", ["gunicorn.error", "gunicorn.access", "werkzeug"])
def test_query_is_removed_from_lines_of_servers(databases: Databases, capfd: Captured, server: str) -> None:
    make_app(databases("sqlite"))
    logging.getLogger(server).error('"%s /path?token=%s HTTP/1.1" 200', "GET", SECRET)
    assert read_line(capfd)["event"] == '"GET /path?[cut] HTTP/1.1" 200'


def test_id_that_only_starts_like_a_token_is_kept(databases: Databases, capfd: Captured) -> None:
    app = make_app(databases("sqlite"))
    app.test_client().post("/api/token", headers={"X-Request-ID": "eyJhbGciOiJIUzI1"})
    assert read_line(capfd)["caller_request_id"] == "eyJhbGciOiJIUzI1"


def test_line_that_cannot_be_formatted_is_logged_without_its_arguments(databases: Databases, capfd: Captured) -> None:
    make_app(databases("sqlite"))
    logging.getLogger("some.library").warning("%d", SECRET)
    line = read_line(capfd)
    assert (line["event"], line["logger"]) == ("unloggable", "some.library")
    assert line["place"].startswith("test_logs.py:")


def test_exception_that_ends_a_thread_is_logged_as_one_line(
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


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_every_line_of_a_server_has_the_configured_format(
    databases: Databases, tmp_path: Path, log_format: str
) -> None:
    log = tmp_path / "log"
    with Server(databases("sqlite"), {"TOKENAPP_LOG_FORMAT": log_format}, log=log) as server:
        server.client.refresh(None)
        send_raw(server.port, f"GET /?{SECRET} HTTP/9.9\r\n\r\n".encode())
        killed, other = server.workers()
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: "was sent SIGKILL" in log.read_text(), what="the line about the killed worker")
        wait_until(lambda: log.read_text().count("Booting worker") == 3, what="a new worker")
        # gunicorn may print a traceback if it is stopped while a worker starts. So wait until the new one serves.
        os.kill(other, signal.SIGSTOP)
        assert server.client.send("GET", "/healthz").status == 200
        os.kill(other, signal.SIGCONT)
    lines = log.read_text().splitlines()
    text = "\n".join(lines)
    for words in ("Starting gunicorn", "Booting worker", "bad request", "InvalidHTTPVersion", "Shutting down"):
        assert words in text
    assert "Starting gunicorn" in lines[0]
    assert SECRET not in text
    if log_format == "json":
        assert all({"timestamp", "level", "logger", "event"} <= json.loads(line).keys() for line in lines)
    else:
        assert [line for line in lines if not TEXT_LINE.fullmatch(line)] == []


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_client_cannot_forge_lines_or_send_terminal_sequences(
    databases: Databases, tmp_path: Path, log_format: str
) -> None:
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


def test_log_that_cannot_be_written_fails_no_request(databases: Databases) -> None:
    url = databases("sqlite")
    app = make_app(url)
    create_user(app)
    with app.app_context():
        db.db.engine.dispose()
    with Server(url, log=Path("/dev/full")) as server:
        reply = server.client.login()
        assert [reply.status, server.client.refresh(reply.cookie).status] == [200, 200]
        assert server.client.refresh(None).status == 401


def test_invalid_settings_are_listed_without_a_traceback() -> None:
    env = environment(TOKENAPP_ENV="production", SECRET_KEY=SECRET, TOKENAPP_LOG_FORMAT="loud")
    finished = subprocess.run(
        [sys.executable, "-m", "gunicorn"], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert finished.returncode != 0
    assert finished.stderr.startswith("tokenapp cannot start:\n")
    assert {"SECRET_KEY", "TOKENAPP_LOG_FORMAT", "TOKENAPP_ISSUER"} <= set(re.findall(r"- (\w+) ", finished.stderr))
    assert "Traceback" not in finished.stderr
    assert SECRET not in finished.stderr


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


def fail_with(app: Flask, message: str, client: Client, canaries: Canaries) -> None:
    """Sign in with a database that first raises `message`, then misses a table."""
    with app.app_context(), closing(db.db.engine.raw_connection()) as connection:
        cursor = connection.cursor()
        if db.db.engine.dialect.name == "sqlite":
            cursor.execute(f"CREATE TRIGGER fail BEFORE INSERT ON sessions BEGIN SELECT RAISE(ABORT, '{message}'); END")
        else:
            function = f"BEGIN RAISE EXCEPTION '{message} %', NEW.id USING ERRCODE = '23514', DETAIL = '{message}'; END"
            cursor.execute(f"CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ {function} $$")
            cursor.execute("CREATE TRIGGER fail BEFORE INSERT ON sessions FOR EACH ROW EXECUTE FUNCTION fail()")
        connection.commit()
        assert client.login("alice", canaries.password).status == 500
        cursor.execute("ALTER TABLE throttles RENAME TO gone")
        connection.commit()
        assert client.login("alice", canaries.password).status == 503
