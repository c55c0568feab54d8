"""A primary that fails under load, and a standby that takes over (D1, D3, D4)."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

import flask_migrate
import psycopg
import pytest
from sqlalchemy.engine import make_url

from tests.conftest import Databases, Servers, start_postgres
from tests.support.app import application, create_user
from tests.support.client import Client, sign_in
from tests.support.concurrency import repeating, wait_until
from tests.support.followers import (
    assert_nothing_lost,
    assert_served_or_unavailable,
    followers,
    responses_of,
    wait_until_settled,
)
from tests.support.postgres import Postgres
from tests.support.relay import Relay
from tokenapp import db


@dataclass(frozen=True)
class Pair:
    """A primary and its synchronous standby; `url` names both, as the guide does."""

    primary: Postgres
    standby: Postgres
    url: str


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """Start two servers with synchronous replication and a migrated database."""
    primary = start_postgres(tmp_path / "primary")
    standby = Postgres(tmp_path / "standby")
    with application(primary.create_database("tokenapp")) as app, app.app_context():
        flask_migrate.upgrade()
    standby.follow(primary)
    with psycopg.connect(f"postgresql://postgres@127.0.0.1:{primary.port}/postgres", autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
        connection.execute("SELECT pg_reload_conf()")
        in_step = "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"
        wait_until(lambda: connection.execute(in_step).fetchone() is not None, what="replication")
    hosts = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
    yield Pair(primary, standby, f"postgresql://postgres@/tokenapp?host={hosts}&target_session_attrs=read-write")
    standby.stop("immediate")


def test_promoted_standby_has_all_that_was_acknowledged_and_is_found(pair: Pair, serve: Servers) -> None:
    with application(pair.url) as app:
        create_user(app)
        server = serve(pair.url)
        crowd = followers(server.port, 16)  # the first refresh of each is a rotation
        revoked = [sign_in(server.port).cookie for _ in range(4)]
        with repeating(*[follower.step for follower in crowd]):
            for token in revoked:
                assert server.client.logout(token).status == 204
            pair.primary.stop("immediate")
            failed = monotonic()
            wait_until(lambda: any(503 in each.statuses(failed) for each in crowd), what="the fault")
            pair.standby.promote()
            promoted = monotonic()
            wait_until_settled(crowd, promoted)
        assert_nothing_lost(app, crowd, server.port)
        statuses = {server.client.refresh(token).status for token in revoked}
        assert statuses == {403}, "D3: an acknowledged revocation was lost"
        assert_served_or_unavailable(responses_of(crowd))
        assert server.client.login().status == 200


def test_second_host_is_tried_first_after_the_first_stopped_responding(databases: Databases) -> None:
    direct = make_url(databases("postgresql"))
    with Relay(direct.port or 0) as relay:
        hosts = f"127.0.0.1:{relay.port},127.0.0.1:{direct.port}"
        with application(f"postgresql://postgres@{hosts}/{direct.database}") as app:
            create_user(app)
            client = sign_in(app)
            with app.app_context():
                for connection in [db.db.engine.connect() for _ in range(4)]:  # all to the first host
                    connection.close()
            relay.hold()  # like a host without network: connections stay open, and there are no responses
            sleep(1.2)  # a connection that was idle for that long is tested before use
            connections, statuses = relay.connections, []

            def is_served() -> bool:
                statuses.append(client.refresh().status)
                return statuses[-1] == 200

            assert not is_served()
            wait_until(is_served, seconds=20, what="service by the other host")
            assert [client.refresh().status for _ in range(4)] == [200] * 4, "an old connection was waited for"
            assert relay.connections - connections <= 1, "the silent host was tried repeatedly"


def test_request_tries_as_many_hosts_as_it_has_time_for_and_the_next_one_continues() -> None:
    with ExitStack() as stack:
        silent = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        for each in silent:
            each.settimeout(0)

        def tried() -> list[int]:
            """Return the hosts that were tried since the last call."""
            return [number for number, each in enumerate(silent) if _was_tried(each)]

        hosts = ",".join(f"127.0.0.1:{each.getsockname()[1]}" for each in silent)
        with application(f"postgresql://postgres@{hosts}/tokenapp") as app:
            client = Client(app)
            assert client.login().status == 503
            assert tried() == [0, 1]
            wait_until(lambda: client.login().status == 503 and 2 in tried(), seconds=20, what="the third host")


def _was_tried(listener: socket.socket) -> bool:
    try:
        listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True
