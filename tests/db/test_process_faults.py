"""Server processes that are killed, stopped and reloaded under load (D1, D3, D4)."""

import os
import random
import signal
from collections import Counter
from functools import partial
from time import sleep

import pytest
from flask import Flask

from tests.conftest import Servers
from tests.support.app import create_user
from tests.support.client import sign_in
from tests.support.concurrency import repeating, wait_until
from tests.support.followers import (
    Follower,
    assert_nothing_lost,
    failures_of,
    followers,
    responses_of,
    statuses_of,
)

GRACE = {"TOKENAPP_REFRESH_GRACE": "5s"}
only_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def test_killed_workers_lose_nothing_that_was_acknowledged(app: Flask, database_url: str, serve: Servers) -> None:
    create_user(app)
    server = serve(database_url, **GRACE)
    crowd = followers(server.port, 10, pause=0)
    revoked = [sign_in(server.port).cookie for _ in range(4)]
    with repeating(*[follower.step for follower in crowd]):
        for token in revoked:
            count = len(responses_of(crowd)) + 50
            wait_until(partial(_have_responses, crowd, count), what="responses")
            assert server.client.logout(token).status == 204
            os.kill(random.choice(server.workers()), signal.SIGKILL)
            wait_until(lambda: len(server.workers()) == 2, what="a new worker")
    assert failures_of(crowd), "no request was hit"
    assert_nothing_lost(app, crowd, server.port)
    statuses = {server.client.refresh(token).status for token in revoked}
    assert statuses == {403}, "D3: an acknowledged revocation was lost"


def _have_responses(crowd: list[Follower], count: int) -> bool:
    return len(responses_of(crowd)) >= count


def test_killed_server_loses_nothing_that_was_acknowledged(app: Flask, database_url: str, serve: Servers) -> None:
    create_user(app)
    settings = {"TOKENAPP_REFRESH_GRACE": "1m", "TOKENAPP_ISSUER": "http://one.test"}
    server = serve(database_url, **settings)
    crowd, revoked = followers(server.port, 16), sign_in(server.port).cookie
    with repeating(*[follower.step for follower in crowd]):  # the first refresh of each is a rotation
        assert server.client.logout(revoked).status == 204
        server.kill()
    restarted = serve(database_url, **settings)
    assert_nothing_lost(app, crowd, restarted.port)
    assert restarted.client.refresh(revoked).status == 403, "D3: an acknowledged revocation was lost"


@only_sqlite
def test_stopping_server_answers_every_request_that_it_accepted(app: Flask, database_url: str, serve: Servers) -> None:
    create_user(app)
    server = serve(database_url, **GRACE)
    crowd = followers(server.port, 12)
    with repeating(*[follower.step_until_failure for follower in crowd]):
        wait_until(lambda: all(len(follower.responses) > 4 for follower in crowd), what="responses")
        os.kill(server.master, signal.SIGTERM)
        assert server.wait() == 0
        wait_until(lambda: all(follower.failures for follower in crowd), what="the end of all clients")
    received = Counter(route for follower in crowd for _, route, _ in follower.responses)
    assert server.log.read_text().count("/api/token") == received["token"], "a served request got no response"
    assert statuses_of(crowd) == {200}
    # A connection that arrives at the moment at which the listening socket is closed may be reset.
    reset = [error for error in failures_of(crowd) if not isinstance(error, ConnectionRefusedError)]
    assert len(reset) <= 1, reset


@only_sqlite
def test_reload_fails_no_request(app: Flask, database_url: str, serve: Servers) -> None:
    create_user(app)
    server = serve(database_url, **GRACE)
    crowd = followers(server.port, 12)
    before = set(server.workers())
    with repeating(*[follower.step for follower in crowd]):
        wait_until(lambda: all(follower.responses for follower in crowd), what="responses")
        os.kill(server.master, signal.SIGHUP)
        wait_until(lambda: len(server.workers()) == 2 and not before & set(server.workers()), what="new workers")
        sleep(0.2)
    assert failures_of(crowd) == []
    assert statuses_of(crowd) == {200}
