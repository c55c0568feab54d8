"""The service in several processes, started once for all tests of races."""

from collections.abc import Iterator

import psycopg
import pytest

from tests.conftest import Databases
from tests.sessions.service import REVOCATION_DELAY, Service
from tests.support.app import application
from tests.support.server import Server


@pytest.fixture(scope="package", params=["sqlite", "postgresql", "serializable", "bound"])
def service(
    request: pytest.FixtureRequest, databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """Start the service on a database of each kind; each test creates its own users.

    On a ``serializable`` PostgreSQL, conflicting transactions fail and have to be repeated. ``bound`` requires device
    binding, on SQLite.
    """
    bound = request.param == "bound"
    url = databases("sqlite" if bound or request.param == "sqlite" else "postgresql")
    if request.param == "serializable":
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(
                f"ALTER DATABASE {connection.info.dbname} SET default_transaction_isolation = 'serializable'"
            )
    settings = {
        "WEB_CONCURRENCY": "3",
        "TOKENAPP_THREADS": "16",  # enough for the passwords of all clients at once
        "TOKENAPP_REVOCATION_DELAY": str(REVOCATION_DELAY),
        "TOKENAPP_DEVICE_BINDING": "enforce" if bound else "off",
    }
    log = tmp_path_factory.mktemp("races") / "server.log"
    with application(url) as app, Server(url, settings, log=log) as server:
        yield Service(app, server, {} if bound else None)
