"""Migrations: up, down, at the same time, and in agreement with the models."""

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import flask_migrate
import psycopg
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from flask import Flask
from sqlalchemy.engine import make_url

from tests.conftest import Databases
from tests.support.app import PASSWORD, ROOT, application, create_user
from tests.support.client import Client
from tests.support.server import run_flask
from tests.support.sqlite import file_of, write_lock
from tokenapp import db, sign_in
from tokenapp.db import schema

KINDS = ["sqlite", "postgresql"]


def empty_database(databases: Databases, kind: str, folder: Path) -> str:
    """Return the URL of a database without tables."""
    if kind == "sqlite":
        return f"sqlite:///{folder}/new.db"
    url, name = make_url(databases(kind)), f"new_{uuid4().hex[:12]}"
    with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE template1')
    return url.set(database=name).render_as_string(hide_password=False)


@pytest.fixture(params=KINDS)
def empty(request: pytest.FixtureRequest, databases: Databases, tmp_path: Path) -> Iterator[Flask]:
    """Return the application, in its context, on a database without tables."""
    with application(empty_database(databases, request.param, tmp_path)) as app, app.app_context():
        yield app


def tables() -> set[str]:
    """Return the names of the tables."""
    with db.db.engine.connect() as connection:
        return set(sa.inspect(connection).get_table_names())


def readiness(app: Flask) -> int:
    """Return the status of the readiness check."""
    return Client(app).send("GET", "/readyz").status


def test_migrations_go_up_and_down_and_up_again(empty: Flask) -> None:
    for _ in range(2):
        flask_migrate.upgrade()
        assert tables() == {"alembic_version", *db.Base.metadata.tables}
        assert readiness(empty) == 200
        flask_migrate.downgrade(revision="base")
        assert tables() == {"alembic_version"}


def test_every_migration_can_be_reverted_on_its_own(empty: Flask) -> None:
    script = ScriptDirectory(str(ROOT / "tokenapp/migrations"))
    for revision in reversed([step.revision for step in script.walk_revisions()]):
        flask_migrate.upgrade(revision=revision)
        flask_migrate.downgrade(revision="-1")
        flask_migrate.upgrade(revision=revision)
    assert readiness(empty) == 200


def test_version_is_the_newest_migration() -> None:
    assert ScriptDirectory(str(ROOT / "tokenapp/migrations")).get_current_head() == schema.VERSION


def test_tables_match_the_models(app: Flask) -> None:
    with app.app_context(), db.db.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, db.Base.metadata) == []


def test_flask_db_check_finds_no_difference(database_url: str) -> None:
    checked = run_flask(database_url, "db", "check")
    assert checked.returncode == 0, checked.stderr


def test_upgrade_of_a_current_database_changes_nothing(app: Flask, database_url: str) -> None:
    user_id = create_user(app)
    assert run_flask(database_url, "db", "upgrade").returncode == 0
    with app.app_context():
        assert sign_in.authenticate(sign_in.Credentials("alice", PASSWORD), datetime.now(UTC)).id == user_id


@pytest.mark.parametrize("kind", KINDS)
def test_two_upgrades_at_once_both_succeed(databases: Databases, tmp_path: Path, kind: str) -> None:
    url = empty_database(databases, kind, tmp_path)
    with ThreadPoolExecutor(2) as pool:
        ended = list(pool.map(lambda _: run_flask(url, "db", "upgrade"), range(2)))
    assert [each.returncode for each in ended] == [0, 0], [each.stderr for each in ended]
    with application(url) as app:
        assert readiness(app) == 200


@contextmanager
def long_upgrade(url: str) -> Iterator[None]:
    """Hold the lock of an upgrade: an advisory lock, or SQLite's write lock."""
    if url.startswith("postgresql"):
        with psycopg.connect(url) as other:
            other.execute("SELECT pg_advisory_xact_lock(7365746)")
            yield
            other.rollback()
    else:
        with closing(sqlite3.connect(file_of(url))) as other:
            other.execute("PRAGMA journal_mode=WAL")
        with write_lock(url):
            yield


def test_upgrade_waits_for_another_longer_than_a_request_may_take(databases: Databases, tmp_path: Path) -> None:
    urls = [empty_database(databases, kind, tmp_path) for kind in KINDS]
    with ThreadPoolExecutor(2) as pool:
        with long_upgrade(urls[0]), long_upgrade(urls[1]):
            upgrades = [pool.submit(run_flask, url, "db", "upgrade") for url in urls]
            ended, _ = wait(upgrades, 6)
            assert [upgrade.result() for upgrade in ended] == []
        assert [upgrade.result(60).returncode for upgrade in upgrades] == [0, 0]


def test_service_is_ready_once_its_tables_are_current(empty: Flask) -> None:
    assert readiness(empty) == 503
    flask_migrate.upgrade()
    assert readiness(empty) == 200
    db.execute_now(sa.text("UPDATE alembic_version SET version_num = 'behind'"))
    assert readiness(empty) == 503
