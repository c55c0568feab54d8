"""Keys and secrets are changed under load, over several workers, and nobody notices but those who must."""

import json
import random
import re
import secrets
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from threading import Event
from time import monotonic, sleep, time
from typing import Self

import pytest

from tests.conftest import Servers
from tests.support.app import ROOT, create_user, make_app
from tests.support.client import Client, claims_of
from tests.support.concurrency import wait_until
from tests.support.forge import unb64
from tests.support.server import run_flask
from tokenapp.db import db

SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
DELAY = 0.2
LIFE = 10
SETTINGS = {
    "WEB_CONCURRENCY": "4",
    "TOKENAPP_ISSUER": "http://localhost",
    "TOKENAPP_REVOCATION_DELAY": str(DELAY),
    "TOKENAPP_JWKS_LIFETIME": "2",
    "TOKENAPP_ACCESS_LIFETIME": str(LIFE),
    "TOKENAPP_REFRESH_GRACE": "1",
}
CLIENTS = 8
OTHER_KEY = secrets.token_urlsafe(48)


def kid_of(token: str) -> str:
    return str(json.loads(unb64(token.split(".", maxsplit=1)[0]))["kid"])


def prepare(database_url: str) -> None:
    """Create the users, one for each client."""
    app = make_app(database_url)
    for number in range(CLIENTS):
        create_user(app, f"user-{number}")
    with app.app_context():
        db.engine.dispose()


@dataclass
class Caller:
    """One client, who refreshes and calls without a pause, and notes every answer that it should not have got."""

    number: int
    servers: Sequence[Client]
    over: Event
    refused: list[str] = field(default_factory=list)
    minted: list[tuple[float, float, str, str]] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    cookie: str = ""
    calls: int = 0

    def run(self) -> None:
        """Go on until told to stop."""
        reply = self.servers[0].login(f"user-{self.number}")
        assert reply.status == 200, reply.body
        self.cookie = reply.cookie or ""
        self.kept = [reply.json["accessToken"]]
        dice = random.Random(self.number)
        while not self.over.is_set():
            self.refresh(dice.choice(self.servers))
            self.call(dice.choice(self.servers), self.kept[-1])
            self.call(dice.choice(self.servers), self.kept[0])
            self.call(dice.choice(self.servers), dice.choice(self.kept))

    def refresh(self, server: Client) -> None:
        """Refresh, and keep what comes."""
        began = time()
        reply = server.refresh(self.cookie)
        self.calls += 1
        if reply.status != 200:
            self.refused.append(f"refresh {reply.status} {kid_of(self.cookie)} {reply.body!r}")
            return
        self.cookie, token = reply.cookie or "", reply.json["accessToken"]
        self.minted.append((began, time(), kid_of(token), kid_of(self.cookie)))
        self.kept.append(token)

    def call(self, server: Client, token: str) -> None:
        """Call with a token: good until its time is over, and not a moment after."""
        expires, began = claims_of(token)["exp"], time()
        status = server.protected(token).status
        self.calls += 1
        allowed = {200} if time() < expires else {403} if began >= expires else {200, 403}
        if status not in allowed:
            self.refused.append(f"protected {status} {kid_of(token)} {began - expires:.3f} s after exp")
        if began >= expires:
            self.kept.remove(token)


@dataclass
class Load:
    """All clients at once; ends them with the block."""

    servers: Sequence[Client]
    callers: list[Caller] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._over = Event()
        self.callers = [Caller(number, self.servers, self._over) for number in range(CLIENTS)]
        self._pool = ThreadPoolExecutor(CLIENTS)
        self._threads = [self._pool.submit(caller.run) for caller in self.callers]
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.result(20)
        self._pool.shutdown()

    @property
    def refused(self) -> list[str]:
        """What was refused, of all clients."""
        return [line for caller in self.callers for line in caller.refused]

    def minted(self, place: int) -> list[tuple[float, float, str]]:
        """When tokens were asked for and given, and the names of the keys that signed them."""
        return [(each[0], each[1], str(each[2 + place])) for caller in self.callers for each in caller.minted]


def rotate(database_url: str, use: str) -> tuple[str, float]:
    """Rotate as an operator does; return the next key's name and when it begins to sign."""
    done = run_flask(database_url, "keys", "rotate", "--use", use, **SETTINGS)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    listed = json.loads(run_flask(database_url, "keys", "list", "--json", **SETTINGS).stdout)
    made = next(key for key in reversed(listed) if key["use"] == use)
    assert made["kid"] in done.stdout
    return made["kid"], datetime.fromisoformat(made["activatesAt"]).astimezone(UTC).timestamp()


def test_a_rotation_of_both_keys_under_load_refuses_nobody(database_url: str, serve: Servers) -> None:
    prepare(database_url)
    server = serve(database_url, **SETTINGS)
    with Load([server.client]) as load:
        turns = [(0, *rotate(database_url, "access")), (1, *rotate(database_url, "refresh"))]
        # On one database until the last token of the former keys is dead; on the other until the new ones sign.
        end = max(begins for _, _, begins in turns) + (LIFE + 1 if database_url.startswith("sqlite") else 2)
        while time() < end and not load.refused:
            sleep(0.1)
    assert load.refused == []
    assert sum(caller.calls for caller in load.callers) > 500
    for place, kid, begins in turns:
        assert all(name != kid for _, given, name in load.minted(place) if given < begins)
        late = [name for asked, _, name in load.minted(place) if asked > begins + DELAY + 0.1]
        assert late
        assert set(late) == {kid}


def test_a_change_of_the_secret_key_under_load_refuses_nobody(database_url: str, serve: Servers) -> None:
    prepare(database_url)
    old = serve(database_url, **SETTINGS)
    changed = {"SECRET_KEY": OTHER_KEY, "WEB_CONCURRENCY": "2"}
    servers = [old.client]
    with Load(servers) as load:
        sleep(0.5)
        fallback = "a key for tests that is long enough to be taken"
        servers.append(serve(database_url, **SETTINGS | changed, SECRET_KEY_FALLBACKS=fallback).client)
        sleep(1)
        servers[:] = servers[1:]
        sleep(0.5)
        servers[:] = [serve(database_url, **SETTINGS | changed).client]
        sleep(1)
    assert load.refused == []
    assert sum(caller.calls for caller in load.callers) > 100


def everywhere(client: Client, token: str) -> set[int]:
    """Ask so often that every worker has answered."""
    with ThreadPoolExecutor(8) as pool:
        return set(pool.map(lambda _: client.protected(token).status, range(48)))


def test_what_a_dropped_access_key_signed_is_refused_by_every_worker_within_the_delay(
    database_url: str, serve: Servers
) -> None:
    prepare(database_url)
    client = serve(database_url, **SETTINGS).client
    before = client.login("user-0")
    token = before.json["accessToken"]
    assert everywhere(client, token) == {200}
    done = run_flask(database_url, "keys", "retire", "--now", "--yes", kid_of(token), **SETTINGS)
    dropped_at = monotonic()
    assert done.stdout == f"Retired {kid_of(token)}. This invalidated the tokens of 1 session.\n"
    sleep(max(0.0, dropped_at + DELAY - monotonic()))
    assert everywhere(client, token) == {403}
    again = client.refresh(before.cookie)
    assert again.status == 200
    assert everywhere(client, again.json["accessToken"]) == {200}


def runbook() -> list[str]:
    """Return the lines of the drill in the document."""
    text = (ROOT / "docs/keys.md").read_text()
    block = re.search(r"^<!-- drill -->\n```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert block
    return block[1].splitlines()


@pytest.mark.parametrize("use", ["access", "refresh"])
@SQLITE
def test_the_drill_for_a_stolen_key_does_what_it_says(
    database_url: str, serve: Servers, use: str, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(database_url)
    client = serve(database_url, **SETTINGS).client
    reply = client.login("user-0")
    stolen = kid_of(reply.json["accessToken"] if use == "access" else reply.cookie or "")
    began = monotonic()
    told = ""
    for line in runbook():
        assert line.startswith("flask ")
        arguments = line.replace("KID", stolen).split("#")[0].split()[1:]
        done = run_flask(database_url, *arguments, **SETTINGS)
        assert done.returncode == 0, f"{line}: {done.stderr}"
        told += done.stdout
    good = partial(client.protected, reply.json["accessToken"])
    wait_until(lambda: good().status == 403, seconds=2, what="the end of what the key signed")
    assert client.refresh(reply.cookie).status == (200 if use == "access" else 403)
    seconds = monotonic() - began
    with capsys.disabled():
        print(f"\nthe drill for a stolen {use} key took {seconds:.1f} s")  # noqa: T201 -- it is to be known
    assert seconds < 30
    assert f"Retired {stolen}. This invalidated the tokens of 1 session." in told
    assert f"{use}\t{stolen}" in told
    fresh = client.login("user-0")
    assert stolen not in {kid_of(fresh.json["accessToken"]), kid_of(fresh.cookie or "")}
