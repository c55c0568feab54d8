"""Exactly one audit event for each change, although workers are killed (D5)."""

import os
import random
import signal
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPException
from threading import Event
from time import sleep

from flask import Flask

from tests.audit.events import rows_of
from tests.conftest import Servers
from tests.support.app import PASSWORD
from tests.support.client import Client, Response
from tests.support.commandline import create_user, run
from tests.support.server import Server
from tokenapp.models import AuditEvent, Session, SigningKey, User

STRICT = {
    "WEB_CONCURRENCY": "3",
    "TOKENAPP_REFRESH_GRACE": "0",
    "TOKENAPP_ADDRESS_FAILURES": "10000",
    "TOKENAPP_REVOCATION_DELAY": "0.2",
    "TOKENAPP_MAX_SESSIONS": "1000",
}
USERS = 6
# The run ends when each of these has happened, and at least so many workers have died and requests have succeeded.
CHANGES = {("sign_in", 200), ("sign_out", 204), ("change_password", 204), ("replay", 403), ("mistake", 401)}
COMMANDS = ("users disable", "users enable", "sessions revoke --user", "users unlock")
KILLS, SUCCESSES = 3, 60
Happened = tuple[str, str | None]
Log = dict[str | None, Counter[Happened]]


@dataclass
class RandomUser:
    """A user who sends random requests.

    `history` has the action and response of each. There is no response if the worker was killed.
    """

    number: int
    client: Client
    history: list[tuple[str, Response | None]] = field(default_factory=list)
    cookies: list[str] = field(default_factory=list)
    bearer: str | None = None
    password: str = PASSWORD
    other_password: str = f"{PASSWORD} again"

    @property
    def name(self) -> str:
        return f"user-{self.number}"

    def act(self, dice: random.Random) -> None:
        """Send one request."""
        actions: list[Callable[[], Response]] = [self.sign_in, self.refresh, self.refresh, self.sign_out]
        actions += [self.change_password, self.replay] if dice.random() < 0.3 else [self.refresh]
        actions += [self.mistake] if dice.random() < 0.1 else []
        action = dice.choice(actions)
        try:
            response = action()
        except (OSError, HTTPException):
            self.history.append((action.__name__, None))  # a worker was killed: the outcome is unknown
            return
        self.history.append((action.__name__, response))
        if response.cookie:
            self.cookies.append(response.cookie)
        if response.status == 200:
            self.bearer = response.json["accessToken"]

    def sign_in(self) -> Response:
        cookie = self.cookies[-1] if self.cookies and self.number % 2 else None
        response = self.client.login(self.name, self.password, cookie=cookie)
        if response.status == 401:  # the password may have been changed by a request without a response
            self._swap_passwords()
        return response

    def mistake(self) -> Response:
        return self.client.login("victim", "not the password at all")

    def refresh(self) -> Response:
        return self.client.refresh(self.cookies[-1] if self.cookies else None)

    def replay(self) -> Response:
        return self.client.refresh(self.cookies[-2] if len(self.cookies) > 1 else None)

    def sign_out(self) -> Response:
        return self.client.logout(self.cookies[-1] if self.cookies else None)

    def change_password(self) -> Response:
        body = {"currentPassword": self.password, "newPassword": self.other_password}
        response = self.client.send("PUT", "/api/me/password", payload=body, bearer=self.bearer)
        if response.status == 204:
            self._swap_passwords()
        return response

    def _swap_passwords(self) -> None:
        self.password, self.other_password = self.other_password, self.password


def run_at_random(app: Flask, server: Server, users: list[RandomUser], seed: int) -> None:
    """Let all users act until enough has happened.

    At the same time, workers are killed, and operators run commands.
    """
    over, dice, kills = Event(), random.Random(seed), 0
    commands: set[str] = set()

    def act_until_over(user: RandomUser) -> None:
        own = random.Random(f"{seed}-{user.number}")
        while not over.is_set():
            user.act(own)

    with ThreadPoolExecutor(len(users)) as pool:
        threads = [pool.submit(act_until_over, user) for user in users]
        try:
            while kills < KILLS or commands < {*COMMANDS} or not is_enough(users):
                assert kills < 100, "not enough happened"
                name = f"user-{dice.randrange(len(users))}"
                command = dice.choice(COMMANDS)
                commands.add(command)
                run(app, *command.split(), name)
                run(app, "users", "enable", name)
                sleep(0.2)
                workers = server.workers()
                if workers and dice.random() < 0.5:
                    os.kill(dice.choice(workers), signal.SIGKILL)
                    kills += 1
            run(app, "keys", "rotate", "--use", dice.choice(["access", "refresh"]))
        finally:
            over.set()
        for thread in threads:
            thread.result(60)


def is_enough(users: list[RandomUser]) -> bool:
    """Return whether everything happened that the checks need."""
    done = Counter(
        (action, response.status if response else None) for user in users for action, response in [*user.history]
    )
    statuses = Counter(status for (_, status), count in done.items() for _ in range(count))
    return done.keys() >= CHANGES and statuses[200] >= SUCCESSES and statuses[None] > 0


def expected(action: str, response: Response) -> list[set[Happened]]:
    """Return the sets of audit events that a request with this response may have."""
    if action == "sign_in" and response.status == 200:
        return [{("sign_in", None)}, {("sign_in", None), ("session_ended", "replaced")}]
    if response.status == 401 and response.code == "invalid_credentials":
        reasons = ("wrong password", "user disabled", "unknown user", "credentials changed during sign-in")
        # From the fifth failure on there is one event an hour, which has the id of the last request.
        failures: list[set[Happened]] = [{("sign_in_failed", reason)} for reason in reasons]
        return [set(), *failures]
    if action == "change_password" and response.status == 204:
        return [{("password_changed", None), ("session_ended", "password_changed")}]
    if action in {"refresh", "replay"} and response.status == 403:
        return [set(), {("session_ended", "reuse")}]
    if action == "sign_out" and response.status == 204:
        return [set(), {("session_ended", "logout")}]
    assert response.status in {200, 400, 401, 403, 429, 503}, (action, response.status, response.body)
    return [set()]


def check_requests(users: list[RandomUser], log: Log) -> None:
    """Check that the events of each request are those that its response implies."""
    history = [request for user in users for request in user.history]
    known: set[str | None] = {None}
    for action, response in history:
        if response is not None:
            request_id = response.header("X-Request-ID")
            known.add(request_id)
            events = log.get(request_id, Counter())
            assert set(events) in expected(action, response), f"D5: {action} has {response.status} and {events}"
    for request_id, events in log.items():
        twice = {kind for kind, number in events.items() if number > 1} - {("session_ended", "password_changed")}
        assert request_id is None or not twice, f"D5: {request_id} has {events}"
    without_response = sum(response is None for _, response in history)
    assert len(log.keys() - known) <= without_response, "D5: there are events of unknown requests"


def check_failures(app: Flask, users: list[RandomUser]) -> None:
    """Check that every failed sign-in is counted in the audit log."""
    responses = [response for user in users for _, response in user.history]
    failed = sum(
        response is not None and response.status == 401 and response.code == "invalid_credentials"
        for response in responses
    )
    unknown = sum(response is None or response.status == 503 for response in responses)
    counted = sum(event.count for event in rows_of(app, AuditEvent) if event.kind == "sign_in_failed")
    assert failed <= counted <= failed + unknown, "D5: failed sign-ins are missing or counted twice"


def check_tables(app: Flask) -> None:
    """Check that the tables agree with the audit log, row by row."""
    events = rows_of(app, AuditEvent)
    rows = {row.id: row for row in rows_of(app, Session)}
    opened = Counter(event.sid for event in events if event.kind in {"sign_in", "password_changed"})
    assert opened == Counter(dict.fromkeys(rows, 1)), "D5: sessions and their first events differ"
    revoked = Counter((event.sid, event.reason) for event in events if event.kind == "session_ended")
    assert revoked == Counter((row.id, row.revoked_reason) for row in rows.values() if row.revoked_at is not None)
    for user in rows_of(app, User):
        own = sorted((event for event in events if event.user_id == user.id), key=lambda event: event.at)
        assert Counter(event.kind for event in own)["user_created"] == 1
        changes = [event.at for event in own if event.kind == "password_changed"]
        assert user.credentials_changed_at == (changes[-1] if changes else user.created_at)
        switches = [event.kind for event in own if event.kind in {"user_disabled", "user_enabled"}]
        assert switches == ["user_disabled", "user_enabled"] * (len(switches) // 2), "D5: an event is missing"
        assert user.disabled_at is None
    keys = rows_of(app, SigningKey)
    created = sorted(event.reason or "" for event in events if event.kind == "key_created")
    assert created == sorted(f"{key.use} {key.kid}" for key in keys)


def test_audit_log_is_the_history_although_workers_are_killed(app: Flask, database_url: str, serve: Servers) -> None:
    for name in ("victim", *(f"user-{number}" for number in range(USERS))):
        create_user(app, name)
    server = serve(database_url, **STRICT)
    users = [RandomUser(number, server.client) for number in range(USERS)]
    run_at_random(app, server, users, seed=20261120)
    log: Log = {}
    for event in rows_of(app, AuditEvent):
        if event.kind == "key_created" and event.request_id:
            continue  # the first request creates the first keys
        log.setdefault(event.request_id, Counter())[event.kind, event.reason] += 1
    check_requests(users, log)
    check_failures(app, users)
    check_tables(app)
    recorded = {kind for events in log.values() for kind, _ in events}
    assert {"sign_in", "sign_in_failed", "session_ended", "password_changed", "user_disabled"} <= recorded
