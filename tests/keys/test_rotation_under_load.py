"""Rotate keys and change `SECRET_KEY` while clients use several workers."""

import random
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import sleep, time
from typing import Final

from flask import Flask

from tests.conftest import Servers
from tests.keys.conftest import DELAY, FAST
from tests.support.app import SETTINGS, application, create_user
from tests.support.client import Client, claims_of
from tests.support.commandline import run, run_json
from tests.support.concurrency import repeating, wait_until
from tests.support.forge import kid_of
from tokenapp import keys

CLIENTS: Final = 4
# Leaves time for the workers and for starting servers. A test still sends about 50 requests per revocation delay.
PAUSE: Final = 0.05


@dataclass(frozen=True)
class Minted:
    """The result of a refresh: when it was, which keys signed, and when it expires."""

    requested: float
    received: float
    kids: dict[keys.Use, str]
    expires: int


@dataclass
class Caller:
    """A client that refreshes and calls, and notes every wrong response.

    Each request goes to a random port of `ports`, which the test can change at any time.
    """

    username: str
    ports: list[int]
    cookie: str = ""
    tokens: list[str] = field(default_factory=list)
    minted: list[Minted] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    rounds: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(self.username)
        response = self._client().login(self.username)
        self.cookie, self.tokens = response.cookie or "", [response.json["accessToken"]]

    def work(self) -> None:
        """Refresh, then call with the newest, the oldest and a random access token."""
        self._refresh()
        for token in (self.tokens[-1], self.tokens[0], self._random.choice(self.tokens)):
            self._call(token)
        self.rounds += 1
        sleep(PAUSE)

    def _refresh(self) -> None:
        requested = time()
        response = self._client().refresh(self.cookie)
        if response.status != 200:
            self.failures.append(f"refresh {response.status} {kid_of(self.cookie)} {response.body!r}")
            return
        self.cookie, token = response.cookie or "", response.json["accessToken"]
        kids: dict[keys.Use, str] = {"access": kid_of(token), "refresh": kid_of(self.cookie)}
        self.minted.append(Minted(requested, time(), kids, claims_of(token)["exp"]))
        self.tokens.append(token)

    def _call(self, token: str) -> None:
        """Call with a token, which must be accepted exactly until it expires."""
        expires, requested = claims_of(token)["exp"], time()
        status = self._client().protected(token).status
        expected = {200} if time() < expires else {403} if requested >= expires else {200, 403}
        if status not in expected:
            self.failures.append(f"protected {status} {kid_of(token)} {requested - expires:.3f} s after exp")
        if requested >= expires and token in self.tokens[:-1]:
            self.tokens.remove(token)

    def _client(self) -> Client:
        return Client(self._random.choice(self.ports))


@dataclass
class Load:
    """All callers."""

    callers: list[Caller]

    @property
    def failures(self) -> list[str]:
        """The wrong responses to all callers."""
        return [line for caller in self.callers for line in caller.failures]

    @property
    def minted(self) -> list[Minted]:
        """The tokens of all callers."""
        return [each for caller in self.callers for each in list(caller.minted)]

    def wait_for_rounds(self, count: int = 5) -> None:
        """Wait until every caller has started and finished so many rounds."""
        goals = {caller.username: caller.rounds + 1 + count for caller in self.callers}
        self.wait_until(lambda: all(caller.rounds >= goals[caller.username] for caller in self.callers))

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition` holds, or a response was wrong."""
        wait_until(lambda: bool(self.failures) or condition(), seconds=90, what="the clients")


@contextmanager
def load(app: Flask, ports: list[int]) -> Iterator[Load]:
    """Let several users use the servers until the block ends.

    No response may be wrong.
    """
    names = [f"user-{number}" for number in range(CLIENTS)]
    for name in names:
        create_user(app, name)
    running = Load([Caller(name, ports) for name in names])
    with repeating(*[caller.work for caller in running.callers]):
        yield running
    assert running.failures == []


def rotate(app: Flask, use: keys.Use) -> tuple[str, float]:
    """Rotate a key; return the new kid and the time when it becomes active."""
    published = run(app, "keys", "rotate", "--use", use).stdout
    new = next(key for key in reversed(run_json(app, "keys", "list")) if key["use"] == use)
    assert new["kid"] in published
    return new["kid"], datetime.fromisoformat(new["activatesAt"]).astimezone(UTC).timestamp()


def test_rotation_of_both_keys_under_load_fails_no_request(database_url: str, serve: Servers) -> None:
    port = serve(database_url, **FAST).port
    with application(database_url, **FAST) as app, load(app, [port]) as running:
        new = {use: rotate(app, use) for use in keys.USES}

        def late(use: keys.Use) -> list[Minted]:
            """Return what was requested when every worker had to know the new key."""
            return [each for each in running.minted if each.requested > new[use][1] + DELAY]

        running.wait_until(lambda: all(len(late(use)) >= 5 * CLIENTS for use in keys.USES))
        if database_url.startswith("sqlite"):  # once is enough: it takes ten seconds
            last = max(each.expires for each in running.minted if each.kids["access"] != new["access"][0])
            running.wait_until(lambda: time() > last)
            running.wait_for_rounds()
    for use, (kid, activates_at) in new.items():
        assert all(each.kids[use] != kid for each in running.minted if each.received < activates_at)
        assert {each.kids[use] for each in late(use)} == {kid}


def test_change_of_the_secret_key_under_load_fails_no_request(database_url: str, serve: Servers) -> None:
    changed = FAST | {"SECRET_KEY": secrets.token_urlsafe(48), "WEB_CONCURRENCY": "2"}
    ports = [serve(database_url, **FAST).port]
    with application(database_url, **FAST) as app, load(app, ports) as running:
        running.wait_for_rounds()
        ports.append(serve(database_url, **changed, SECRET_KEY_FALLBACKS=SETTINGS["SECRET_KEY"]).port)
        running.wait_for_rounds()
        del ports[0]
        running.wait_for_rounds()
        ports[:] = [serve(database_url, **changed).port]
        running.wait_for_rounds()
