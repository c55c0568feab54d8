"""Many tabs at the moment at which the token expires: nobody is signed out, and no session rotates more than it may.

Every answer is the service's own. What is lost is lost after the service has given it.
"""

import random
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final

import jwt
import pytest
from playwright.sync_api import Browser, Page

from tests.conftest import Databases
from tests.support.app import PASSWORD, application, create_user
from tests.support.chromium import chromium
from tests.support.proxy import CLOCK, Answer, Proxy
from tests.support.server import Server
from tokenapp.db import db
from tokenapp.models import Session

TABS: Final = 6
CALLS: Final = 20
CALLS_AGAIN: Final = 10  # in each of many rounds
LIFETIME: Final = 10
WINDOW: Final = 15  # longer than the client takes to ask again for what was lost
EXPIRIES: Final = 2
ROUNDS: Final = 25
LOSSES: Final = 2  # in each round, and the client tries more often than that
KINDS: Final[Mapping[str, str]] = {
    "with locks and channels": "",
    "without locks": "delete Navigator.prototype.locks;",
    "without channels": "delete window.BroadcastChannel;",
    "with neither": "delete Navigator.prototype.locks; delete window.BroadcastChannel;",
}
SIGN_IN: Final = "password => client.signIn('alice', password)"
CALL_WHEN_DUE: Final = """([calls, due]) => { window.calls = new Promise(resolve => {
    setTimeout(() => {
        slept += 2000;
        resolve(burst(calls, "/api/protected"));
    }, due * 1000 - (Date.now() - slept));
}); }"""
SLEEP_AND_CALL: Final = """calls => { slept += 3600_000; window.calls = burst(calls, "/api/protected"); }"""

pytestmark = pytest.mark.timeout(240)


@dataclass
class Network:
    """Delays answers to refreshes by chance, and loses some; to be a proxy's `after`.

    The first answer with a new cookie is always lost: it is the one that the browser needs most.
    """

    seed: int
    left: int = 0
    lost: int = 0
    lost_rotations: int = 0
    jtis: set[str | None] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._dice, self._turn = random.Random(self.seed), threading.Lock()

    def __call__(self, path: str, answer: Answer) -> bool:
        """Take some time; tell whether the answer arrives."""
        if path != "/api/token":
            return True
        with self._turn:
            jti = jti_of(answer)
            is_new = jti is not None and jti not in self.jtis
            self.jtis.add(jti)
            delay, is_unlucky = self._dice.uniform(0, 0.15), self._dice.random() < 0.5
            is_lost = self.left > 0 and (is_new or is_unlucky)
            self.left -= is_lost
            self.lost += is_lost
            self.lost_rotations += is_lost and is_new
        time.sleep(delay)  # what is tested, and not waited for: a slow network
        return not is_lost


def jti_of(answer: Answer) -> str | None:
    """Return which refresh token an answer brings, if it brings one."""
    name, _, token = dict(answer.headers).get("Set-Cookie", "").partition(";")[0].partition("=")
    return str(jwt.decode(token, options={"verify_signature": False})["jti"]) if name == "refreshToken" else None


@dataclass
class Person:
    """Somebody with some tabs, and what became of them."""

    proxy: Proxy
    tabs: list[Page]
    began: float = 0
    statuses: list[int | str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    rotations: int = 0
    is_over: bool = False
    allowed: int = 0

    def sign_in(self) -> None:
        """Sign in, in one tab and so in all."""
        self.began = time.time()
        self.tabs[0].evaluate(SIGN_IN, PASSWORD)
        for tab in self.tabs[1:]:
            tab.evaluate("client.restore()")

    def bearers(self, begin: int = 0) -> set[str | None]:
        """Return the tokens that calls went out with, from a request on."""
        return {each.bearer for each in self.proxy.passed[begin:] if each.path == "/api/protected"}

    def collect(self) -> None:
        """Wait for what all tabs have called."""
        for tab in self.tabs:
            self.statuses += tab.evaluate("calls")

    def conclude(self, url: str) -> None:
        """Look into the tabs, and into the session's row."""
        sids = {tab.evaluate("client.user?.sessionId") for tab in self.tabs}
        self.told = [each for tab in self.tabs for each in tab.evaluate("told")]
        self.allowed = 1 + int((time.time() - self.began) / WINDOW)
        with application(url) as app, app.app_context():
            (row,) = [db.session.get(Session, sid) for sid in sids]
            assert row is not None
            self.rotations, self.is_over = row.generation, row.revoked_at is not None


Lives = dict[str, Person]


@pytest.fixture(scope="module")
def url(databases: Databases) -> str:
    """Give a database with a user."""
    url = databases("sqlite")
    with application(url) as app:
        create_user(app)
    return url


@pytest.fixture(scope="module")
def places(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Browser]]:
    """Give the service, and a browser."""
    settings = {"TOKENAPP_ACCESS_LIFETIME": f"{LIFETIME}s", "TOKENAPP_REFRESH_GRACE": f"{WINDOW}s"}
    log = tmp_path_factory.mktemp("races") / "server.log"
    with chromium() as browser, Server(url, settings, log=log) as server:
        yield server, browser


@pytest.fixture
def lives(places: tuple[Server, Browser]) -> Iterator[Lives]:
    """Give one person of each kind, each with a network and a browser of their own, in which nobody has signed in."""
    server, browser = places
    with ExitStack() as stack:

        def person(script: str) -> Person:
            proxy = stack.enter_context(Proxy(server.port))
            context = stack.enter_context(browser.new_context())
            context.add_init_script(CLOCK + script)
            return Person(proxy, [proxy.open(context) for _ in range(TABS)])

        yield {kind: person(script) for kind, script in KINDS.items()}


def all_went_well(lives: Lives, calls: int, url: str) -> None:
    """Check that every request of every tab ended well, nobody was signed out, and no session rotated too often."""
    for kind, person in lives.items():
        person.conclude(url)
        assert (set(person.statuses), len(person.statuses)) == ({200}, calls), kind
        assert (person.told, person.is_over) == (["signed-in"] * TABS, False), kind
        assert 1 <= person.rotations <= person.allowed, kind


def test_all_goes_well_when_every_tab_calls_as_the_token_expires(lives: Lives, url: str) -> None:
    for person in lives.values():
        person.sign_in()
    for _ in range(EXPIRIES):
        for person in lives.values():
            for tab in person.tabs:
                assert tab.evaluate("call('/api/protected')") == 200
        former = {kind: (len(person.proxy.passed), person.bearers()) for kind, person in lives.items()}
        due = time.time() + 0.65 * LIFETIME  # and all tabs find that it is two seconds later, when no token will do
        for person in lives.values():
            for tab in person.tabs:
                tab.evaluate(CALL_WHEN_DUE, [CALLS, due])
        for kind, person in lives.items():
            person.collect()
            begin, bearers = former[kind]
            assert not person.bearers(begin) & bearers, kind
    all_went_well(lives, TABS * CALLS * EXPIRIES, url)
    together, alone = (lives[kind].proxy.count("/api/token") for kind in ("with locks and channels", "with neither"))
    assert together < alone


def test_all_goes_well_when_tabs_wake_up_on_networks_that_lose_answers(lives: Lives, url: str) -> None:
    networks = [Network(seed, LOSSES) for seed in range(len(lives))]
    for person, network in zip(lives.values(), networks, strict=True):
        person.proxy.after = network
        person.sign_in()
    for _ in range(ROUNDS):
        for person, network in zip(lives.values(), networks, strict=True):
            network.left = LOSSES
            for tab in person.tabs:
                tab.evaluate(SLEEP_AND_CALL, CALLS_AGAIN)
        for person in lives.values():
            person.collect()
    all_went_well(lives, TABS * CALLS_AGAIN * ROUNDS, url)
    assert min(network.lost for network in networks) > ROUNDS / 5
    assert min(network.lost_rotations for network in networks) > 0
