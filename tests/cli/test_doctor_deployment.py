"""``flask doctor`` on files, users, addresses, and the server at the issuer."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import psycopg
import pytest
from flask import Flask

from tests.cli.test_doctor import findings, production
from tests.conftest import Databases
from tests.support.app import application, create_user
from tests.support.server import Server, free_port
from tokenapp import accounts, sessions
from tokenapp.models import Device


@pytest.fixture(autouse=True)
def _instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENAPP_INSTANCE_PATH", str(tmp_path / "instance"))


@pytest.fixture
def url(databases: Databases) -> str:
    return databases("postgresql")


@pytest.mark.parametrize(
    ("name", "text"),
    [("SECRET_KEY", ""), ("DATABASE_URL", ""), ("REFRESH_TOKEN_SECRET", "Zq8#vLw2!nRt5@xKc9^mBp4&hYd7*sGf")],
)
def test_secret_file_that_others_can_read_is_an_error(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    file = tmp_path / name
    with production(url) as app:
        values = {"SECRET_KEY": app.config["TOKENAPP"].secret_key, "DATABASE_URL": url}
    file.write_text(text or values[name])
    monkeypatch.setenv(f"{name}_FILE", str(file))
    with production(url, **{name: ""}) as app:
        file.chmod(0o600)
        assert findings(app, 0) == {}
        file.chmod(0o644)
        assert findings(app, 2) == {f"{name}_FILE": ("error", "its mode is 0644")}


def test_file_of_settings_with_a_secret_is_reported_if_others_can_read_it(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = Path(".env")
    file.write_text("PORT=3005\n")
    file.chmod(0o644)
    with production(url) as app:
        assert findings(app, 0) == {}
        file.write_text("SECRET_KEY=any\n")
        assert findings(app, 2) == {".env": ("error", "its mode is 0644")}


def test_installation_without_users_is_a_note(url: str) -> None:
    with production(url) as app:
        assert findings(app, 0, notes=True)["users"] == ("note", "there is no user")
        create_user(app)
        assert "users" not in findings(app, 0, notes=True)


def test_connection_limit_of_the_role_counts(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS limited")
        connection.execute("CREATE ROLE limited LOGIN SUPERUSER CONNECTION LIMIT 10")
    with production(url.replace("postgres@", "limited@")) as app:
        problem = "this host can open 20 connections, and PostgreSQL allows 10"
        assert findings(app, 1) == {"TOKENAPP_THREADS": ("warning", problem)}


def open_sessions(app: Flask, username: str, *addresses: str) -> None:
    """Create a user, and open a session from each address."""
    create_user(app, username)
    with app.app_context():
        user = accounts.find(username)
        for address in addresses:
            sessions.open_session(user, datetime.now(UTC), Device(address, "curl/8"))


@pytest.mark.parametrize(
    ("addresses", "reported"),
    [
        (["10.0.0.7"] * 5, True),
        (["10.0.0.7"] * 4, False),
        (["10.0.0.7"] * 5 + ["203.0.113.9"], False),
        (["203.0.113.9"] * 5, False),
    ],
)
def test_one_internal_address_for_all_sessions_is_reported(url: str, addresses: list[str], *, reported: bool) -> None:
    with production(url) as app:
        open_sessions(app, "alice", *addresses)
        found = findings(app, 1 if reported else 0)
    problem = "all 5 recent sessions have the address 10.0.0.7"
    assert found == ({"TOKENAPP_TRUSTED_PROXIES": ("warning", problem)} if reported else {})


def test_one_public_address_for_the_sessions_of_several_users_is_reported(url: str) -> None:
    with production(url) as app:
        for name in ("alice", "bob"):
            open_sessions(app, name, *["203.0.113.9"] * 3)
        assert "TOKENAPP_TRUSTED_PROXIES" in findings(app, 1)


class OtherService(BaseHTTPRequestHandler):
    """A server whose metadata name another issuer."""

    body = json.dumps({"issuer": "https://other.example"}).encode()

    def do_GET(self) -> None:
        """Respond to every path."""
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def other_service() -> Iterator[int]:
    """Start another service, and return its port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), OtherService) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_issuer_at_which_another_service_responds_is_a_warning(url: str, other_service: int) -> None:
    issuer = f"http://127.0.0.1:{other_service}"
    with application(url, TOKENAPP_ISSUER=issuer) as app:
        found = findings(app, 1)
    assert found["TOKENAPP_ISSUER"] == ("warning", f"what responds at {issuer} is not this service")


def test_issuer_at_which_nothing_responds_is_a_note(url: str) -> None:
    issuer = f"http://127.0.0.1:{free_port()}"
    with application(url, TOKENAPP_ISSUER=issuer) as app:
        severity, problem = findings(app, 1, notes=True)["TOKENAPP_ISSUER"]
    assert (severity, problem.startswith(f"nothing responds at {issuer} (")) == ("note", True)


@pytest.mark.parametrize("path", ["", "/auth"])
def test_issuer_at_which_the_service_responds_is_not_reported(url: str, path: str) -> None:
    port = free_port()
    issuer = f"http://127.0.0.1:{port}{path}"
    with Server(url, {"TOKENAPP_ISSUER": issuer}, port=port), application(url, TOKENAPP_ISSUER=issuer) as app:
        found = findings(app, 1) | findings(app, 1, notes=True)
    assert "TOKENAPP_ISSUER" not in found
