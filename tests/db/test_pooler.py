"""Behind PgBouncer in transaction mode, where each transaction may run on another of the server's connections."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from time import monotonic

import psycopg
import pytest
from flask import Flask
from sqlalchemy.engine import make_url

from tests.conftest import Databases, Servers
from tests.db.test_faults import Follower, assert_nothing_lost, assert_right_or_unavailable
from tests.support.app import application, create_user
from tests.support.client import Client, Response, claims_of
from tests.support.concurrency import at_once, meanwhile, wait_until
from tests.support.server import Server
from tests.support.servers import Pgbouncer
from tokenapp.db import db

DELAY = 0.2
CLIENTS = 8
ROTATIONS = 20
SETTINGS = {"TOKENAPP_REVOCATION_DELAY": str(DELAY), "TOKENAPP_REFRESH_GRACE": "5s", "WEB_CONCURRENCY": "3"}
# As the guide has it: the pooler takes no options, so the time limits are the database's own.
LIMITS = {"statement_timeout": "2500", "lock_timeout": "1000"}
GUIDE = {"ignore_startup_parameters": "options", "server_login_retry": "1", "default_pool_size": "2"}


@dataclass(frozen=True)
class Pooled:
    """The service under gunicorn behind a pooler, which has fewer connections than it has callers."""

    direct: str
    pooler: Pgbouncer
    server: Server
    app: Flask


@pytest.fixture(scope="module")
def pooled(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pooled]:
    """Give the service behind a pooler, and a user."""
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


def sign_in(client: Client) -> Response:
    """Sign in; a worker that had no answer in the test before may take a second to ask anew."""
    replies: list[Response] = []

    def is_in() -> bool:
        replies.append(client.login())
        return replies[-1].status == 200

    wait_until(is_in, what="a sign-in")
    return replies[-1]


def test_sign_ins_rotations_and_sign_outs_are_served_as_without_it(pooled: Pooled, serve: Servers) -> None:
    client = serve(pooled.pooler.url, TOKENAPP_REFRESH_GRACE="0").client  # each refresh is a rotation

    def live() -> Counter[tuple[str, int]]:
        opened = client.login()
        seen, cookie = Counter({("login", opened.status): 1}), opened.cookie
        for _ in range(ROTATIONS):
            reply = client.refresh(cookie)
            seen["refresh", reply.status] += 1
            cookie = reply.cookie or cookie
        seen["sessions", client.send("GET", "/api/sessions", bearer=opened.json["accessToken"]).status] += 1
        seen["logout", client.logout(cookie).status] += 1
        seen["after", client.refresh(cookie).status] += 1
        return seen

    total = sum(at_once(*[live] * CLIENTS), Counter[tuple[str, int]]())
    assert total == {
        ("login", 200): CLIENTS,
        ("refresh", 200): CLIENTS * ROTATIONS,
        ("sessions", 200): CLIENTS,
        ("logout", 204): CLIENTS,
        ("after", 403): CLIENTS,
    }


def test_simultaneous_refreshes_of_one_token_rotate_it_once(pooled: Pooled) -> None:
    client = pooled.server.client
    for _ in range(5):
        token = sign_in(client).cookie
        replies = at_once(*[partial(client.refresh, token)] * 12)
        assert Counter(reply.status for reply in replies) == {200: 12}
        assert len({claims_of(reply.cookie or "")["jti"] for reply in replies}) == 1


def test_an_ended_session_is_refused_by_every_worker(pooled: Pooled) -> None:
    client = pooled.server.client
    opened = sign_in(client)
    assert client.logout(opened.cookie).status == 204
    calls = [partial(client.protected, opened.json["accessToken"])] * 6
    wait_until(lambda: {reply.status for reply in at_once(*calls)} == {403}, seconds=5, what="the refusal")


def test_a_statement_that_is_given_up_leaves_no_connection_behind_that_others_wait_for(pooled: Pooled) -> None:
    client = pooled.server.client
    tokens = [sign_in(client).cookie for _ in range(4)]
    with psycopg.connect(pooled.direct) as connection:
        connection.execute("LOCK TABLE sessions IN ACCESS EXCLUSIVE MODE")
        replies = at_once(*[partial(client.refresh, token) for token in tokens])
        assert Counter(reply.status for reply in replies) == {503: 4}
        assert_right_or_unavailable(replies)
    # Each worker may take a second to ask anew.
    wait_until(
        lambda: {reply.status for reply in at_once(*[client.login] * 12)} == {200}, what="service, in every worker"
    )


def test_when_the_pooler_crashed_and_is_back_nothing_is_lost(pooled: Pooled) -> None:
    client = pooled.server.client
    crowd = [Follower.of(sign_in(client), client, pause=0.005) for _ in range(6)]
    with meanwhile(*[follower.step for follower in crowd]):
        pooled.pooler.kill()
        wait_until(lambda: any(503 in follower.statuses() for follower in crowd), what="the fault")
        pooled.pooler.start()
        healed = monotonic() + 1.5  # by then every worker, also one that was not asked meanwhile, asks anew
        wait_until(lambda: all(follower.is_settled(healed) for follower in crowd), what="service")
    assert_nothing_lost(pooled.app, crowd, client)


def test_statements_are_prepared_only_where_the_next_one_finds_them(pooled: Pooled) -> None:
    for url, prepares in ((pooled.direct, True), (pooled.pooler.url, False)):
        with application(url) as app, app.app_context(), db.engine.connect() as connection:
            raw = connection.connection.dbapi_connection
            assert isinstance(raw, psycopg.Connection)
            assert (raw.prepare_threshold is not None) is prepares, make_url(url).port
