"""A primary that dies under load, and a standby that takes its place: what was acknowledged is kept (D1, D3, D4)."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic, sleep

import flask_migrate
import psycopg
import pytest
from sqlalchemy.engine import make_url

from tests.conftest import Databases, Servers, start_postgres
from tests.db.test_faults import assert_nothing_lost, assert_right_or_unavailable, followers
from tests.support.app import PASSWORD, application, create_user
from tests.support.concurrency import meanwhile, wait_until
from tests.support.postgres import Postgres
from tests.support.relay import Relay
from tokenapp.db import db


@dataclass(frozen=True)
class Pair:
    """A primary, and a standby that has what the primary acknowledges; `url` names both, as the guide has it."""

    primary: Postgres
    standby: Postgres
    url: str


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """Give two servers with a database that has all tables, replicated synchronously."""
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


def test_a_promoted_standby_has_all_that_was_acknowledged_and_is_found_by_itself(pair: Pair, serve: Servers) -> None:
    with application(pair.url) as app:
        create_user(app)
        client = serve(pair.url).client
        crowd = followers(client, 16)  # the first refresh of each is a rotation
        ended = [client.login().cookie for _ in range(4)]
        with meanwhile(*[follower.step for follower in crowd]):
            for token in ended:
                assert client.logout(token).status == 204
            pair.primary.stop("immediate")
            died = monotonic()
            wait_until(lambda: any(503 in each.statuses(died) for each in crowd), what="the fault")
            pair.standby.promote()
            promoted = monotonic()
            wait_until(lambda: all(each.is_settled(promoted) for each in crowd), what="service")
        assert_nothing_lost(app, crowd, client)
        assert {client.refresh(token).status for token in ended} == {403}, "D3: an acknowledged end was lost"
        for follower in crowd:
            assert_right_or_unavailable([reply for _, _, reply in follower.replies])
        assert client.login().status == 200


def test_when_the_first_of_two_hosts_falls_silent_the_other_is_asked_next(databases: Databases) -> None:
    direct = make_url(databases("postgresql"))
    with Relay(direct.port or 0) as relay:
        hosts = f"127.0.0.1:{relay.port},127.0.0.1:{direct.port}"
        with application(f"postgresql://postgres@{hosts}/{direct.database}") as app:
            create_user(app)
            browser = app.test_client()
            assert browser.post("/api/login", json={"username": "alice", "password": PASSWORD}).status_code == 200
            with app.app_context():
                for connection in [db.engine.connect() for _ in range(4)]:  # all of them by way of the first host
                    connection.close()
            relay.hold()  # as a host does that lost its network: what was open stays open, and nothing is answered
            sleep(1.2)  # so long idle, a connection is tried before it is used
            server, waits = app.extensions["tokenapp.db"].server, set()
            connections = relay.connections

            def serves() -> bool:
                status = browser.post("/api/token").status_code
                waits.add(server.tripped_at)
                return status == 200

            assert not serves()
            wait_until(serves, seconds=20, what="service by the other host")
            assert len(waits) == 1, "connections to the silent host were waited for in turn"
            assert relay.connections == connections, "the silent host was asked before the other"


def test_a_request_asks_no_more_hosts_than_it_has_time_for_and_the_next_one_the_others() -> None:
    with ExitStack() as stack:
        silent = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        for each in silent:
            each.settimeout(0)

        def asked() -> list[int]:
            """Tell which hosts were asked since the last time."""
            return [number for number, each in enumerate(silent) if _was_asked(each)]

        hosts = ",".join(f"127.0.0.1:{each.getsockname()[1]}" for each in silent)
        with application(f"postgresql://postgres@{hosts}/tokenapp") as app:
            login = partial(app.test_client().post, "/api/login", json={"username": "alice", "password": PASSWORD})
            assert login().status_code == 503
            assert asked() == [0, 1]
            wait_until(lambda: login().status_code == 503 and 2 in asked(), seconds=20, what="the third")


def _was_asked(listener: socket.socket) -> bool:
    try:
        listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True
