"""The databases that tests use one after the other."""

import psycopg
import pytest

from tests.conftest import Databases
from tests.support.app import application, create_user
from tests.support.client import Client, sign_in
from tests.support.reused import ReusedDatabases


@pytest.fixture(scope="module")
def reused(databases: Databases) -> ReusedDatabases:
    """Return databases that only these tests use."""
    return ReusedDatabases(lambda: databases("postgresql"))


def test_used_database_is_taken_again_without_rows(reused: ReusedDatabases) -> None:
    url = reused.take()
    with application(url) as app:
        create_user(app)
        assert sign_in(app).refresh().status == 200
    reused.give_back(url)
    assert reused.take() == url
    with psycopg.connect(url) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        filled = [name for (name,) in tables if connection.execute(f"SELECT 1 FROM {name}").fetchone()]
    assert len(tables) > 5
    assert filled == ["alembic_version"]
    with application(url) as app:
        assert Client(app).login().status == 401
    reused.give_back(url)


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE throttles RENAME TO gone",
        "ALTER TABLE users ADD CHECK (username <> 'x') NOT VALID",
        "ALTER TABLE users ALTER username DROP NOT NULL",
        "DROP INDEX {index}",
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "ALTER DATABASE {name} SET synchronous_commit = off",
        "GRANT SELECT ON users TO PUBLIC",
        "UPDATE alembic_version SET version_num = '0001'",
    ],
)
def test_changed_database_is_not_taken_again(reused: ReusedDatabases, change: str) -> None:
    url = reused.take()
    with psycopg.connect(url, autocommit=True) as connection:
        query = "SELECT indexname FROM pg_indexes WHERE tablename = 'events' AND indexname NOT LIKE '%pk%'"
        (index,) = connection.execute(query).fetchone() or ("",)
        connection.execute(change.format(name=connection.info.dbname, index=index))
    reused.give_back(url)
    assert reused.take() != url


def test_database_with_another_connection_is_not_taken_again(reused: ReusedDatabases) -> None:
    url = reused.take()
    reused.give_back(url)
    with psycopg.connect(url):
        assert reused.take() != url
