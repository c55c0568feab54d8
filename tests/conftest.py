"""The fixtures: a database of each kind, and the application on it, in this process or under gunicorn."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import flask_migrate
import pytest
from flask import Flask

from tests.support.app import dispose_engines, make_app
from tests.support.postgres import Postgres
from tests.support.server import Server
from tokenapp.db import db

Databases = Callable[[str], str]
Servers = Callable[..., Server]

# Background jobs of a shell ignore SIGINT. The processes that the tests start and interrupt would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databases]:
    """Give a function from a kind, ``sqlite`` or ``postgresql``, to the URL of a new database with all tables."""
    folder = tmp_path_factory.mktemp("databases")
    servers: list[Postgres] = []
    template = _migrated(f"sqlite:///{folder}/template.db")

    def make(kind: str) -> str:
        name = f"db_{uuid4().hex[:12]}"
        if kind == "sqlite":
            shutil.copy(folder / "template.db", folder / f"{name}.db")
            return template.replace("template.db", f"{name}.db")
        if not servers:
            servers.append(start_postgres(tmp_path_factory.mktemp("postgresql")))
            _migrated(servers[0].create_database("migrated"))
        return servers[0].create_database(name, "migrated")

    yield make
    for server in servers:
        server.stop("immediate")


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, databases: Databases) -> str:
    """Give a new database with all tables: the test runs once on each kind."""
    return databases(request.param)


@pytest.fixture(autouse=True)
def _disposed() -> Iterator[None]:
    """Close connections after each test: one that is left open would be found, and blamed on, a later one."""
    yield
    dispose_engines()


@pytest.fixture
def app(database_url: str) -> Iterator[Flask]:
    """Give the application in this process. Its context is not kept open: a missing commit must show."""
    app = make_app(database_url)
    yield app
    with app.app_context():
        db.engine.dispose()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Servers]:
    """Give a function that starts the service under gunicorn on a database, with settings by name."""
    with ExitStack() as stack:
        yield lambda url, **settings: stack.enter_context(Server(url, settings, log=tmp_path / "server.log"))


def start_postgres(folder: Path) -> Postgres:
    """Start a PostgreSQL for tests, or skip the test where there is none (and fail where there must be)."""
    if Postgres.find_programs() is None:
        reason = "PostgreSQL is not installed"
        (pytest.fail if os.environ.get("REQUIRE_SERVERS") else pytest.skip)(reason)
    server = Postgres(folder)
    server.create()
    return server


def _migrated(url: str) -> str:
    app = make_app(url)
    with app.app_context():
        flask_migrate.upgrade()
        db.engine.dispose()
    return url
