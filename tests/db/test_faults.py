"""Faults: processes that are killed, databases that stop, hang, crash, lock or vanish, and networks that swallow.

What was acknowledged is kept (D1-D3), nobody is stranded (D4), every answer comes in time (L2), and when the fault is
over the service is back by itself (L1).
"""

import http.client
import math
import os
import random
import resource
import shutil
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from time import monotonic, sleep

import flask_migrate
import psycopg
import pytest
from flask import Flask

from tests.conftest import Databases, Servers, start_postgres
from tests.support.app import PASSWORD, application, create_user
from tests.support.client import Client, Response, claims_of
from tests.support.concurrency import at_once, meanwhile, wait_until
from tests.support.postgres import Postgres
from tests.support.relay import Relay
from tests.support.server import Server
from tokenapp import accounts, db, sessions
from tokenapp.models import RefreshClaims, Session

WINDOW = 2
GRACE = {"TOKENAPP_REFRESH_GRACE": f"{WINDOW}s"}
ANSWER_WITHIN = 5.0
BACK_WITHIN = 10.0
CLIENTS = 24
only_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@dataclass
class Follower:
    """A client that follows its session through everything: what got no answer, or 503, it asks for again."""

    client: Client
    token: str
    bearer: str
    pause: float = 0.005
    replies: list[tuple[float, str, Response]] = field(default_factory=list)
    broken: list[Exception] = field(default_factory=list)

    @classmethod
    def of(cls, login: Response, client: Client, pause: float) -> "Follower":
        assert login.status == 200, login.body
        return cls(client, login.cookie or "", login.json["accessToken"], pause)

    def step(self) -> None:
        """Refresh, and call the protected route."""
        reply = self._ask("token", partial(self.client.refresh, self.token))
        if reply is not None and reply.status == 200:
            self.token, self.bearer = reply.cookie or "", reply.json["accessToken"]
        self._ask("protected", partial(self.client.protected, self.bearer))

    def statuses(self, since: float = 0) -> Counter[int]:
        return Counter(reply.status for at, _, reply in self.replies if at >= since)

    def is_settled(self, since: float) -> bool:
        """Whether this client has been served since then, or has lost its session."""
        return self.back(since) < math.inf or 403 in self.statuses()

    def back(self, since: float) -> float:
        """Return the moment from which both routes had answered 200 again."""
        first = {route: at for at, route, reply in reversed(self.replies) if at >= since and reply.status == 200}
        return max(first.values()) if len(first) == 2 else math.inf

    def _ask(self, route: str, call: Callable[[], Response]) -> Response | None:
        try:
            reply = call()
        except (OSError, http.client.HTTPException) as fault:
            self.broken.append(fault)
            sleep(0.05)
            return None
        self.replies.append((monotonic(), route, reply))
        sleep(self.pause if reply.status == 200 else 0.2)
        return reply


def followers(client: Client, count: int, *, pause: float = 0.005) -> list[Follower]:
    """Open sessions and return a client for each, which rests for `pause` seconds after each good answer."""
    return [Follower.of(client.login(), client, pause) for _ in range(count)]


def assert_right_or_unavailable(replies: list[Response]) -> None:
    """Check X1, L2 and the contract's words for a fault: 200, or 503 as a problem with Retry-After, in time."""
    for reply in replies:
        assert reply.status in {200, 503}, reply.body
        assert reply.seconds < ANSWER_WITHIN, f"L2: an answer took {reply.seconds:.1f} s"
        if reply.status == 503:
            assert reply.header("Content-Type") == "application/problem+json"
            assert int(reply.header("Retry-After") or 0) > 0
            assert reply.cookie is None


def generation_of(app: Flask, token: str) -> int:
    """Return how often the token's session was rotated, as the database has it."""
    with app.app_context(), db.reading() as session:
        row = session.get(Session, claims_of(token)["sid"])
        assert row is not None
        return row.generation


def assert_nothing_lost(app: Flask, all_followers: list[Follower], client: Client) -> None:
    """Check D1 and D4: no session ended, none fell behind what was acknowledged, and each goes on."""
    for follower in all_followers:
        acknowledged = claims_of(follower.token)["gen"]
        assert acknowledged <= generation_of(app, follower.token) <= acknowledged + 1
        assert client.refresh(follower.token).status == 200
        assert set(follower.statuses()) <= {200, 503}, "a session was lost"


# Our own processes.


def test_killed_workers_lose_nothing_that_was_acknowledged(app: Flask, database_url: str, serve: Servers) -> None:
    create_user(app)
    server = serve(database_url, **GRACE)
    crowd, ended = followers(server.client, 10, pause=0), [server.client.login().cookie for _ in range(4)]
    with meanwhile(*[follower.step for follower in crowd]):
        for token in ended:
            sleep(0.3)
            assert server.client.logout(token).status == 204
            os.kill(random.choice(server.workers()), signal.SIGKILL)
            wait_until(lambda: len(server.workers()) == 2, what="a new worker")
    assert any(follower.broken for follower in crowd), "no request was hit"
    assert_nothing_lost(app, crowd, server.client)
    assert {server.client.refresh(token).status for token in ended} == {403}, "D3: an acknowledged end was lost"


def test_a_killed_server_loses_nothing_that_was_acknowledged(app: Flask, database_url: str, serve: Servers) -> None:
    create_user(app)
    server = serve(database_url, TOKENAPP_REFRESH_GRACE="10s", TOKENAPP_ISSUER="http://one.test")
    crowd, ended = followers(server.client, 16), server.client.login().cookie
    with meanwhile(*[follower.step for follower in crowd]):  # the first refresh of each is a rotation
        assert server.client.logout(ended).status == 204
        server.kill()
    again = serve(database_url, TOKENAPP_REFRESH_GRACE="10s", TOKENAPP_ISSUER="http://one.test").client
    assert_nothing_lost(app, crowd, again)
    assert again.refresh(ended).status == 403, "D3: an acknowledged end was lost"


@only_sqlite
def test_a_server_that_is_told_to_stop_answers_what_it_accepted(app: Flask, database_url: str, serve: Servers) -> None:
    create_user(app)
    server = serve(database_url, **GRACE)
    crowd = followers(server.client, 12)

    def until_refused(follower: Follower) -> Callable[[], None]:
        def step() -> None:
            if follower.broken:
                sleep(0.05)
            else:
                follower.step()

        return step

    with meanwhile(*[until_refused(follower) for follower in crowd]):
        sleep(0.5)
        os.kill(server.master, signal.SIGTERM)
        assert server.wait() == 0
        wait_until(lambda: all(follower.broken for follower in crowd), what="the end of all clients")
    answered = Counter(route for follower in crowd for _, route, _ in follower.replies)
    assert server.log.read_text().count("/api/token") == answered["token"], "a request was served and not answered"
    assert {status for follower in crowd for status in follower.statuses()} == {200}
    unlucky = [
        fault for follower in crowd for fault in follower.broken if not isinstance(fault, ConnectionRefusedError)
    ]
    assert len(unlucky) <= 1, "only who arrives in the very moment in which the door is shut may be left outside"


@only_sqlite
def test_a_server_that_is_told_to_reload_fails_no_request(app: Flask, database_url: str, serve: Servers) -> None:
    create_user(app)
    server = serve(database_url, **GRACE)
    crowd = followers(server.client, 12)
    before = set(server.workers())
    with meanwhile(*[follower.step for follower in crowd]):
        sleep(0.2)
        os.kill(server.master, signal.SIGHUP)
        wait_until(lambda: len(server.workers()) == 2 and not before & set(server.workers()), what="new workers")
        sleep(0.2)
    assert [fault for follower in crowd for fault in follower.broken] == []
    assert {status for follower in crowd for status in follower.statuses()} == {200}


def test_a_rotation_that_was_held_up_counts_from_when_it_was_done(app: Flask) -> None:
    create_user(app)
    with app.app_context():
        before, now = datetime.now(UTC) - timedelta(seconds=60), datetime.now(UTC)
        grant = sessions.open_session(accounts.find("alice"), before)
        presented = RefreshClaims(grant.sid, grant.jti, 0)
        rotated = sessions.refresh(presented, before)
        assert sessions.refresh(presented, now).jti == rotated.jti


# PostgreSQL, stopped, crashed, hung and cut off.


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """Give a PostgreSQL that may be maltreated; its database ``migrated`` has all tables."""
    server = start_postgres(tmp_path_factory.mktemp("maltreated"))
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
    sleep(WINDOW + 0.5)
    postgres.start()


def hang(postgres: Postgres, _relay: Relay) -> None:
    postgres.signal(signal.SIGSTOP)
    sleep(WINDOW + 3)
    postgres.signal(signal.SIGCONT)


def swallow_replies(_postgres: Postgres, relay: Relay) -> None:
    relay.hold(replies_only=True)
    sleep(WINDOW + 3)
    relay.release()


@dataclass
class Outage:
    """What was seen of one: what the clients got, and when it was over."""

    app: Flask
    server: Server
    crowd: list[Follower]
    health: list[Response]
    healed: float


@pytest.fixture(scope="module", params=[stop_and_crash, hang, swallow_replies])
def outage(
    request: pytest.FixtureRequest, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Outage]:
    """Let more clients than there are threads live through a fault that lasts longer than the window."""
    direct = postgres.create_database(request.param.__name__, "migrated")
    health: list[Response] = []
    log = tmp_path_factory.mktemp("outage") / "server.log"
    with application(direct) as app, Relay(postgres.port) as relay:
        create_user(app)
        url = direct.replace(f":{postgres.port}/", f":{relay.port}/")
        with Server(url, GRACE, log=log) as server:
            crowd = followers(server.client, CLIENTS)

            def check_health() -> None:
                health.append(server.client.send("GET", "/healthz"))
                sleep(0.2)

            with meanwhile(check_health, *[follower.step for follower in crowd]):
                request.param(postgres, relay)
                healed = monotonic()
                wait_until(lambda: all(each.is_settled(healed) for each in crowd), seconds=15)
            yield Outage(app, server, crowd, health, healed)


def test_while_the_database_is_away_answers_come_in_time_and_say_so(outage: Outage) -> None:
    replies = [reply for follower in outage.crowd for _, _, reply in follower.replies]
    assert_right_or_unavailable(replies)
    assert 503 in {reply.status for reply in replies}


def test_while_the_database_is_away_the_process_is_healthy(outage: Outage) -> None:
    assert Counter(reply.status for reply in outage.health) == {200: len(outage.health)}
    assert max(reply.seconds for reply in outage.health) < ANSWER_WITHIN


def test_when_the_database_is_back_so_is_the_service(outage: Outage) -> None:
    back = max(follower.back(outage.healed) for follower in outage.crowd) - outage.healed
    assert back < BACK_WITHIN, f"L1: it took {back:.1f} s"


def test_no_session_is_lost_when_the_database_was_away(outage: Outage) -> None:
    assert [fault for follower in outage.crowd for fault in follower.broken] == []
    assert_nothing_lost(outage.app, outage.crowd, outage.server.client)


def test_sign_ins_and_ends_wait_no_longer_than_refreshes_for_a_hung_database(
    postgres: Postgres, serve: Servers
) -> None:
    url = postgres.create_database("impatient", "migrated")
    with application(url) as app:
        create_user(app)
    client = serve(url, **GRACE).client
    calls: list[Callable[[], Response]] = [partial(client.logout, client.login().cookie) for _ in range(CLIENTS // 2)]
    calls += [client.login] * (CLIENTS // 2)
    postgres.signal(signal.SIGSTOP)
    try:
        replies = at_once(*calls)
    finally:
        postgres.signal(signal.SIGCONT)
    assert Counter(reply.status for reply in replies) == {503: CLIENTS}
    assert_right_or_unavailable(replies)
    wait_until(lambda: client.login().status == 200, seconds=BACK_WITHIN, what="the service")


def test_a_table_that_somebody_locks_is_a_fault_like_others(postgres: Postgres, serve: Servers) -> None:
    url = postgres.create_database("locked", "migrated")
    with application(url) as app:
        create_user(app)
        crowd = followers(serve(url, **GRACE).client, CLIENTS)
        with meanwhile(*[follower.step for follower in crowd]):
            with psycopg.connect(url) as connection:
                connection.execute("LOCK TABLE sessions IN SHARE MODE")  # as CREATE INDEX does: reads go on
                sleep(4)
            healed = monotonic()
            wait_until(lambda: all(each.is_settled(healed) for each in crowd), seconds=BACK_WITHIN)
        assert_nothing_lost(app, crowd, crowd[0].client)
    replies = [reply for follower in crowd for _, _, reply in follower.replies]
    assert_right_or_unavailable(replies)
    assert 503 in {reply.status for reply in replies}
    assert max(reply.seconds for reply in replies) < 3.5, "someone waited for the lock, and behind others who did"


# SQLite, locked, read-only, gone and full.


@contextmanager
def write_lock(url: str) -> Iterator[None]:
    """Hold SQLite's one write lock, as a foreign program may."""
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


@only_sqlite
def test_while_somebody_locks_the_file_answers_come_in_time(app: Flask, database_url: str, serve: Servers) -> None:
    create_user(app)
    client = serve(database_url, **GRACE).client
    crowd = followers(client, CLIENTS)
    leaving = client.login().cookie
    with meanwhile(*[follower.step for follower in crowd]):
        with write_lock(database_url):
            sleep(1)
            refused = client.logout(leaving)
            sleep(2.5)
        healed = monotonic()
        wait_until(lambda: all(each.is_settled(healed) for each in crowd), seconds=BACK_WITHIN)
    assert (refused.status, refused.all("Set-Cookie")) == (503, []), "the cookie must stay until the end is stored"
    replies = [reply for follower in crowd for _, _, reply in follower.replies]
    assert_right_or_unavailable([refused, *replies])
    assert {reply.status for each in crowd for _, route, reply in each.replies if route == "protected"} == {200}
    assert {reply.status for each in crowd for _, route, reply in each.replies if route == "token"} == {200, 503}
    assert_nothing_lost(app, crowd, client)


@only_sqlite
def test_800_rotations_by_8_clients_in_several_processes_meet_no_lock(
    app: Flask, database_url: str, serve: Servers
) -> None:
    create_user(app)
    server = serve(database_url, TOKENAPP_REFRESH_GRACE="0", WEB_CONCURRENCY="3")

    def rotate_100_times() -> int:
        token = server.client.login().cookie
        for _ in range(100):
            token = server.client.refresh(token).cookie
        return int(claims_of(token or "")["gen"])

    assert at_once(*[rotate_100_times] * 8) == [100] * 8
    assert "locked" not in server.log.read_text()


@only_sqlite
def test_a_read_only_database_is_503(app: Flask, database_url: str) -> None:
    create_user(app)
    login = {"username": "alice", "password": PASSWORD}
    signed_in = app.test_client()
    assert signed_in.post("/api/login", json=login).status_code == 200
    cookie = signed_in.get_cookie("refreshToken")
    with application(database_url.replace("sqlite:///", "sqlite:///file:") + "?mode=ro&uri=true") as read_only:
        client = read_only.test_client()
        client.set_cookie("refreshToken", cookie.value if cookie else "")
        for path in ("/api/token", "/api/logout"):
            reply = client.post(path)
            assert (reply.status_code, reply.headers.get("Set-Cookie")) == (503, None), path
        assert client.post("/api/login", json=login).status_code == 503


@pytest.mark.parametrize("opened", [False, True])
def test_a_database_whose_folder_is_gone_is_503_and_served_again_when_it_is_back(
    databases: Databases, tmp_path: Path, *, opened: bool
) -> None:
    home, url = tmp_path / "home", f"sqlite:///{tmp_path}/home/tokenapp.db"
    home.mkdir()
    shutil.copy(databases("sqlite").removeprefix("sqlite:///"), home / "tokenapp.db")
    with application(url) as app:
        create_user(app)
    with application(url) as app:
        login = partial(app.test_client().post, "/api/login", json={"username": "alice", "password": PASSWORD})
        tab = app.test_client()
        if opened:
            assert login().status_code == 200
            assert tab.post("/api/login", json={"username": "alice", "password": PASSWORD}).status_code == 200
        home.rename(tmp_path / "away")
        assert login().status_code == 503
        assert not opened or tab.post("/api/token").status_code == 503
        home.mkdir()
        assert login().status_code == 503, "an empty database is no database"
        assert not opened or not list(home.iterdir()), "an empty database was put in the place of the lost one"
        shutil.rmtree(home)
        (tmp_path / "away").rename(home)
        assert login().status_code == 200
        assert not opened or tab.post("/api/token").status_code == 200


@only_sqlite
def test_a_full_disk_is_503_and_nothing_acknowledged_is_lost(app: Flask, database_url: str, serve: Servers) -> None:
    create_user(app)
    server = serve(database_url, TOKENAPP_REFRESH_GRACE="1s")
    crowd = followers(server.client, 2)
    for follower in crowd:
        follower.step()
    size = Path(database_url.removeprefix("sqlite:///") + "-wal").stat().st_size
    for pid in server.workers():
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size + 5000, resource.RLIM_INFINITY))
    sleep(1)
    for follower in crowd * 2:
        follower.step()
    assert 503 in {status for follower in crowd for status in follower.statuses()}
    for pid in server.workers():
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    healed = monotonic()
    for follower in crowd:
        follower.step()
        assert follower.back(healed) < math.inf
    assert_nothing_lost(app, crowd, server.client)
