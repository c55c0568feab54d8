"""A database that rejects writes, such as a standby after a failover."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from flask import Flask

from tests.conftest import Databases, Servers, start_postgres
from tests.support.app import application, create_user
from tests.support.client import Client
from tests.support.commandline import run
from tests.support.concurrency import wait_until
from tests.support.postgres import Postgres
from tests.support.sqlite import write_lock
from tokenapp import db


@pytest.fixture(params=["sqlite", "setting", "role"])
def read_only(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Flask]:
    """Return the application on a database that can be read and not written."""
    url = databases("sqlite" if request.param == "sqlite" else "postgresql")
    with application(url) as app:
        create_user(app)
        assert Client(app).login().status == 200  # the signing keys exist
    if request.param == "sqlite":
        url = url.replace("sqlite:///", "sqlite:///file:") + "?mode=ro&uri=true"
    elif request.param == "role":
        role = f"reader_{url.rpartition('_')[2]}"
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"CREATE ROLE {role} LOGIN")
            connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
        url = sa.make_url(url).set(username=role).render_as_string(hide_password=False)
    else:
        url += "?options=-cdefault_transaction_read_only%3Don"
    with application(url) as app:
        yield app


def test_read_only_database_is_not_ready(read_only: Flask) -> None:
    response = Client(read_only).send("GET", "/readyz")
    assert (response.status, response.json["detail"]) == (503, "The database is read-only.")


def test_doctor_reports_a_read_only_database(read_only: Flask) -> None:
    shown = run(read_only, "doctor", code=2).stdout
    assert "error: DATABASE_URL: the database is read-only" in shown


def test_standby_is_not_ready_until_it_is_promoted(tmp_path: Path) -> None:
    primary = start_postgres(tmp_path / "primary")
    standby = Postgres(tmp_path / "standby")
    url = primary.create_database("tokenapp")
    with application(url) as app:
        run(app, "db", "upgrade")
        create_user(app)
        assert Client(app).login().status == 200
        standby.follow(primary)
    primary.stop("immediate")
    with application(url.replace(f":{primary.port}/", f":{standby.port}/")) as app:
        client = Client(app)
        assert client.send("GET", "/readyz").status == 503
        assert "read-only" in run(app, "doctor", code=2).stdout
        standby.promote()
        wait_until(lambda: client.send("GET", "/readyz").status == 200, what="readiness")
    standby.stop("immediate")


def test_readiness_of_a_locked_sqlite_file_is_503_in_time(databases: Databases) -> None:
    url = databases("sqlite")
    with application(url) as app, write_lock(url):
        response = Client(app).send("GET", "/readyz")
    assert (response.status, response.seconds < 5) == (503, True)


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        ("postgresql", "UPDATE alembic_version SET version_num = '9999'", "this program is older than the database"),
        ("sqlite", "UPDATE alembic_version SET version_num = '0001'", "the database has version 0001"),
        ("sqlite", "DROP TABLE alembic_version", "no such table: alembic_version"),
    ],
)
def test_server_that_starts_on_other_tables_says_so_in_its_log_and_serves(
    databases: Databases, serve: Servers, kind: str, change: str, words: str
) -> None:
    url = databases(kind)
    with application(url) as app, app.app_context():
        db.execute_now(sa.text(change))
    server = serve(url)
    wait_until(lambda: words in server.log.read_text(), what="the log line")
    assert '"level":"critical"' in server.log.read_text()
    assert server.client.send("GET", "/healthz").status == 200
    assert server.client.send("GET", "/readyz").status == 503
