"""PgBouncer, where each transaction may use a different connection."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from time import monotonic

import psycopg
import pytest
from flask import Flask

from tests.conftest import Databases, Servers
from tests.support.app import application, create_user
from tests.support.client import Client, claims_of, sign_in
from tests.support.concurrency import at_once, repeating, wait_until
from tests.support.followers import (
    Follower,
    assert_nothing_lost,
    assert_served_or_unavailable,
    wait_until_settled,
)
from tests.support.server import Server
from tests.support.servers import Pgbouncer
from tokenapp.db import db

CLIENTS = 8
ROTATIONS = 20
THREADS = "16"  # enough for the passwords of all clients at once
SETTINGS = {
    "TOKENAPP_REVOCATION_DELAY": "0.2",
    "TOKENAPP_REFRESH_GRACE": "5s",
    "TOKENAPP_THREADS": THREADS,
    "WEB_CONCURRENCY": "3",
}
# As in the guide: the pooler passes no options on, so the time limits are set for the database.
LIMITS = {"statement_timeout": "2500", "lock_timeout": "1000"}
GUIDE = {"ignore_startup_parameters": "options", "server_login_retry": "1", "default_pool_size": "2"}


@dataclass(frozen=True)
class Pooled:
    """The service behind a pooler that has fewer connections than callers."""

    direct: str
    pooler: Pgbouncer
    server: Server
    app: Flask


@pytest.fixture(scope="module")
def pooled(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pooled]:
    """Start the service behind a pooler, with one user."""
    direct = databases("postgresql")
    with psycopg.connect(direct, autocommit=True) as connection:
        for name, value in LIMITS.items():
            connection.execute(f"ALTER DATABASE {connection.info.dbname} SET {name} = {value}".encode())
    log = tmp_path_factory.mktemp("pooler") / "server.log"
    with (
        application(direct) as app,
        Pgbouncer(direct, **GUIDE) as pooler,
        Server(pooler.url, SETTINGS, log=log) as server,
    ):
        create_user(app)
        yield Pooled(direct, pooler, server, app)


def signed_in_client(server: Server) -> Client:
    """Sign in. A worker may reject requests for a second after the previous test."""
    client = server.client
    wait_until(lambda: client.login().status == 200, what="a sign-in")
    return client


def test_requests_are_served_as_without_a_pooler(pooled: Pooled, serve: Servers) -> None:
    port = serve(
        pooled.pooler.url, TOKENAPP_THREADS=THREADS, TOKENAPP_REFRESH_GRACE="0"
    ).port  # each refresh is a rotation

    def use_a_session() -> Counter[tuple[str, int]]:
        client = sign_in(port)
        seen = Counter(("refresh", client.refresh().status) for _ in range(ROTATIONS))
        seen["sessions", client.call("GET", "/api/sessions").status] += 1
        token = client.cookie
        seen["logout", client.logout().status] += 1
        seen["after", client.refresh(token).status] += 1
        return seen

    total = sum(at_once(*[use_a_session] * CLIENTS), Counter[tuple[str, int]]())
    assert total == {
        ("refresh", 200): CLIENTS * ROTATIONS,
        ("sessions", 200): CLIENTS,
        ("logout", 204): CLIENTS,
        ("after", 403): CLIENTS,
    }


def test_simultaneous_refreshes_of_one_token_rotate_it_once(pooled: Pooled) -> None:
    for _ in range(5):
        client = signed_in_client(pooled.server)
        responses = at_once(*[partial(pooled.server.client.refresh, client.cookie)] * 12)
        assert Counter(response.status for response in responses) == {200: 12}
        assert len({claims_of(response.cookie or "")["jti"] for response in responses}) == 1


def test_revoked_session_is_rejected_by_every_worker(pooled: Pooled) -> None:
    client = signed_in_client(pooled.server)
    assert client.logout().status == 204
    calls = [client.protected] * 6
    wait_until(lambda: {response.status for response in at_once(*calls)} == {403}, what="the rejection")


def test_abandoned_statement_leaves_no_connection_that_blocks_others(pooled: Pooled) -> None:
    clients = [signed_in_client(pooled.server) for _ in range(4)]
    with psycopg.connect(pooled.direct) as connection:
        connection.execute("LOCK TABLE sessions IN ACCESS EXCLUSIVE MODE")
        responses = at_once(*[client.refresh for client in clients])
        assert Counter(response.status for response in responses) == {503: 4}
        assert_served_or_unavailable(responses)
    # Each worker may reject requests for another second.
    login = pooled.server.client.login
    wait_until(lambda: {response.status for response in at_once(*[login] * 12)} == {200}, what="service by all workers")


def test_nothing_is_lost_when_the_pooler_crashes(pooled: Pooled) -> None:
    crowd = [Follower(signed_in_client(pooled.server)) for _ in range(6)]
    with repeating(*[follower.step for follower in crowd]):
        pooled.pooler.kill()
        wait_until(lambda: any(503 in follower.statuses() for follower in crowd), what="the fault")
        pooled.pooler.start()
        healed = monotonic() + 1.5  # the time after which every worker queries the database again
        wait_until_settled(crowd, healed)
    assert_nothing_lost(pooled.app, crowd, pooled.server.port)


@pytest.mark.parametrize("behind_pooler", [False, True])
def test_statements_are_prepared_only_without_a_pooler(pooled: Pooled, *, behind_pooler: bool) -> None:
    url = pooled.pooler.url if behind_pooler else pooled.direct
    with application(url) as app, app.app_context(), db.engine.connect() as connection:
        raw = connection.connection.dbapi_connection
        assert isinstance(raw, psycopg.Connection)
        assert (raw.prepare_threshold is None) is behind_pooler
