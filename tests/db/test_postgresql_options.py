"""Parameters of DATABASE_URL, and libpq's environment variables, take effect."""

from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from tests.conftest import Databases
from tests.support.app import application, create_user
from tests.support.client import Client, sign_in
from tests.support.server import run_flask
from tokenapp import db


@pytest.fixture
def url(databases: Databases) -> str:
    return databases("postgresql")


def shown(url: str, *names: str) -> list[str]:
    """Return the values of the server's parameters, as a command sees them."""
    with application(url) as app, app.app_context():
        return [str(db.execute_now(sa.text(f"SHOW {name}"))[0][0]) for name in names]


def test_tables_are_created_and_used_in_the_schema_of_the_url(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA auth")
    in_schema = f"{url}?options=-csearch_path%3Dauth"
    assert run_flask(in_schema, "db", "upgrade").returncode == 0
    with application(in_schema) as app:
        create_user(app, "only-here")
        assert Client(app).login("only-here").status == 200
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM auth.users").fetchone() == (1,)
        assert connection.execute("SELECT count(*) FROM public.users").fetchone() == (0,)


def test_options_of_the_url_take_precedence_over_the_time_limits(url: str) -> None:
    options = "options=-c%20lock_timeout%3D7s%20-c%20work_mem%3D8MB"
    assert shown(f"{url}?{options}", "lock_timeout", "work_mem", "statement_timeout") == ["7s", "8MB", "10min"]


def test_options_of_the_environment_take_effect(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGOPTIONS", "-c work_mem=9MB")
    assert shown(url, "work_mem", "lock_timeout") == ["9MB", "1s"]


def test_names_in_any_script_are_stored_whatever_encoding_the_environment_names(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    with application(f"{url}?options=-cclient_encoding%3Dlatin1") as app:
        create_user(app, "жанна")
        assert Client(app).login("жанна").status == 200


@pytest.mark.parametrize("query", ["connect_timeout=7&keepalives_idle=40&tcp_user_timeout=9000&application_name=x", ""])
def test_connection_parameters_of_the_url_take_precedence(url: str, query: str) -> None:
    with application(f"{url}?{query}") as app, app.app_context(), db.db.engine.connect() as connection:
        raw: Any = connection.connection.dbapi_connection
        used = raw.info.get_parameters()
    expected = dict(part.split("=") for part in query.split("&") if part)
    usual = {"connect_timeout": "2", "keepalives_idle": "5", "tcp_user_timeout": "3000"}
    assert {name: used.get(name) for name in usual | expected} == usual | expected


def test_longer_connect_timeout_does_not_delay_a_response(databases: Databases) -> None:
    silent = databases("postgresql").replace("127.0.0.1", "192.0.2.1")  # no host has this address (RFC 5737)
    with application(f"{silent}?connect_timeout=30") as app:
        response = Client(app).login()
    assert (response.status, response.seconds < 4) == (503, True)


def test_socket_folder_can_be_the_host(url: str) -> None:
    with psycopg.connect(url) as connection:
        [folder] = connection.execute("SHOW unix_socket_directories").fetchone() or ()
    port, _, name = url.rpartition(":")[2].partition("/")
    encoded = str(folder).replace("/", "%2F")
    with application(f"postgresql://postgres@{encoded}:{port}/{name}") as app:
        create_user(app)
        assert sign_in(app).refresh().status == 200
