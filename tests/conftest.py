"""Fixtures: databases, and the application in this process or under gunicorn."""

import gc
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import flask_migrate
import hypothesis
import pytest
from flask import Flask

from tests.support.app import dispose_engines, make_app
from tests.support.postgres import Postgres
from tests.support.server import Server
from tokenapp.db import db

Databases = Callable[[str], str]
Servers = Callable[..., Server]

# Until the tests are collected: a fifth of the CPU time of importing them all.
gc.disable()
# Background jobs of a shell ignore SIGINT. The processes that the tests start and interrupt would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Each run tries the same random examples, so that a run fails because of what changed. `make soak` tries others.
hypothesis.settings.load_profile("ci")


# What `make quick` leaves out beside PostgreSQL: folders and files whose tests start servers, browsers or commands, and
# long campaigns.
_SLOW_FOLDERS = {"browser", "guard", "server"}
_SLOW_FILES = {
    "test_bench.py",
    "test_exim.py",
    "test_guides.py",
    "test_kill_points.py",
    "test_openapi_fuzz.py",
    "test_openapi_responses.py",
    "test_packaging.py",
    "test_readme.py",
    "test_startup.py",
    "test_state_machine.py",
}
_SLOW_FIXTURES = {"serve"}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option of ``make quick``."""
    parser.addoption("--quick", action="store_true", help="Run only the fast half of the tests, on SQLite.")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the slow tests, if only the quick ones are asked for."""
    if config.getoption("--quick"):
        slow = [item for item in items if _is_slow(item)]
        items[:] = [item for item in items if item not in set(slow)]
        config.hook.pytest_deselected(items=slow)


def pytest_collection_finish() -> None:
    """Make the garbage collector look at what the tests leave, and not as often.

    By default it takes a quarter of the CPU time of the tests in this process: it also looks at all modules, and each
    application has 20,000 objects.
    """
    gc.freeze()
    gc.set_threshold(5000)
    gc.enable()


def _is_slow(item: pytest.Item) -> bool:
    return (
        item.path.parent.name in _SLOW_FOLDERS
        or item.path.name in _SLOW_FILES
        or "postgresql" in item.nodeid
        or not _SLOW_FIXTURES.isdisjoint(getattr(item, "fixturenames", ()))
    )


@pytest.fixture(scope="session")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databases]:
    """Return a function that creates a database with all tables and returns its URL.

    Its argument is the kind: ``sqlite`` or ``postgresql``.
    """
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
    """Return the URL of a new database; the test runs once on each kind."""
    return databases(request.param)


@pytest.fixture(autouse=True)
def _disposed() -> Iterator[None]:
    """Close connections after each test, because unclosed ones fail a later test."""
    yield
    dispose_engines()


@pytest.fixture
def app(database_url: str) -> Iterator[Flask]:
    """Return the application in this process.

    Its context is not kept open, because requests would share it and a missing commit would go unnoticed.
    """
    app = make_app(database_url)
    yield app
    with app.app_context():
        db.engine.dispose()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Servers]:
    """Return a function that starts a server, given a database URL and settings."""
    with ExitStack() as stack:
        yield lambda url, **settings: stack.enter_context(Server(url, settings, log=tmp_path / "server.log"))


def start_postgres(folder: Path) -> Postgres:
    """Start a PostgreSQL.

    If none is installed, skip the test, or fail it if ``REQUIRE_SERVERS`` is set.
    """
    if Postgres.find_programs() is None:
        reason = "PostgreSQL is not installed"
        (pytest.fail if os.environ.get("REQUIRE_SERVERS") else pytest.skip)(reason)
    # Tests kill processes, never the machine. Autovacuum would start a worker for each database again and again.
    server = Postgres(folder, fsync="off", autovacuum="off")
    server.create()
    return server


def _migrated(url: str) -> str:
    app = make_app(url)
    with app.app_context():
        flask_migrate.upgrade()
        db.engine.dispose()
    return url
