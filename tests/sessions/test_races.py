"""Races between real processes: whatever order things happen in, one lineage (S1), and ended is ended (S3, S4, S11)."""

import random
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import sqlalchemy as sa
from flask import Flask
from sqlalchemy import event

from tests.conftest import Databases, Servers
from tests.support.app import PASSWORD, ROOT, application, create_user, environment
from tests.support.client import Client, Response, claims_of
from tests.support.concurrency import at_once, meanwhile, wait_until
from tests.support.server import Server
from tokenapp import accounts, db, sessions
from tokenapp.models import RefreshClaims, Session, SigningKey

WINDOW = 30
DELAY = 0.2


@dataclass(frozen=True)
class Service:
    """Several worker processes on a database, and the application in this process as one more."""

    app: Flask
    server: Server

    @property
    def client(self) -> Client:
        return self.server.client

    def new_user(self) -> str:
        """Create a user and return the name."""
        name = f"user-{uuid4().hex[:8]}"
        create_user(self.app, name)
        return name

    def sign_in(self, username: str | None = None) -> str:
        """Sign in, as a new user if not told otherwise, and return the refresh token."""
        reply = self.client.login(username or self.new_user())
        assert (reply.status, reply.cookie is not None) == (200, True), reply.body
        return reply.cookie or ""


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "serializable"])
def service(
    request: pytest.FixtureRequest, databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """Give the service under gunicorn, once for all tests: each has its own user.

    On a database that is ``serializable`` transactions that meet fail, and have to be done again.
    """
    url = databases("sqlite" if request.param == "sqlite" else "postgresql")
    if request.param == "serializable":
        make_serializable(url)
    settings = {"WEB_CONCURRENCY": "3", "TOKENAPP_REVOCATION_DELAY": str(DELAY)}
    log = tmp_path_factory.mktemp("races") / "server.log"
    with application(url) as app, Server(url, settings, log=log) as server:
        yield Service(app, server)


def make_serializable(url: str) -> None:
    """Let PostgreSQL refuse what it would otherwise let wait."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            f"ALTER DATABASE {connection.info.dbname} SET default_transaction_isolation = 'serializable'"
        )


def row_of(app: Flask, token: str) -> Session:
    """Return the row of the session that a token belongs to."""
    with app.app_context(), db.reading() as session:
        return session.scalars(sa.select(Session).where(Session.id == claims_of(token)["sid"])).one()


def let_the_window_pass(app: Flask, token: str) -> None:
    """Age the last rotation of the token's session, so that its window is over."""
    row = row_of(app, token)
    assert row.rotated_at is not None
    earlier = row.rotated_at - timedelta(seconds=WINDOW + 5)
    with app.app_context():
        db.execute_now(sa.update(Session).where(Session.id == row.id).values(rotated_at=earlier))


def successor(replies: list[Response]) -> str:
    """Return the one refresh token that all answers carry; fail if there is another, or a refusal."""
    assert Counter(reply.status for reply in replies) == {200: len(replies)}
    tokens = {claims_of(reply.cookie or "")["jti"]: reply.cookie or "" for reply in replies}
    assert len(tokens) == 1, "S1: one refresh token got two successors"
    return next(iter(tokens.values()))


@pytest.mark.parametrize("clients", [8, 32])
def test_simultaneous_refreshes_of_one_token_rotate_it_once(service: Service, clients: int) -> None:
    app, client = service.app, service.client
    for _ in range(3):
        oldest = newest = service.sign_in()
        for generation in range(1, 4):
            previous, newest = newest, successor(at_once(*[partial(client.refresh, newest)] * clients))
            row = row_of(app, newest)
            expected = (generation, claims_of(previous)["jti"], claims_of(newest)["jti"])
            assert (row.generation, row.previous_jti, row.current_jti) == expected
            let_the_window_pass(app, newest)
        assert client.refresh(oldest).status == 403, "S2: a token older than the previous one was answered"
        assert client.refresh(newest).status == 403, "S5: the session went on after a reuse"
        assert row_of(app, newest).revoked_reason == "reuse"


def test_refreshes_of_the_replaced_and_the_current_token_at_once_agree(service: Service) -> None:
    client = service.client
    first = service.sign_in()
    second = successor([client.refresh(first)])
    for _ in range(5):
        calls = [partial(client.refresh, token) for token in (first, second) * 6]
        assert successor(at_once(*calls)) == second
    assert row_of(service.app, second).generation == 1


def test_reuse_racing_the_holder_of_the_current_token_ends_the_session(service: Service) -> None:
    client = service.client
    for _ in range(5):
        stolen = newest = service.sign_in()
        for _ in range(2):
            newest = successor([client.refresh(newest)])
            let_the_window_pass(service.app, newest)
        calls = [partial(client.refresh, token) for token in (stolen, newest, newest, newest)]
        refused, *others = at_once(*calls)
        assert refused.status == 403
        for token in [newest, *(reply.cookie for reply in others if reply.cookie)]:
            assert client.refresh(token).status == 403, "S5: a token lived on after the refusal of a reuse was sent"


# Ends of sessions, racing refreshes and sign-ins.


@dataclass
class Haul:
    """What racing clients were handed, with the moments at which they asked."""

    refreshed: list[Response] = field(default_factory=list)
    logins: list[tuple[float, Response]] = field(default_factory=list)

    def refresh_endlessly(self, client: Client, token: str) -> Callable[[], None]:
        """Make a client that follows its session, one refresh after another, and keeps all it gets."""

        def step() -> None:
            reply = client.refresh(token)
            if reply.status == 200:
                self.refreshed.append(reply)
            else:
                assert (reply.status, reply.cookie) == (403, None)
                sleep(0.01)

        return step

    def log_in_endlessly(self, client: Client, username: str) -> Callable[[], None]:
        """Make a client that signs in again and again."""

        def step() -> None:
            answered = client.login(username)
            if answered.status == 200:
                self.logins.append((monotonic(), answered))
            else:
                assert answered.status in {401, 429}
            sleep(0.03)

        return step


def log_out(service: Service, _username: str, token: str) -> None:
    assert service.client.logout(token).status == 204


def disable(service: Service, username: str, _token: str) -> None:
    with service.app.app_context():
        accounts.disable(accounts.find(username), datetime.now(UTC))


def set_password(service: Service, username: str, _token: str) -> None:
    with service.app.app_context():
        accounts.set_password(accounts.find(username), "another horse, another staple", datetime.now(UTC))


def revoke_all(service: Service, username: str, _token: str) -> None:
    with service.app.app_context():
        sessions.revoke_all_of(accounts.find(username).id, "operator", datetime.now(UTC))


Ending = Callable[[Service, str, str], None]


def assert_dead(service: Service, refresh_tokens: set[str], access_tokens: set[str]) -> None:
    """Check S3, S4, S10 and S11 for the sessions of these tokens: nothing works, in any worker."""
    client = service.client
    for token in refresh_tokens:
        assert client.refresh(token).status == 403, "S3: a refresh succeeded after the end"
    sleep(DELAY)
    for token in access_tokens:
        statuses = {reply.status for reply in at_once(*[partial(client.protected, token)] * 6)}
        assert statuses == {403}, "S11: an access token was taken after the delay"
    with service.app.app_context():
        live = {row.id for row, _ in sessions.list_sessions(datetime.now(UTC))}
    assert not live & {claims_of(token)["sid"] for token in refresh_tokens}, "S10: the list shows a dead session"


@pytest.mark.parametrize("end", [log_out, disable, set_password, revoke_all])
def test_nothing_survives_the_end_of_a_session_that_races_its_refreshes(service: Service, end: Ending) -> None:
    client = service.client
    for _ in range(2):
        username = service.new_user()
        token = service.sign_in(username)
        second = successor([client.refresh(token)])
        haul = Haul()
        with meanwhile(*[haul.refresh_endlessly(client, each) for each in (token, second, second, second)]):
            sleep(random.uniform(0.05, 0.15))
            let_the_window_pass(service.app, second)  # so that the race is one of rotations, too
            end(service, username, second)
            let_the_window_pass(service.app, second)
            after = [reply.status for reply in at_once(*[partial(client.refresh, second)] * 8)]
        assert set(after) == {403}, "S3: a refresh that began after the end succeeded"
        refresh_tokens = {reply.cookie or "" for reply in haul.refreshed} | {token, second}
        access_tokens = [reply.json["accessToken"] for reply in haul.refreshed]
        assert_dead(service, refresh_tokens, {*access_tokens[:4], *access_tokens[-6:]})


@pytest.mark.parametrize("end", [disable, set_password, revoke_all])
def test_no_sign_in_slips_past_an_end_of_all_sessions(service: Service, end: Ending) -> None:
    username = service.new_user()
    haul = Haul()
    with meanwhile(*[haul.log_in_endlessly(service.client, username) for _ in range(4)]):
        sleep(0.3)
        began = monotonic()
        end(service, username, "")
        sleep(0.1)
    # An operator's revocation ends what was open then; after a disabling or a new password nobody gets in at all.
    dead = [reply for answered, reply in haul.logins if answered < began or end is not revoke_all]
    assert dead
    assert_dead(service, {reply.cookie or "" for reply in dead}, {reply.json["accessToken"] for reply in dead[-8:]})


# Clients that are clumsy, and networks that are.


@dataclass
class Jar:
    """The cookie that a browser's tabs share; an answer that comes late overwrites that of one that came early."""

    token: str


def refresh_as_tab(client: Client, jar: Jar, lateness: float) -> int:
    """Refresh with the cookie of this moment and put the answer's into the jar a little later."""
    reply = client.refresh(jar.token)
    sleep(lateness)
    if reply.cookie:
        jar.token = reply.cookie
    return reply.status


def test_tabs_that_share_a_cookie_are_never_signed_out(service: Service) -> None:
    app, client = service.app, service.client
    jar = Jar(service.sign_in())
    for rounds in range(1, 7):
        for _ in range(3):
            tabs = [partial(refresh_as_tab, client, jar, random.uniform(0, 0.03)) for _ in range(6)]
            assert at_once(*tabs) == [200] * 6
        assert row_of(app, jar.token).generation == rounds, "a window saw more than one rotation"
        let_the_window_pass(app, jar.token)


def send_and_hang_up(port: int, token: str) -> None:
    """Ask for a refresh and be gone before the answer."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(f"POST /api/token HTTP/1.1\r\nHost: x\r\nCookie: refreshToken={token}\r\n\r\n".encode())


def refreshes_served(service: Service) -> int:
    return service.server.log.read_text().count("/api/token")


def test_a_client_that_loses_every_other_answer_goes_on(service: Service) -> None:
    token, expected = service.sign_in(), refreshes_served(service)
    for rounds in range(1, 7):
        at_once(*[partial(send_and_hang_up, service.server.port, token)] * rounds)
        token = successor([service.client.refresh(token)])
        expected += rounds + 1
        for_all = partial(lambda count: refreshes_served(service) == count, expected)
        wait_until(for_all, what="the end of all requests")
        assert row_of(service.app, token).generation == rounds
        let_the_window_pass(service.app, token)


@pytest.mark.parametrize("skew", [-5, 5])
def test_hosts_whose_clocks_differ_agree_on_a_retry(app: Flask, skew: int) -> None:
    create_user(app)
    with app.app_context():
        now = datetime.now(UTC)
        grant = sessions.open_session(accounts.find("alice"), now)
        there = now + timedelta(seconds=skew)
        lost = sessions.refresh(RefreshClaims(grant.sid, grant.jti, 0), there)
        for passed in (0, 10, WINDOW - 6):
            retried = sessions.refresh(RefreshClaims(grant.sid, grant.jti, 0), now + timedelta(seconds=passed))
            assert (retried.outcome, retried.jti) == ("grace", lost.jti)
            followed = sessions.refresh(RefreshClaims(grant.sid, lost.jti, 1), there + timedelta(seconds=passed))
            assert (followed.outcome, followed.jti) == ("damped", lost.jti)


# What a bearer request costs.


def count_statements(app: Flask) -> list[str]:
    """Return a list that grows by each statement which the application sends from now on."""
    seen: list[str] = []
    with app.app_context():
        engine = db.db.engine

    @event.listens_for(engine, "before_cursor_execute")
    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    return seen


def test_bearer_requests_read_list_and_keys_once_per_delay_at_most(app: Flask) -> None:
    create_user(app)
    reply = app.test_client().post("/api/login", json={"username": "alice", "password": PASSWORD})
    headers = {"Authorization": f"Bearer {reply.json['accessToken']}"} if reply.json else {}
    seen = count_statements(app)
    began = monotonic()

    def hammer() -> list[int]:
        client = app.test_client()
        return [client.get("/api/protected", headers=headers).status_code for _ in range(500)]

    statuses = Counter(status for each in at_once(*[hammer] * 4) for status in each)
    assert statuses == {200: 2000}
    for table in ("FROM sessions", "FROM signing_keys"):
        count = sum(table in statement for statement in seen)
        assert count <= monotonic() - began + 2, f"{count} times {table} in {monotonic() - began:.1f} s"
    assert all("SELECT" in statement for statement in seen)


def test_bearer_requests_to_several_processes_read_the_database_no_more_often(
    databases: Databases, serve: Servers
) -> None:
    url = databases("postgresql")
    with application(url) as app:
        create_user(app)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {connection.info.dbname} SET log_statement = 'all'")
        where = connection.execute("SHOW data_directory").fetchone()
    client = serve(url, TOKENAPP_REVOCATION_DELAY=str(DELAY)).client
    token = client.login().json["accessToken"]
    at_once(*[partial(client.protected, token)] * 8)
    log = Path(where[0] if where else "").parent / "log"
    began, before = monotonic(), log.read_text().count("FROM sessions")

    def hammer() -> Counter[int]:
        return Counter(client.protected(token).status for _ in range(75))

    assert sum(at_once(*[hammer] * 8), Counter()) == {200: 600}
    seconds, statements = monotonic() - began, log.read_text().count("FROM sessions") - before
    assert 1 <= statements <= 2 * (seconds / DELAY + 2), f"{statements} statements of 2 workers in {seconds:.1f} s"


# The first start.


def test_servers_that_start_at_once_on_an_empty_database_agree_on_the_keys(
    app: Flask, database_url: str, serve: Servers
) -> None:
    for username in ("alice", "berta"):
        create_user(app, username)
    with ThreadPoolExecutor(2) as pool:
        servers: list[Server] = list(pool.map(lambda _: serve(database_url, TOKENAPP_ISSUER="http://one.test"), "ab"))
    calls = [partial(server.client.login, name) for server in servers for name in ("alice", "berta") * 4]
    replies = at_once(*calls)
    assert Counter(reply.status for reply in replies) == {200: 16}
    with app.app_context(), db.reading() as session:
        assert sorted(session.scalars(sa.select(SigningKey.use))) == ["access", "refresh"]
    for server in servers:
        bearers = [partial(server.client.protected, reply.json["accessToken"]) for reply in replies]
        assert Counter(reply.status for reply in at_once(*bearers)) == {200: 16}
        assert Counter(server.client.refresh(reply.cookie).status for reply in replies) == {200: 16}


PREPARED = """
import gc, runpy, msgspec, wsgi
runpy.run_path("gunicorn.conf.py")["when_ready"](None)
kinds = [kind for kind in msgspec.Struct.__subclasses__() if kind.__module__.startswith("tokenapp.")]
assert len(kinds) > 2, kinds
for kind in kinds:
    assert any(type(each).__name__ == "StructInfo" for each in gc.get_referents(kind)), kind
"""


def test_types_that_requests_are_read_into_are_prepared_before_there_are_threads(databases: Databases) -> None:
    # A worker died of it: msgspec 0.22 shows a type that it still prepares to other threads, which follow its nulls.
    env = environment(DATABASE_URL=databases("sqlite"))
    ended = subprocess.run(
        [sys.executable, "-c", PREPARED], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
