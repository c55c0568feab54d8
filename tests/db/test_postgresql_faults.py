"""Faults of PostgreSQL and of the network to it (D1, D4, L1, L2)."""

import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from time import monotonic, sleep

import flask_migrate
import psycopg
import pytest
from flask import Flask

from tests.conftest import Servers, start_postgres
from tests.support.app import application, create_user
from tests.support.client import Response, sign_in
from tests.support.concurrency import at_once, repeating, wait_until
from tests.support.followers import (
    BACK_WITHIN,
    RESPONSE_WITHIN,
    Follower,
    assert_nothing_lost,
    assert_served_or_unavailable,
    failures_of,
    followers,
    responses_of,
    wait_until_settled,
)
from tests.support.postgres import Postgres
from tests.support.relay import Relay
from tests.support.server import Server
from tests.support.servers import Pgbouncer
from tokenapp.db import REQUEST_BUDGET

GRACE_PERIOD = 2
GRACE = {"TOKENAPP_REFRESH_GRACE": f"{GRACE_PERIOD}s"}
CLIENTS = 24  # more than there are threads


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """Start a PostgreSQL that tests may stop.

    Its database ``migrated`` has all tables.
    """
    server = start_postgres(tmp_path_factory.mktemp("faulty"))
    with application(server.create_database("migrated")) as app, app.app_context():
        flask_migrate.upgrade()
    yield server
    server.stop("immediate")


Fault = Callable[[Postgres, Relay], None]


def stop_and_crash(postgres: Postgres, _relay: Relay) -> None:
    postgres.stop("fast")
    sleep(0.5)
    postgres.start()
    sleep(0.5)
    postgres.stop("immediate")
    sleep(GRACE_PERIOD + 0.5)
    postgres.start()


def hang(postgres: Postgres, _relay: Relay) -> None:
    postgres.signal(signal.SIGSTOP)
    sleep(GRACE_PERIOD + 3)
    postgres.signal(signal.SIGCONT)


def lose_responses(_postgres: Postgres, relay: Relay) -> None:
    relay.hold(responses_only=True)
    sleep(GRACE_PERIOD + 3)
    relay.release()


@dataclass
class Outage:
    """What the clients saw of an outage, and the time at which it was over."""

    app: Flask
    server: Server
    crowd: list[Follower]
    health: list[Response]
    healed: float


@pytest.fixture(scope="module", params=[stop_and_crash, hang, lose_responses])
def outage(
    request: pytest.FixtureRequest, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Outage]:
    """Run clients through a fault that lasts longer than the grace period."""
    direct = postgres.create_database(request.param.__name__, "migrated")
    health: list[Response] = []
    log = tmp_path_factory.mktemp("outage") / "server.log"
    with application(direct) as app, Relay(postgres.port) as relay:
        create_user(app)
        url = direct.replace(f":{postgres.port}/", f":{relay.port}/")
        with Server(url, GRACE, log=log) as server:
            crowd = followers(server.port, CLIENTS)

            def check_health() -> None:
                health.append(server.client.send("GET", "/healthz"))
                sleep(0.2)

            with repeating(check_health, *[follower.step for follower in crowd]):
                request.param(postgres, relay)
                healed = monotonic()
                wait_until_settled(crowd, healed, seconds=15)
            yield Outage(app, server, crowd, health, healed)


def test_responses_during_an_outage_are_timely_and_503(outage: Outage) -> None:
    responses = responses_of(outage.crowd)
    assert_served_or_unavailable(responses)
    assert 503 in {response.status for response in responses}


def test_processes_are_healthy_during_an_outage(outage: Outage) -> None:
    assert Counter(response.status for response in outage.health) == {200: len(outage.health)}
    assert max(response.seconds for response in outage.health) < RESPONSE_WITHIN


def test_service_is_back_soon_after_an_outage(outage: Outage) -> None:
    back = max(follower.back(outage.healed) for follower in outage.crowd) - outage.healed
    assert back < BACK_WITHIN, f"L1: it took {back:.1f} s"


def test_no_session_is_lost_in_an_outage(outage: Outage) -> None:
    assert failures_of(outage.crowd) == []
    assert_nothing_lost(outage.app, outage.crowd, outage.server.port)


@pytest.mark.parametrize("way", ["pooler", "two hosts"])
def test_queued_requests_do_not_wait_for_a_hung_server_twice(postgres: Postgres, serve: Servers, way: str) -> None:
    url = postgres.create_database(way, "migrated")
    with application(url) as app, ExitStack() as stack:
        create_user(app)
        if way == "pooler":
            url = stack.enter_context(Pgbouncer(url, ignore_startup_parameters="options")).url
        else:
            other = stack.enter_context(Relay(postgres.port))
            url = url.replace(f":{postgres.port}/", f":{postgres.port},127.0.0.1:{other.port}/")
        server = serve(url, **GRACE)
        crowd = followers(server.port, CLIENTS)
        with repeating(*[follower.step for follower in crowd]):
            wait_until(lambda: all(follower.statuses()[200] >= 8 for follower in crowd), what="warm connections")
            postgres.signal(signal.SIGSTOP)
            sleep(REQUEST_BUDGET + 3)
            postgres.signal(signal.SIGCONT)
            healed = monotonic()
            wait_until_settled(crowd, healed)
        assert_served_or_unavailable(responses_of(crowd))


def test_sign_ins_and_sign_outs_wait_no_longer_than_refreshes_for_a_hung_database(
    postgres: Postgres, serve: Servers
) -> None:
    url = postgres.create_database("hung", "migrated")
    with application(url) as app:
        create_user(app)
    server = serve(url, **GRACE)
    calls: list[Callable[[], Response]] = [sign_in(server.port).logout for _ in range(CLIENTS // 2)]
    calls += [server.client.login] * (CLIENTS // 2)
    postgres.signal(signal.SIGSTOP)
    try:
        responses = at_once(*calls)
    finally:
        postgres.signal(signal.SIGCONT)
    assert Counter(response.status for response in responses) == {503: CLIENTS}
    assert_served_or_unavailable(responses)
    wait_until(lambda: server.client.login().status == 200, seconds=BACK_WITHIN, what="service")


def test_locked_table_delays_each_response_by_one_lock_timeout_at_most(postgres: Postgres, serve: Servers) -> None:
    url = postgres.create_database("locked", "migrated")
    with application(url) as app:
        create_user(app)
        # Each request waits for the lock on its own, so each client needs a thread.
        server = serve(url, TOKENAPP_THREADS=f"{CLIENTS}", **GRACE)
        crowd = followers(server.port, CLIENTS)
        with repeating(*[follower.step for follower in crowd]):
            with psycopg.connect(url) as connection:
                connection.execute("LOCK TABLE sessions IN SHARE MODE")  # as CREATE INDEX does: reads go on
                wait_until(partial(_all_unavailable, crowd, times=5), seconds=30, what="503 for each client")
            healed = monotonic()
            wait_until_settled(crowd, healed)
        assert_nothing_lost(app, crowd, server.port)
    responses = responses_of(crowd)
    assert_served_or_unavailable(responses)
    assert max(response.seconds for response in responses) < 3.5, "a request waited for the lock behind others"


def _all_unavailable(crowd: list[Follower], *, times: int) -> bool:
    return all(follower.statuses()[503] >= times for follower in crowd)
