"""Fixtures for the tests of deployments: the service in production behind nginx."""

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.conftest import Databases
from tests.support.app import application, create_user
from tests.support.programs import find_program
from tests.support.server import Server
from tests.support.tls import LOGIN, Sites, TlsClient, production_settings

PRODUCTION = production_settings(LOGIN)


class Site(NamedTuple):
    """The service, and nginx in front of it."""

    server: Server
    nginx: Sites

    def client(self, address: str = "127.0.0.1") -> TlsClient:
        """Return a client that calls from `address`."""
        return TlsClient(self.nginx, address)


@pytest.fixture(scope="module")
def database(databases: Databases) -> str:
    """Provide a database with a user."""
    url = databases("sqlite")
    with application(url, **PRODUCTION) as app:
        create_user(app)
    return url


@pytest.fixture(scope="module")
def site(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Provide the service in production behind nginx."""
    find_program("nginx")
    folder = tmp_path_factory.mktemp("site")
    with (
        Server(database, PRODUCTION, log=folder / "server.log") as server,
        Sites(folder, server.port, LOGIN, {}) as nginx,
    ):
        yield Site(server, nginx)
