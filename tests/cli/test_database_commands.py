"""``flask db``: one line, whatever happens, and no file from reading."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from flask import Flask

from tests.conftest import Databases
from tests.db.test_migrations import KINDS, empty_database
from tests.support.app import application
from tests.support.commandline import error_of, run
from tests.support.server import free_port
from tests.support.sqlite import write_lock
from tokenapp import db
from tokenapp.db import schema


@pytest.fixture(params=KINDS)
def empty(request: pytest.FixtureRequest, databases: Databases, tmp_path: Path) -> Iterator[Flask]:
    """Return the application on a database without tables."""
    with application(empty_database(databases, request.param, tmp_path)) as app:
        yield app


def set_version(app: Flask, version: str) -> None:
    with app.app_context():
        db.execute_now(sa.text(f"UPDATE alembic_version SET version_num = '{version}'"))


def failed_upgrade(url: str) -> str:
    """Return the one line of an upgrade that failed."""
    with application(url) as app:
        result = run(app, "db", "upgrade", code=1)
    assert result.stdout == ""
    return error_of(result)


def test_upgrade_says_from_which_version_to_which(empty: Flask) -> None:
    assert run(empty, "db", "upgrade", "0002").stdout == "Upgraded the database from no tables to 0002.\n"
    assert run(empty, "db", "upgrade", "0003").stdout == "Upgraded the database from 0002 to 0003.\n"
    assert run(empty, "db", "upgrade").stdout == f"Upgraded the database from 0003 to {schema.VERSION}.\n"
    assert run(empty, "db", "upgrade").stdout == f"The database is up to date: it has version {schema.VERSION}.\n"


def test_current_shows_the_version_and_whether_it_fits(empty: Flask) -> None:
    assert run(empty, "db", "current").stdout == "none (the database has no tables: run `flask db upgrade`)\n"
    run(empty, "db", "upgrade")
    assert run(empty, "db", "current").stdout == f"{schema.VERSION} (head)\n"
    set_version(empty, "0002")
    assert run(empty, "db", "current").stdout.startswith("0002 (the database has version 0002, the program needs ")


def test_newer_database_is_an_error_of_the_program_and_not_of_the_database(app: Flask) -> None:
    set_version(app, "9999")
    words = f"this program is older than the database: it needs version {schema.VERSION}, and the database has 9999"
    assert error_of(run(app, "db", "upgrade", code=1)) == words
    [finding] = [line for line in run(app, "doctor", code=2).stdout.splitlines() if "migrations" in line]
    assert words in finding


def test_unknown_revision_is_one_line(app: Flask) -> None:
    assert "8888" in error_of(run(app, "db", "upgrade", "8888", code=1))


def test_server_that_is_away_is_one_line() -> None:
    assert "Connection refused" in failed_upgrade(f"postgresql://u@127.0.0.1:{free_port()}/none")


def test_unknown_role_is_one_line(databases: Databases) -> None:
    assert 'role "nobody" does not exist' in failed_upgrade(databases("postgresql").replace("postgres@", "nobody@"))


def test_missing_rights_are_one_line(databases: Databases, tmp_path: Path) -> None:
    url = empty_database(databases, "postgresql", tmp_path)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS reader")
        connection.execute("CREATE ROLE reader LOGIN")
    assert "permission denied for schema public" in failed_upgrade(url.replace("postgres@", "reader@"))


def test_existing_table_is_one_line_and_nothing_has_changed(empty: Flask) -> None:
    url = empty.config["TOKENAPP"].database_url.render_as_string(hide_password=False)
    run(empty, "db", "upgrade", "0001")
    with empty.app_context():
        db.execute_now(sa.text("CREATE TABLE events (id INTEGER)"))
    assert "already exists" in failed_upgrade(url)
    assert run(empty, "db", "current").stdout.startswith("0001 ")


def test_missing_folder_is_one_line(tmp_path: Path) -> None:
    assert failed_upgrade(f"sqlite:///{tmp_path}/none/x.db") == f"No such file or directory: {tmp_path}/none/x.db"


def test_file_that_is_no_database_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("no database" * 100)
    assert "not a database" in failed_upgrade(f"sqlite:///{tmp_path}/x.db")


def test_read_only_file_is_one_line(databases: Databases) -> None:
    url = databases("sqlite")
    with application(url) as app:
        run(app, "db", "downgrade", "0002")
    read_only = url.replace("sqlite:///", "sqlite:///file:") + "?mode=ro&uri=true"
    assert "readonly" in failed_upgrade(read_only)


def test_locked_file_is_one_line(databases: Databases, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokenapp.db.sqlite.MIGRATION_TIMEOUT_MS", 100)
    url = databases("sqlite")
    with application(url) as app:
        set_version(app, "0002")
    with write_lock(url):
        assert "database is locked" in failed_upgrade(url)


def test_upgrade_says_that_it_waits_for_another(databases: Databases, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokenapp.db.postgresql.MIGRATION_TIMEOUT_MS", 100)
    url = databases("postgresql")
    with closing(psycopg.connect(url)) as other, application(url) as app:
        other.execute("SELECT pg_advisory_xact_lock(7365746)")
        lines = run(app, "db", "upgrade", code=1).stderr.splitlines()
    assert lines[0].startswith("Waiting for another upgrade")
    assert lines[1].startswith("Error: ")
    assert len(lines) == 2


@pytest.mark.parametrize(
    "command", [("users", "list"), ("doctor",), ("db", "current"), ("db", "check"), ("keys", "list")]
)
def test_command_that_only_reads_creates_no_sqlite_file(tmp_path: Path, command: tuple[str, ...]) -> None:
    with application(f"sqlite:///{tmp_path}/new.db") as app:
        result = app.test_cli_runner().invoke(args=command)
    assert "flask db upgrade" in result.output
    assert "Traceback" not in result.output
    assert list(tmp_path.glob("new*")) == []
