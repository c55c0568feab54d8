"""The browser client: many tabs that refresh at the same time stay signed in.

All responses are the service's own. A lost response is lost after the service has processed the request.
"""

import os
import random
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest
import sqlalchemy as sa
from flask import Flask
from playwright.sync_api import Browser, Page

from tests.conftest import Databases
from tests.support.app import application, create_user
from tests.support.client import Response, claims_of
from tests.support.concurrency import wait_until
from tests.support.proxy import Proxy
from tests.support.server import Server
from tests.support.tabs import CLOCK, create_client, open_tab, sign_in
from tokenapp.db import execute_now
from tokenapp.models import Session

TABS: Final = 6
CALLS: Final = 20
LIFETIME: Final = 900
GRACE: Final = 60  # seconds, longer than the client takes to repeat a request whose response was lost
EXPIRIES: Final = 2
ROUNDS: Final = int(os.environ.get("CLIENT_RACE_ROUNDS", "4"))  # `make soak` runs more
CALLS_PER_ROUND: Final = 10
LOSSES: Final = 2  # in each round, fewer than the attempts of the client
KINDS: Final[Mapping[str, str]] = {
    "with locks and channels": "",
    "without locks": "delete Navigator.prototype.locks;",
    "without channels": "delete window.BroadcastChannel;",
    "with neither": "delete Navigator.prototype.locks; delete window.BroadcastChannel;",
}
CALL_WHEN_DUE: Final = """([calls, due, lifetime]) => { window.calls = new Promise(resolve => {
    setTimeout(() => {
        slept += (lifetime - 30) * 1000;
        resolve(burst(calls, "/api/protected"));
    }, due * 1000 - (Date.now() - slept));
}); }"""
WAKE_UP_AND_CALL: Final = """calls => { slept += 3600_000; window.calls = burst(calls, "/api/protected"); }"""

pytestmark = pytest.mark.timeout(300 + 10 * ROUNDS)


@dataclass
class LossyNetwork:
    """A `deliver` that delays responses to refreshes, and loses some of them.

    It loses the first response of each round, and each first response with a new cookie, which the browser needs most.
    """

    seed: int
    remaining: int = 0
    lost: int = 0
    lost_rotations: int = 0
    jtis: set[str | None] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._random, self._lock = random.Random(self.seed), threading.Lock()

    def __call__(self, path: str, response: Response) -> bool:
        """Delay the response, and return whether it arrives."""
        if path != "/api/token":
            return True
        with self._lock:
            jti = str(claims_of(response.cookie)["jti"]) if response.cookie else None
            is_new = jti is not None and jti not in self.jtis
            self.jtis.add(jti)
            delay, by_chance = self._random.uniform(0, 0.15), self._random.random() < 0.5
            is_lost = self.remaining > 0 and (self.remaining == LOSSES or is_new or by_chance)
            self.remaining -= is_lost
            self.lost += is_lost
            self.lost_rotations += is_lost and is_new
        time.sleep(delay)  # simulates a slow network
        return not is_lost


@dataclass
class TabGroup:
    """The tabs of one browser, and the statuses of their calls."""

    proxy: Proxy
    tabs: list[Page]
    began: float = 0
    rounds: int = 0
    statuses: list[int | str] = field(default_factory=list)

    def reset(self) -> None:
        """Return to the initial state: no user is signed in."""
        self.proxy.reset()
        self.rounds, self.statuses = 0, []
        self.tabs[0].context.clear_cookies()
        for tab in self.tabs:
            tab.evaluate("slept = 0")
            create_client(tab)

    def sign_in(self) -> None:
        """Sign in in the first tab, which signs in all tabs."""
        self.began = time.monotonic()
        sign_in(self.tabs[0])
        for tab in self.tabs[1:]:
            tab.evaluate("client.restore()")

    def bearers(self, begin: int = 0) -> set[str | None]:
        """Return the tokens of the calls since an exchange."""
        return {each.bearer for each in self.proxy.exchanges[begin:] if each.path == "/api/protected"}

    def collect(self) -> None:
        """Wait for the calls of all tabs."""
        self.rounds += 1
        for tab in self.tabs:
            self.statuses += tab.evaluate("calls")
        wait_until(lambda: self.proxy.pending == 0, what="the last response")

    def session(self, app: Flask) -> tuple[int, bool]:
        """Return the number of rotations of the session, and whether it is revoked."""
        (sid,) = {tab.evaluate("client.user?.sessionId") for tab in self.tabs}
        with app.app_context():
            (row,) = execute_now(sa.select(Session.generation, Session.revoked_at).where(Session.id == sid))
        return row.generation, row.revoked_at is not None


Groups = dict[str, TabGroup]


@pytest.fixture(scope="module")
def url(databases: Databases) -> str:
    """Give a database."""
    return databases("sqlite")


@pytest.fixture(scope="module")
def app(url: str) -> Iterator[Flask]:
    """Give the application in this process, with a user."""
    with application(url) as app:
        create_user(app)
        yield app


@pytest.fixture(scope="module")
def server(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Give the service on the same database."""
    settings = {"TOKENAPP_ACCESS_LIFETIME": f"{LIFETIME}s", "TOKENAPP_REFRESH_GRACE": f"{GRACE}s"}
    log = tmp_path_factory.mktemp("races") / "server.log"
    with Server(url, settings, log=log) as server:
        yield server


@pytest.fixture(scope="module")
def open_groups(server: Server, browser: Browser) -> Iterator[Groups]:
    """Give a group of tabs of each kind, each with its own proxy and cookies."""
    with ExitStack() as stack:

        def group(script: str) -> TabGroup:
            proxy = stack.enter_context(Proxy(server.port))
            context = stack.enter_context(browser.new_context())
            context.add_init_script(CLOCK + script)
            return TabGroup(proxy, [open_tab(proxy, context) for _ in range(TABS)])

        yield {kind: group(script) for kind, script in KINDS.items()}


@pytest.fixture
def groups(open_groups: Groups) -> Groups:
    """Give the groups in their initial state."""
    for group in open_groups.values():
        group.reset()
    return open_groups


def end_grace_periods(app: Flask) -> None:
    """Move the last rotation an hour back: the next refresh rotates again."""
    with app.app_context():
        execute_now(sa.update(Session).values(rotated_at=datetime.now(UTC) - timedelta(hours=1)))


def assert_all_stayed_signed_in(groups: Groups, calls: int, app: Flask) -> None:
    """Check the calls, the reasons that listeners got, and the number of rotations."""
    for kind, group in groups.items():
        assert (set(group.statuses), len(group.statuses)) == ({200}, calls), kind
        reasons = [reason for tab in group.tabs for reason in tab.evaluate("reasons")]
        rotations, is_revoked = group.session(app)
        assert (reasons, is_revoked) == (["signed-in"] * TABS, False), kind
        allowed = 1 + group.rounds + int((time.monotonic() - group.began) / GRACE)
        assert group.rounds <= rotations <= allowed, kind


def test_all_tabs_stay_signed_in_when_they_call_as_the_token_expires(groups: Groups, app: Flask) -> None:
    for group in groups.values():
        group.sign_in()
    for _ in range(EXPIRIES):
        end_grace_periods(app)
        for group in groups.values():
            for tab in group.tabs:
                assert tab.evaluate("call('/api/protected')") == 200
        former = {kind: (len(group.proxy.exchanges), group.bearers()) for kind, group in groups.items()}
        due = time.time() + 0.5
        for group in groups.values():
            for tab in group.tabs:
                tab.evaluate(CALL_WHEN_DUE, [CALLS, due, LIFETIME])
        for kind, group in groups.items():
            group.collect()
            begin, bearers = former[kind]
            assert not group.bearers(begin) & bearers, kind
    assert_all_stayed_signed_in(groups, TABS * CALLS * EXPIRIES, app)
    together, alone = (groups[kind].proxy.count("/api/token") for kind in ("with locks and channels", "with neither"))
    assert together < alone


def test_all_tabs_stay_signed_in_when_they_wake_up_on_networks_that_lose_responses(groups: Groups, app: Flask) -> None:
    networks = [LossyNetwork(seed) for seed in range(len(groups))]
    for group, network in zip(groups.values(), networks, strict=True):
        group.proxy.deliver = network
        group.sign_in()
    for _ in range(ROUNDS):
        end_grace_periods(app)
        for group, network in zip(groups.values(), networks, strict=True):
            network.remaining = LOSSES
            for tab in group.tabs:
                tab.evaluate(WAKE_UP_AND_CALL, CALLS_PER_ROUND)
        for group in groups.values():
            group.collect()
    assert_all_stayed_signed_in(groups, TABS * CALLS_PER_ROUND * ROUNDS, app)
    assert min(network.lost for network in networks) >= ROUNDS
    assert min(network.lost_rotations for network in networks) >= ROUNDS
