"""The trail: each event one record and each record an event (D5), whatever crashes; shown, followed and pruned."""

import json
import os
import random
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.client import HTTPException
from pathlib import Path
from threading import Event as Flag
from time import monotonic, sleep
from typing import Any, get_args

import pytest
import sqlalchemy as sa
from flask import Flask

from tests.conftest import Servers
from tests.support.app import PASSWORD, ROOT, environment
from tests.support.client import Client, Response, claims_of, sign_in
from tests.support.commandline import create_user, error_of, run, run_json
from tests.support.concurrency import wait_until
from tests.support.server import Server
from tokenapp import audit, db
from tokenapp.models import AddressCount, AuditEvent, Session, SigningKey, Throttle, User
from tokenapp.throttle import lockout

SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
STRICT = {
    "WEB_CONCURRENCY": "3",
    "TOKENAPP_REFRESH_GRACE": "0",
    "TOKENAPP_ADDRESS_FAILURES": "10000",
    "TOKENAPP_REVOCATION_DELAY": "0.2",
}
SECONDS = 5.0
Trail = dict[str | None, Counter[tuple[str, str | None]]]


def all_of(app: Flask, model: Any) -> list[Any]:
    with app.app_context(), db.reading() as session:
        return list(session.scalars(sa.select(model)))


def kinds(app: Flask) -> list[tuple[str, str | None]]:
    """Return the records' kinds and reasons in their order, but for users and keys, which tests make first."""
    made = {"user_created", "key_created"}
    trail = sorted(all_of(app, AuditEvent), key=lambda event: event.id)
    return [(event.kind, event.reason) for event in trail if event.kind not in made]


@dataclass
class Person:
    """Somebody who does one random thing after the other, and keeps a history of what was answered."""

    number: int
    client: Client
    history: list[tuple[str, str, Response | None]] = field(default_factory=list)
    cookies: list[str] = field(default_factory=list)
    bearer: str | None = None

    @property
    def name(self) -> str:
        return f"user-{self.number}"

    def act(self, dice: random.Random) -> None:
        """Do one thing."""
        actions: list[Callable[[dict[str, str]], Response]] = [self.sign_in, self.refresh, self.refresh, self.sign_out]
        actions += [self.change_password, self.replay] if dice.random() < 0.3 else [self.refresh]
        actions += [self.mistake] if dice.random() < 0.1 else []
        action = dice.choice(actions)
        request_id = f"{action.__name__}-{self.number}-{len(self.history)}"
        try:
            reply = action({"X-Request-ID": request_id})
        except (OSError, HTTPException):
            self.history.append((request_id, action.__name__, None))  # a worker died over it: nobody knows
            return
        self.history.append((request_id, action.__name__, reply))
        if reply.cookie:
            self.cookies.append(reply.cookie)
        if reply.status == 200:
            self.bearer = reply.json["accessToken"]

    def sign_in(self, headers: dict[str, str]) -> Response:
        cookie = self.cookies[-1] if self.cookies and self.number % 2 else None
        return self.client.login(self.name, headers=headers, cookie=cookie)

    def mistake(self, headers: dict[str, str]) -> Response:
        return self.client.login("victim", "not the password at all", headers=headers)

    def refresh(self, headers: dict[str, str]) -> Response:
        return self.client.refresh(self.cookies[-1] if self.cookies else None, headers=headers)

    def replay(self, headers: dict[str, str]) -> Response:
        return self.client.refresh(self.cookies[-2] if len(self.cookies) > 1 else None, headers=headers)

    def sign_out(self, headers: dict[str, str]) -> Response:
        return self.client.logout(self.cookies[-1] if self.cookies else None, headers=headers)

    def change_password(self, headers: dict[str, str]) -> Response:
        body = {"currentPassword": PASSWORD, "newPassword": PASSWORD}
        return self.client.send("PUT", "/api/me/password", payload=body, bearer=self.bearer, headers=headers)


def live_through(app: Flask, server: Server, people: list[Person], seed: int) -> int:
    """Let all act at once while workers are killed and operators work; return how many workers died."""
    over, killed, dice = Flag(), 0, random.Random(seed)

    def go_on(person: Person) -> None:
        own = random.Random(f"{seed}-{person.number}")
        while not over.is_set():
            person.act(own)

    with ThreadPoolExecutor(len(people)) as pool:
        threads = [pool.submit(go_on, person) for person in people]
        until = monotonic() + SECONDS
        try:
            while monotonic() < until:
                name = f"user-{dice.randrange(len(people))}"
                command = dice.choice(["users disable", "users enable", "sessions revoke --user", "users unlock"])
                run(app, *command.split(), name)
                run(app, "users", "enable", name)
                sleep(0.2)
                workers = server.workers()
                if workers and dice.random() < 0.5:
                    os.kill(dice.choice(workers), signal.SIGKILL)
                    killed += 1
            run(app, "keys", "rotate", "--use", dice.choice(["access", "refresh"]))
        finally:
            over.set()
        for thread in threads:
            thread.result(20)
    return killed


def expected(action: str, reply: Response) -> list[set[tuple[str, str | None]]]:
    """Return what records an answered request may have left, one of these sets."""
    if action == "sign_in" and reply.status == 200:
        return [{("sign_in", None)}, {("sign_in", None), ("session_ended", "replaced")}]
    if reply.status == 401 and reply.json["code"] == "invalid_credentials":
        reasons = ("wrong password", "user disabled", "unknown user", "credentials changed during sign-in")
        return [{("sign_in_failed", reason)} for reason in reasons]
    if action == "change_password" and reply.status == 204:
        return [{("password_changed", None)}, {("password_changed", None), ("session_ended", "password_changed")}]
    if action in {"refresh", "replay"} and reply.status == 403:
        return [set(), {("session_ended", "reuse")}]
    if action == "sign_out" and reply.status == 204:
        return [set(), {("session_ended", "logout")}]
    assert reply.status in {200, 400, 401, 403, 429, 503}, (action, reply.status, reply.body)
    return [set()]


def check_history(people: list[Person], trail: Trail) -> None:
    """Check that every answered request left exactly the records that its answer speaks of."""
    for person in people:
        for request_id, action, reply in person.history:
            left = trail.get(request_id, Counter())
            twice = {kind for kind, number in left.items() if number > 1} - {("session_ended", "password_changed")}
            assert not twice, f"D5: {request_id} left {left}"
            if reply is not None:
                allowed = expected(action, reply)
                assert set(left) in allowed, f"D5: {request_id} was answered {reply.status} and left {left}"
    known = {request_id for person in people for request_id, _, _ in person.history}
    assert set(trail) - known == {None}, "D5: records of requests that nobody made"


def check_tables(app: Flask) -> None:
    """Check that what the tables hold is what the trail tells, to the last row."""
    trail = all_of(app, AuditEvent)
    rows = {row.id: row for row in all_of(app, Session)}
    begun = Counter(event.sid for event in trail if event.kind == "sign_in")
    assert begun == Counter(dict.fromkeys(rows, 1)), "D5: sessions and sign-ins differ"
    ended = Counter((event.sid, event.reason) for event in trail if event.kind == "session_ended")
    assert ended == Counter((row.id, row.revoked_reason) for row in rows.values() if row.revoked_at is not None)
    for user in all_of(app, User):
        mine = sorted((event for event in trail if event.user_id == user.id), key=lambda event: event.at)
        assert Counter(event.kind for event in mine)["user_created"] == 1
        changes = [event.at for event in mine if event.kind == "password_changed"]
        assert user.credentials_changed_at == (changes[-1] if changes else user.created_at)
        switches = [event.kind for event in mine if event.kind in {"user_disabled", "user_enabled"}]
        assert switches == ["user_disabled", "user_enabled"] * (len(switches) // 2), "D5: a switch is missing"
        assert user.disabled_at is None
    keys = all_of(app, SigningKey)
    made = sorted(event.reason or "" for event in trail if event.kind == "key_created")
    assert made == sorted(f"{key.use} {key.kid}" for key in keys)


def test_the_trail_is_the_history_although_workers_are_killed(app: Flask, database_url: str, serve: Servers) -> None:
    for name in ("victim", *(f"user-{number}" for number in range(6))):
        create_user(app, name)
    server = serve(database_url, **STRICT)
    people = [Person(number, server.client) for number in range(6)]
    assert live_through(app, server, people, seed=20261120) >= 3
    trail: Trail = {}
    for event in all_of(app, AuditEvent):
        if event.kind == "key_created" and event.request_id:
            continue  # the first keys are made on the way of whoever comes first
        trail.setdefault(event.request_id, Counter())[event.kind, event.reason] += 1
    check_history(people, trail)
    check_tables(app)
    done = Counter(reply.status if reply else 0 for person in people for _, _, reply in person.history)
    assert done[200] > 50, done
    assert done[0] > 0, "no worker died over a request"
    told = {kind for left in trail.values() for kind, _ in left}
    assert {"sign_in", "sign_in_failed", "session_ended", "password_changed", "user_disabled"} <= told


def test_rotated_damped_and_grace_refreshes_leave_no_record(app: Flask) -> None:
    create_user(app)
    client = app.test_client(use_cookies=False)
    reply = client.post("/api/login", json={"username": "alice", "password": PASSWORD})
    before = kinds(app)
    first = reply.headers["Set-Cookie"].split(";")[0]
    second = client.post("/api/token", headers={"Cookie": first}).headers["Set-Cookie"].split(";")[0]
    for cookie in (second, first):
        again = client.post("/api/token", headers={"Cookie": cookie})
        assert again.headers["Set-Cookie"].split(";")[0] == second
    assert kinds(app) == before == [("sign_in", None)]


@contextmanager
def broken_trail(app: Flask) -> Iterator[None]:
    """Make it impossible to write a record, as a full disk does."""
    with app.app_context():
        db.execute_now(sa.text("ALTER TABLE events RENAME TO events_away"))
        yield
        db.execute_now(sa.text("ALTER TABLE events_away RENAME TO events"))


def test_nothing_happens_that_cannot_be_recorded(app: Flask) -> None:
    create_user(app)
    client = sign_in(app)
    with broken_trail(app):
        assert client.logout().status == 503
        assert app.test_client().post("/api/login", json={"username": "alice", "password": PASSWORD}).status_code == 503
        for command in (["users", "disable", "alice"], ["keys", "rotate"], ["sessions", "revoke", "--user", "alice"]):
            run(app, *command, code=1)
        assert client.refresh().status == 200
    assert len(all_of(app, Session)) == 1
    assert kinds(app) == [("sign_in", None)]
    assert all_of(app, User)[0].disabled_at is None


def test_an_operators_commands_are_told_apart_from_requests(app: Flask) -> None:
    create_user(app)
    sign_in(app)
    run(app, "sessions", "revoke", "--user", "alice")
    (begun,), (ended,) = (run_json(app, "events", "list", "--kind", kind) for kind in ("sign_in", "session_ended"))
    assert (begun["kind"], begun["actor"], begun["ipAddress"]) == ("sign_in", "request", "127.0.0.1")
    assert begun["requestId"]
    assert (ended["kind"], ended["reason"]) == ("session_ended", "operator")
    assert (ended["actor"], ended["ipAddress"], ended["requestId"]) == ("operator", None, None)


def test_the_list_is_filtered_by_user_session_kind_and_age(app: Flask) -> None:
    create_user(app)
    create_user(app, "bob")
    clients = [sign_in(app), sign_in(app), sign_in(app, "bob")]
    sid = clients[0].sid
    clients[0].logout()
    alice = run_json(app, "events", "list", "--user", " ALICE ")
    assert [record["kind"] for record in alice] == ["user_created", "sign_in", "sign_in", "session_ended"]
    assert [record["kind"] for record in run_json(app, "events", "list", "--session", sid)] == [
        "sign_in",
        "session_ended",
    ]
    assert len(run_json(app, "events", "list", "--kind", "sign_in")) == 3
    assert len(run_json(app, "events", "list", "--kind", "sign_in", "--user", "bob")) == 1
    with app.app_context():
        audit.record_alone("sign_in", datetime.now(UTC) - timedelta(hours=30))
    assert len(run_json(app, "events", "list", "--kind", "sign_in")) == 3
    assert len(run_json(app, "events", "list", "--kind", "sign_in", "--since", "31h")) == 4
    assert run_json(app, "events", "list", "--session", "unknown") == []
    assert error_of(run(app, "events", "list", "--user", "nobody", code=1)) == "User not found."
    shown = run(app, "events", "list", "--kind", "sign_in").stdout.splitlines()
    assert shown[0].split("\t")[:3] == ["at", "kind", "reason"]
    assert len(shown) == 4


def test_the_list_goes_on_over_all_pages(app: Flask) -> None:
    now = datetime.now(UTC)
    with app.app_context(), db.writing() as writer:
        for _ in range(2001):
            audit.record(writer, "sign_in_failed", now)
    listed = [record["id"] for record in run_json(app, "events", "list")]
    assert listed == sorted(set(listed))
    assert len(listed) == 2001


def test_a_password_typed_into_the_name_field_is_nowhere_in_the_trail(app: Flask) -> None:
    create_user(app)
    typed = "hunter2 is my whole secret"
    app.test_client().post("/api/login", json={"username": typed, "password": PASSWORD})
    app.test_client().post("/api/login", json={"username": "alice", "password": typed})
    cookie = sign_in(app).cookie
    assert cookie is not None
    trail = run(app, "events", "list", "--json").stdout
    assert trail.count("sign_in_failed") == 2
    assert "unknown user" in trail
    for secret in (typed, "hunter2", PASSWORD, cookie, claims_of(cookie)["jti"]):
        assert secret not in trail


@SQLITE
def test_following_shows_each_record_once_soon_after_it_was_made(app: Flask, database_url: str, tmp_path: Path) -> None:
    create_user(app)
    sign_in(app)
    shown = tmp_path / "shown"
    command = [sys.executable, "-m", "flask", "events", "list", "--follow", "--json", "--kind", "sign_in"]
    with (
        shown.open("wb") as out,
        subprocess.Popen(
            command, cwd=ROOT, env=environment(DATABASE_URL=database_url), stdout=out, stderr=subprocess.PIPE
        ) as process,
    ):
        try:
            wait_until(lambda: len(shown.read_text().splitlines()) == 1, what="what was there before")
            for number in range(2, 5):
                sign_in(app)
                if number == 4:  # dated before the last look, and committed after it
                    with app.app_context():
                        audit.record_alone("sign_in", datetime.now(UTC) - timedelta(seconds=3))
                wanted = number + (number == 4)
                wait_until(lambda wanted=wanted: len(shown.read_text().splitlines()) == wanted, seconds=2.5, what="it")  # type: ignore[misc]  # mypy guesses no lambda's defaults
            sleep(1.2)
            process.send_signal(signal.SIGINT)
            assert process.wait(5) == 130
        finally:
            process.kill()
    ids = [json.loads(line)["id"] for line in shown.read_text().splitlines()]
    assert len(ids) == len(set(ids)) == 5


def test_pruning_deletes_what_is_old_and_counts_that_mean_nothing_any_more(app: Flask) -> None:
    create_user(app)
    now = datetime.now(UTC)
    old = now - timedelta(days=400)
    with app.app_context():
        for moment in (old, now - timedelta(days=300)):
            audit.record_alone("sign_in_failed", moment)
        lockout.count_attempt("password", "old", old)
        lockout.count_attempt("password", "new", now)
        for minutes in (-5, 5):
            row = {"key": str(minutes), "count": 1, "expires_at": now + timedelta(minutes=minutes)}
            db.execute_now(sa.insert(AddressCount).values(row))
    assert run(app, "events", "prune").stdout == "Deleted 1 event.\n"
    assert [event.kind for event in all_of(app, AuditEvent)].count("sign_in_failed") == 1
    assert len(all_of(app, Throttle)) == 1
    assert [row.key for row in all_of(app, AddressCount)] == ["5"]
    assert run(app, "events", "prune", "--older-than", "200d").stdout == "Deleted 1 event.\n"


def test_pruning_goes_on_batch_by_batch(app: Flask) -> None:
    old = datetime.now(UTC) - timedelta(days=400)
    with app.app_context(), db.writing() as writer:
        for _ in range(2 * audit.PRUNE_BATCH + 1):
            audit.record(writer, "sign_in_failed", old)
    assert run(app, "events", "prune").stdout == f"Deleted {2 * audit.PRUNE_BATCH + 1} events.\n"


def test_the_document_lists_the_kinds_of_records() -> None:
    listed = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/audit-log.md").read_text(), re.MULTILINE)
    assert listed == list(get_args(audit.Kind))
