"""Many tabs at the moment at which the token expires: nobody is signed out, and no session rotates more than it may.

Every answer is the service's own. What is lost is lost after the service has given it.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final

import pytest
from playwright.sync_api import Page

from tests.browser import chromium
from tests.conftest import Databases
from tests.harness import PASSWORD, Server, application, create_user
from tests.proxy import Proxy
from tokenapp.db import db
from tokenapp.models import Session

TABS: Final = 6
CALLS: Final = 20
CALLS_AGAIN: Final = 10  # in each of many rounds
LIFETIME: Final = 10
WINDOW: Final = 8  # longer than the client takes to ask again for what was lost
EXPIRIES: Final = 2
ROUNDS: Final = 25
LOSSES: Final = 2  # in each round, and the client tries more often than that
KINDS: Final[Mapping[str, str]] = {
    "with locks and channels": "",
    "without locks": "delete Navigator.prototype.locks;",
    "without channels": "delete window.BroadcastChannel;",
    "with neither": "delete Navigator.prototype.locks; delete window.BroadcastChannel;",
}
# The clock of all tabs goes forward as that of a laptop does which has slept: it is the only one that the client knows.
CLOCK: Final = "{ const { now } = Date; window.slept = 0; Date.now = () => now() + slept; }"
SIGN_IN: Final = "password => client.signIn('alice', password)"
CALL_WHEN_DUE: Final = """([calls, due]) => { window.calls = new Promise(resolve => {
    setTimeout(() => resolve(burst(calls, "/api/protected")), due * 1000 - Date.now());
}); }"""
SLEEP_AND_CALL: Final = """calls => { slept += 3600_000; window.calls = burst(calls, "/api/protected"); }"""

pytestmark = pytest.mark.timeout(240)


@dataclass
class Network:
    """Delays answers to refreshes by chance, and loses some; to be a proxy's `after`."""

    seed: int
    left: int = 0
    lost: int = 0

    def __post_init__(self) -> None:
        self._dice, self._turn = random.Random(self.seed), threading.Lock()

    def __call__(self, path: str) -> bool:
        """Take some time; tell whether the answer arrives."""
        if path != "/api/token":
            return True
        with self._turn:
            delay, is_lost = self._dice.uniform(0, 0.3), self.left > 0 and self._dice.random() < 0.5
            self.left -= is_lost
            self.lost += is_lost
        time.sleep(delay)  # what is tested, and not waited for: a slow network
        return not is_lost


@dataclass
class Person:
    """Somebody who is signed in, in some tabs, and what became of it."""

    proxy: Proxy
    tabs: list[Page]
    began: float
    statuses: list[int | str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    rotations: int = 0
    is_over: bool = False
    allowed: int = 0

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
def meet(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Lives]]:
    """Give a function that signs in one person of each kind, each with a network of their own."""
    settings = {"TOKENAPP_ACCESS_LIFETIME": f"{LIFETIME}s", "TOKENAPP_REFRESH_GRACE": f"{WINDOW}s"}
    log = tmp_path_factory.mktemp("races") / "server.log"
    with chromium() as browser, Server(url, settings, log=log) as server, ExitStack() as stack:

        def sign_in(script: str) -> Person:
            proxy = stack.enter_context(Proxy(server.port))
            context = stack.enter_context(browser.new_context())
            context.add_init_script(CLOCK + script)
            tabs = [proxy.open(context) for _ in range(TABS)]
            began = time.time()
            tabs[0].evaluate(SIGN_IN, PASSWORD)
            for tab in tabs[1:]:
                tab.evaluate("client.restore()")
            return Person(proxy, tabs, began)

        def make() -> Lives:
            stack.pop_all().close()
            return {kind: sign_in(script) for kind, script in KINDS.items()}

        yield make


@pytest.fixture(scope="module")
def expired(meet: Callable[[], Lives], url: str) -> Lives:
    """Let tokens expire, while every tab calls at that very moment."""
    lives = meet()
    for number in range(EXPIRIES):
        for person in lives.values():
            due = person.began + (number + 1) * LIFETIME * 0.8
            for tab in person.tabs:
                tab.evaluate(CALL_WHEN_DUE, [CALLS, due])
        for person in lives.values():
            person.collect()
    for person in lives.values():
        person.conclude(url)
    return lives


@pytest.fixture(scope="module")
def battered(meet: Callable[[], Lives], url: str) -> Lives:
    """Let the tabs wake up and call, again and again, over networks that lose answers."""
    lives = meet()
    networks = [Network(seed) for seed in range(len(lives))]
    for person, network in zip(lives.values(), networks, strict=True):
        person.proxy.after = network
    for _ in range(ROUNDS):
        for person, network in zip(lives.values(), networks, strict=True):
            network.left = LOSSES
            for tab in person.tabs:
                tab.evaluate(SLEEP_AND_CALL, CALLS_AGAIN)
        for person in lives.values():
            person.collect()
    for person, network in zip(lives.values(), networks, strict=True):
        person.conclude(url)
        assert network.lost > ROUNDS / 5
    return lives


@pytest.fixture(params=[(name, kind) for name in ("expired", "battered") for kind in KINDS], ids=" ".join)
def person(request: pytest.FixtureRequest) -> Person:
    """Give each person of each story."""
    story, kind = request.param
    lives: Lives = request.getfixturevalue(story)
    return lives[kind]


def test_every_request_ends_well(person: Person) -> None:
    assert set(person.statuses) == {200}
    assert len(person.statuses) in {TABS * CALLS * EXPIRIES, TABS * CALLS_AGAIN * ROUNDS}


def test_nobody_is_signed_out(person: Person) -> None:
    assert (person.told, person.is_over) == (["signed-in"] * TABS, False)


def test_a_session_rotates_at_most_once_in_a_window(person: Person) -> None:
    assert 1 <= person.rotations <= person.allowed


def test_tabs_that_know_of_each_other_spare_the_service_most_refreshes(expired: Lives) -> None:
    together, alone = (expired[kind].proxy.count("/api/token") for kind in ("with locks and channels", "with neither"))
    assert together < alone
