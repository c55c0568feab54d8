"""Applications, clients and servers for the tests of this folder."""

from collections.abc import Iterator

import pytest
from flask import Flask

from tests.conftest import Databases
from tests.support.app import application, create_user
from tests.support.client import Client, sign_in
from tests.support.server import Server

ALLOWED_ORIGINS = ("https://app.example.com", "http://localhost:5173")


@pytest.fixture(scope="module")
def shared_app(databases: Databases) -> Iterator[Flask]:
    """Return an application with the user alice, on SQLite."""
    with application(databases("sqlite"), TOKENAPP_ALLOWED_ORIGINS=", ".join(ALLOWED_ORIGINS)) as app:
        create_user(app)
        yield app


@pytest.fixture(scope="module")
def shared(shared_app: Flask) -> Client:
    """Return a client with a session that no test may revoke."""
    return sign_in(shared_app)


@pytest.fixture(scope="module")
def server(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a server with the user alice; check at the end that no worker failed."""
    url = databases("sqlite")
    with application(url) as app:
        create_user(app)
    log = tmp_path_factory.mktemp("http") / "server.log"
    with Server(url, log=log) as server:
        workers = server.workers()
        yield server
        assert server.workers() == workers
    assert "Traceback" not in log.read_text()
