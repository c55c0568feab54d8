"""``flask doctor``: every problem that it reports, and its exit codes."""

import json
import secrets
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from tests.conftest import Databases
from tests.support.app import application
from tests.support.commandline import run, run_json
from tests.support.server import free_port, run_flask
from tests.support.servers import REDIS_PASSWORD, Redis
from tokenapp import db, keys
from tokenapp.db import schema
from tokenapp.models import SigningKey

SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
SECRET, FORMER = secrets.token_urlsafe(48), secrets.token_urlsafe(48)
PRODUCTION = {
    "TOKENAPP_ENV": "production",
    "SECRET_KEY": SECRET,
    "TOKENAPP_ISSUER": "https://id.example.org",
    "TOKENAPP_TRUSTED_PROXIES": "127.0.0.1",
    "TOKENAPP_PASSWORD_MEMORY": "19456",
    "TOKENAPP_PASSWORD_PASSES": "2",
}
Findings = dict[str, tuple[str, str]]


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an instance folder for this test only."""
    monkeypatch.setenv("TOKENAPP_INSTANCE_PATH", str(tmp_path))
    return tmp_path


def production(url: str, **settings: str) -> AbstractContextManager[Flask]:
    return application(url, **PRODUCTION | settings)


def findings(app: Flask, code: int, *, notes: bool = False) -> Findings:
    """Return severity and problem of each finding, or note, by its subject."""
    found: list[dict[str, Any]] = run_json(app, "doctor", code=code)
    assert all(each.keys() == {"severity", "subject", "problem", "breaks", "mend"} for each in found)
    assert all(all(each.values()) for each in found)
    return {
        each["subject"]: (each["severity"], each["problem"]) for each in found if (each["severity"] == "note") is notes
    }


@pytest.fixture
def postgres_url(databases: Databases) -> str:
    return databases("postgresql")


@pytest.mark.usefixtures("instance")
def test_valid_installation_has_no_problems(postgres_url: str) -> None:
    with production(postgres_url) as app:
        assert findings(app, 0) == {}
        lines = run(app, "doctor").stdout.splitlines()
        assert lines[-1] == "No problems found."
        assert all(line.startswith("note: ") for line in lines[:-1])


@pytest.mark.usefixtures("instance")
@pytest.mark.parametrize(
    ("settings", "subject", "severity", "problem"),
    [
        ({"TOKENAPP_ENV": "development"}, "TOKENAPP_ENV", "warning", "the mode is development"),
        (
            {"SECRET_KEY_FALLBACKS": FORMER},
            "…_FALLBACKS",
            "warning",
            "former secrets are still accepted",
        ),
        ({"TOKENAPP_ISSUER": "https://localhost"}, "TOKENAPP_ISSUER", "error", "it is a URL of this machine"),
        (
            {"TOKENAPP_ALLOWED_ORIGINS": "https://app.example.org,https://example.net"},
            "TOKENAPP_ALLOWED_ORIGINS",
            "warning",
            "https://example.net is not on the same site as id.example.org",
        ),
        ({"TOKENAPP_TRUSTED_PROXIES": ""}, "TOKENAPP_TRUSTED_PROXIES", "warning", "it is not set"),
        (
            {"TOKENAPP_TRUSTED_PROXIES": "0.0.0.0/0"},
            "TOKENAPP_TRUSTED_PROXIES",
            "warning",
            "0.0.0.0/0 trusts addresses that cannot all be proxies",
        ),
        (
            {"TOKENAPP_TRUSTED_PROXIES": "10.0.0.0/8,::/1"},
            "TOKENAPP_TRUSTED_PROXIES",
            "warning",
            "::/1 trusts addresses that cannot all be proxies",
        ),
        (
            {"TOKENAPP_REFRESH_GRACE": "0"},
            "TOKENAPP_REFRESH_GRACE",
            "warning",
            "it is 0: a refresh token works exactly once",
        ),
        (
            {"WEB_CONCURRENCY": "10", "TOKENAPP_THREADS": "10"},
            "TOKENAPP_THREADS",
            "warning",
            "this host can open 220 connections, and PostgreSQL allows 197",
        ),
    ],
)
def test_doubtful_setting_is_reported(
    postgres_url: str, settings: dict[str, str], subject: str, severity: str, problem: str
) -> None:
    with production(postgres_url, **settings) as app:
        assert findings(app, 2 if severity == "error" else 1) == {subject: (severity, problem)}
        shown = run(app, "doctor", code=2 if severity == "error" else 1).stdout.splitlines()
        [line] = [line for line in shown if not line.startswith("note: ")]
        assert line.startswith(f"{severity}: {subject}: {problem}; ")
        assert ". Fix: " in line


@pytest.mark.usefixtures("instance")
@SQLITE
def test_sqlite_is_a_note_and_the_mode_of_its_file_a_warning(database_url: str) -> None:
    path = Path(database_url.removeprefix("sqlite:///"))
    path.chmod(0o600)
    with production(database_url) as app:
        assert findings(app, 0) == {}
        assert findings(app, 0, notes=True)["DATABASE_URL"] == ("note", "it is SQLite")
        path.chmod(0o644)
        assert findings(app, 1)[path.name] == ("warning", "its mode is 0644")


def test_new_sqlite_file_is_readable_only_by_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    assert run_flask(f"sqlite:///{path}", "db", "upgrade").returncode == 0
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.usefixtures("instance")
def test_unavailable_database_is_one_error(postgres_url: str) -> None:
    away = postgres_url.rsplit(":", 1)[0] + f":{free_port()}/none"
    with production(away) as app:
        found = findings(app, 2)
        assert found.keys() == {"DATABASE_URL"}
        assert found["DATABASE_URL"][1].endswith("failed: Connection refused"), "the driver's own words"


@pytest.mark.usefixtures("instance")
def test_old_database_version_is_reported(postgres_url: str) -> None:
    with production(postgres_url) as app:
        with app.app_context():
            db.execute_now(sa.text("UPDATE alembic_version SET version_num = '0001'"))
        problem = f"the database has version 0001, the program needs {schema.VERSION}"
        assert findings(app, 2) == {"migrations": ("error", problem)}


@pytest.mark.usefixtures("instance")
def test_wrong_clock_is_reported(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Late(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]  # the type of the result is enough
            return datetime.now(tz) - timedelta(seconds=90)

    monkeypatch.setattr("tokenapp.cli.doctor.datetime", Late)
    with production(postgres_url) as app:
        assert findings(app, 2) == {"clock": ("error", "this machine's differs from the database's by 90 s")}


@pytest.mark.usefixtures("instance")
def test_key_that_cannot_be_decrypted_is_reported(postgres_url: str) -> None:
    with production(postgres_url) as app, app.app_context():
        kid = keys.load(datetime.now(UTC)).signing["access"].kid
        db.execute_now(sa.delete(SigningKey).where(SigningKey.use == "refresh"))
    with production(postgres_url, SECRET_KEY=FORMER) as app:
        assert findings(app, 2) == {"keys": ("error", f"the key {kid} was encrypted under another SECRET_KEY")}


@pytest.mark.usefixtures("instance")
def test_key_that_was_active_for_more_than_a_year_is_reported(postgres_url: str) -> None:
    with production(postgres_url) as app:
        with app.app_context():
            kid = keys.load(datetime.now(UTC) - timedelta(days=400)).signing["access"].kid
            db.execute_now(sa.delete(SigningKey).where(SigningKey.use == "refresh"))
        problem = f"the access key {kid} has been active for more than a year"
        assert findings(app, 1) == {"keys": ("warning", problem)}


def test_secret_readable_by_others_is_reported(postgres_url: str, instance: Path) -> None:
    file = instance / "secret_key"
    file.write_text("secret")
    file.chmod(0o640)
    with production(postgres_url) as app:
        assert findings(app, 0) == {}
        file.chmod(0o604)
        assert findings(app, 2) == {"secret_key": ("error", "its mode is 0604")}


@pytest.mark.usefixtures("instance")
def test_unavailable_rate_limit_server_is_reported(postgres_url: str, tmp_path: Path) -> None:
    with Redis(tmp_path) as redis, production(postgres_url, RATELIMIT_STORAGE_URI=redis.url) as app:
        assert findings(app, 0) == {}
        redis.kill()
        assert findings(app, 1) == {
            "RATELIMIT_STORAGE_URI": ("warning", "the server does not respond (ConnectionError)")
        }
        assert REDIS_PASSWORD not in run(app, "doctor", code=1).output


@SQLITE
def test_exit_code_is_that_of_the_most_severe_problem(database_url: str) -> None:
    done = run_flask(database_url, "doctor", "--json")
    assert done.returncode == 1
    assert "TOKENAPP_ENV" in {each["subject"] for each in json.loads(done.stdout)}
    assert done.stderr == ""
