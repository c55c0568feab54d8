"""Promises S1-S10 over HTTP: a machine does what people, thieves, operators and time may do, in any order.

The machine keeps a model of each session: the tokens issued in it, how long ago it rotated, whether it ended and why.
Time passes by ageing rows: all times of a session move back together, in steps of a minute. An example takes less than
a minute of real time, so a window of ten minutes never closes by itself.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest
import sqlalchemy as sa
from flask import Flask
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from jwt import decode

from tests.conftest import Servers
from tests.support.app import PASSWORD, create_user, make_app
from tests.support.client import Client, Response
from tokenapp import accounts, sessions
from tokenapp.db import db, execute_now, reading
from tokenapp.models import Session
from tokenapp.throttle.lockout import FREE_FAILURES

WINDOW = 600
DELAY = 0.05
MINUTE, HOUR, DAY = 60, 3600, 86400
TIMES = ("created_at", "authenticated_at", "rotated_at", "expires_at", "ends_at")
AGES = st.sampled_from([MINUTE, 9 * MINUTE, WINDOW, HOUR, 2 * DAY, 6 * DAY, 8 * DAY, 31 * DAY])


@dataclass
class Login:
    """The model of one session; `tokens` are the refresh cookies in the order of their issue."""

    user: str
    sid: str
    tokens: list[str]
    lost: list[str] = field(default_factory=list)
    access: list[str] = field(default_factory=list)
    rested: int | None = None
    idle: int = 0
    age: int = 0
    ended_at: float | None = None

    @property
    def expired(self) -> bool:
        """Whether the idle or the absolute limit has passed."""
        return self.idle >= 7 * DAY or self.age >= 30 * DAY

    def verdict(self, token: str) -> str:
        """Tell what the contract says that presenting `token` leads to."""
        recent = self.rested is not None and self.rested < WINDOW
        if self.ended_at is not None:
            return "revoked"
        if self.expired:
            return "expired"
        if token == self.tokens[-1]:
            return "damped" if recent else "rotated"
        if token in self.tokens[-2:] and recent:
            return "grace"
        return "ahead" if token in self.lost else "reuse"


def claims_of(token: str) -> dict[str, Any]:
    return decode(token, options={"verify_signature": False})


class People(RuleBasedStateMachine):
    """Two users on any number of devices, with every way to begin, go on and end."""

    client: ClassVar[Client]
    app: ClassVar[Flask]
    round: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).round += 1
        self.users = [f"{name}{self.round}" for name in ("ann", "ben")]
        self.ids = {name: create_user(self.app, name) for name in self.users}
        self.passwords = dict.fromkeys(self.users, PASSWORD)
        self.disabled: set[str] = set()
        self.failures = dict.fromkeys(self.users, 0)
        self.logins: list[Login] = []
        self.jtis: dict[str, tuple[str, int]] = {}
        self.access_jtis: set[str] = set()

    @rule(user=st.integers(0, 1), data=st.data(), with_cookie=st.booleans())
    def sign_in(self, user: int, data: st.DataObject, *, with_cookie: bool) -> None:
        name = self.users[user]
        former = self._pick(data) if with_cookie and self.logins else None
        reply = self.client.login(name, self.passwords[name], cookie=former.tokens[-1] if former else None)
        if self.failures[name] > FREE_FAILURES:
            assert (reply.status, reply.json.get("code")) == (429, "too_many_attempts"), "S12"
            return
        if name in self.disabled:
            assert (reply.status, reply.json.get("code")) == (401, "invalid_credentials"), "S3"
            self.failures[name] += 1
            return
        assert reply.status == 200
        self.failures[name] = 0
        login = Login(name, claims_of(reply.json["accessToken"])["sid"], [reply.cookie or ""])
        assert login.sid not in {other.sid for other in self.logins}, "S9"
        self._note_tokens(login, reply)
        self.logins.append(login)
        if former:
            self._note_end(former)

    @rule(user=st.integers(0, 1))
    def sign_in_with_a_wrong_password(self, user: int) -> None:
        name = self.users[user]
        reply = self.client.login(name, "not the password at all")
        assert (reply.status, reply.cookie) == (429 if self.failures[name] > FREE_FAILURES else 401, None), "S12"
        self.failures[name] = min(self.failures[name] + 1, FREE_FAILURES + 1)

    @precondition(lambda self: self.logins)
    @rule(data=st.data())
    def refresh(self, data: st.DataObject) -> None:
        login = self._pick(data)
        self._present(login, data.draw(st.sampled_from([*login.tokens[-3:], *login.tokens, *login.lost])))

    @precondition(lambda self: self.logins)
    @rule(data=st.data())
    def refresh_with_the_newest(self, data: st.DataObject) -> None:
        login = self._pick(data)
        self._present(login, login.tokens[-1])

    @precondition(lambda self: self.logins)
    @rule(data=st.data())
    def call_the_api(self, data: st.DataObject) -> None:
        login = self._pick(data)
        if login.ended_at is not None:
            time.sleep(max(0.0, login.ended_at + DELAY - time.monotonic()))
        reply = self.client.protected(data.draw(st.sampled_from(login.access)))
        if login.ended_at is not None:
            assert (reply.status, reply.json.get("code")) == (403, "access_token_invalid"), "S4, S11"
        else:
            assert reply.status == 200, "S6"
            assert login.user in reply.json["message"], "S7"

    @precondition(lambda self: self.logins)
    @rule(data=st.data(), by_bearer=st.booleans())
    def sign_out(self, data: st.DataObject, *, by_bearer: bool) -> None:
        login = self._pick(data)
        if by_bearer:
            reply = self.client.logout(bearer=login.access[-1])
        else:
            reply = self.client.logout(data.draw(st.sampled_from(login.tokens)))
        assert reply.status == 204
        self._note_end(login)

    @precondition(lambda self: self.logins)
    @rule(data=st.data())
    def operator_ends_a_session(self, data: st.DataObject) -> None:
        login = self._pick(data)
        with self.app.app_context():
            sessions.revoke(login.sid, "operator", datetime.now(UTC))
        self._note_end(login)

    @rule(user=st.integers(0, 1), password=st.sampled_from([PASSWORD, "another long password"]))
    def operator_sets_a_password(self, user: int, password: str) -> None:
        name = self.users[user]
        with self.app.app_context():
            accounts.set_password(accounts.find(name), password, datetime.now(UTC))
        self.passwords[name] = password
        self.failures[name] = 0
        self._note_end(*self._of(name))

    @rule(user=st.integers(0, 1))
    def operator_disables_or_enables(self, user: int) -> None:
        name = self.users[user]
        with self.app.app_context():
            if name in self.disabled:
                accounts.enable(accounts.find(name), datetime.now(UTC))
                self.disabled.remove(name)
            else:
                accounts.disable(accounts.find(name), datetime.now(UTC))
                self.disabled.add(name)
                self._note_end(*self._of(name))

    @precondition(lambda self: self.logins)
    @rule(data=st.data(), seconds=AGES)
    def time_passes(self, data: st.DataObject, seconds: int) -> None:
        self._age(self._pick(data), seconds)

    @precondition(lambda self: any(len(login.tokens) > 2 and login.ended_at is None for login in self.logins))
    @rule(data=st.data())
    def a_backup_is_restored(self, data: st.DataObject) -> None:
        login = data.draw(st.sampled_from([login for login in self.logins if len(login.tokens) > 2]))
        if login.ended_at is not None or login.rested is None:
            return
        login.lost.append(login.tokens.pop())
        jtis = [claims_of(token)["jti"] for token in login.tokens[-2:]]
        row = {"previous_jti": jtis[0], "current_jti": jtis[1], "generation": len(login.tokens) - 1}
        with self.app.app_context():
            execute_now(sa.update(Session).where(Session.id == login.sid).values(row))
        self._present(login, login.lost[-1])

    @invariant()
    def the_table_says_what_the_model_says(self) -> None:
        with self.app.app_context(), reading() as session:
            ids = [login.sid for login in self.logins]
            rows = {row.id: row for row in session.scalars(sa.select(Session).where(Session.id.in_(ids)))}
        for login in self.logins:
            row = rows[login.sid]
            assert row.current_jti == claims_of(login.tokens[-1])["jti"], "S1"
            assert row.generation == len(login.tokens) - 1, "S1"
            assert (row.revoked_at is not None) == (login.ended_at is not None), "S3, S5, S6"
            assert row.expires_at <= row.ends_at, "S8"
            assert abs(row.ends_at - row.created_at - timedelta(days=30)) < timedelta(seconds=1), "S8"

    @invariant()
    def the_list_shows_the_live_sessions_and_no_other(self) -> None:
        for name, user_id in self.ids.items():
            with self.app.app_context():
                listed = {row.id for row, _ in sessions.list_sessions(datetime.now(UTC), user_id=user_id)}
            live = {login.sid for login in self._of(name) if login.ended_at is None and not login.expired}
            assert listed == live, "S10"

    def _pick(self, data: st.DataObject) -> Login:
        return data.draw(st.sampled_from(self.logins))

    def _of(self, name: str) -> list[Login]:
        return [login for login in self.logins if login.user == name]

    def _present(self, login: Login, token: str) -> None:
        verdict = login.verdict(token)
        reply = self.client.refresh(token)
        if verdict in {"rotated", "damped", "grace"}:
            assert reply.status == 200, f"S6: {verdict} was refused with {reply.body!r}"
            self._note_success(login, verdict, reply)
            return
        code = "refresh_token_expired" if verdict == "expired" else "refresh_token_revoked"
        assert (reply.status, reply.json.get("code")) == (403, code), f"S2, S3, S5, S8: {verdict} got {reply.status}"
        assert reply.all("Set-Cookie") == []
        if verdict == "reuse":
            self._note_end(login)

    def _note_success(self, login: Login, verdict: str, reply: Response) -> None:
        assert reply.cookie is not None
        claims = claims_of(reply.cookie)
        assert claims["sid"] == login.sid, "S7"
        if verdict == "rotated":
            assert claims["jti"] not in self.jtis, "S9"
            login.tokens.append(reply.cookie)
            login.rested = login.idle = 0
        else:
            assert claims["jti"] == claims_of(login.tokens[-1])["jti"], "S1"
        self._note_tokens(login, reply)

    def _note_tokens(self, login: Login, reply: Response) -> None:
        refresh, access = claims_of(reply.cookie or ""), claims_of(reply.json["accessToken"])
        place = (login.sid, len(login.tokens) - 1)
        assert self.jtis.setdefault(refresh["jti"], place) == place, "S9"
        assert access["jti"] not in self.access_jtis, "S9"
        assert (access["sub"], refresh["sub"]) == (self.ids[login.user],) * 2, "S7"
        assert access["exp"] <= int(time.time()) + 30 * DAY - login.age + 1, "S8"
        self.access_jtis.add(access["jti"])
        login.access.append(reply.json["accessToken"])

    def _note_end(self, *ended: Login) -> None:
        for login in ended:
            if login.ended_at is None:
                login.ended_at = time.monotonic()

    def _age(self, login: Login, seconds: int) -> None:
        with self.app.app_context(), reading() as session:
            row = session.get_one(Session, login.sid)
            shift = timedelta(seconds=seconds)
            times = {name: getattr(row, name) - shift for name in TIMES if getattr(row, name) is not None}
            execute_now(sa.update(Session).where(Session.id == login.sid).values(times))
        login.age += seconds
        login.idle += seconds
        if login.rested is not None:
            login.rested += seconds


class Stubborn(People):
    """The same people, and two who do one thing on and on."""

    @precondition(lambda self: self.logins)
    @rule(data=st.data(), pause=st.sampled_from([MINUTE, 9 * MINUTE]))
    def nag_with_the_same_old_token(self, data: st.DataObject, pause: int) -> None:
        login = self._pick(data)
        token = data.draw(st.sampled_from(login.tokens))
        for _ in range(4):
            self._present(login, token)
            self._age(login, pause)

    @precondition(lambda self: self.logins)
    @rule(data=st.data())
    def rotate_on_and_on(self, data: st.DataObject) -> None:
        login = self._pick(data)
        for _ in range(3):
            self._present(login, login.tokens[-1])
            self._age(login, WINDOW)

    @precondition(lambda self: self.logins)
    @rule(data=st.data())
    def keep_alive_until_past_the_absolute_end(self, data: st.DataObject) -> None:
        login = self._pick(data)
        for _ in range(6):
            self._present(login, login.tokens[-1])
            self._age(login, 6 * DAY)
        self._present(login, login.tokens[-1])


@pytest.fixture
def stage(database_url: str, serve: Servers) -> Iterator[None]:
    """Put the service, and an operator's process beside it, on a new database."""
    delay, window = f"{DELAY}", f"{WINDOW}s"
    People.client = serve(database_url, TOKENAPP_REVOCATION_DELAY=delay, TOKENAPP_REFRESH_GRACE=window).client
    People.app = make_app(database_url)
    yield
    with People.app.app_context():
        db.engine.dispose()


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("stage")
@pytest.mark.parametrize("machine", [People, Stubborn])
def test_no_order_of_events_breaks_a_promise(machine: type[People]) -> None:
    profile = settings(
        max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    run_state_machine_as_test(machine, settings=profile)
