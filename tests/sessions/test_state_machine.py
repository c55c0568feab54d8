"""Promises S1 to S11, S14 and S15 over HTTP, for actions in any order.

The state machine keeps a model of each session: its tokens, the time since its last rotation and the browser of it,
and whether it was revoked. Time passes by ageing rows: all times of a session move back together, by at least two
minutes. An example takes less than that of real time, so a grace period of ten minutes never ends on its own.
"""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar, Final

import psycopg
import pytest
import sqlalchemy as sa
from flask import Flask
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from tests.conftest import Databases
from tests.sessions.session_model import AGES, CHECKED, DAY, GRACE_PERIOD, MINUTE, Login, age, lengthen_waits
from tests.support import client
from tests.support.app import PASSWORD, application, create_user
from tests.support.client import Client, Response
from tests.support.server import Server
from tests.support.sqlite import file_of
from tokenapp import accounts, db, sessions
from tokenapp.models import Session
from tokenapp.throttle.lockout import FREE_FAILURES

REVOCATION_DELAY: Final = 0.05
MAX_SESSIONS: Final = 4
PASSWORDS: Final = st.sampled_from([PASSWORD, "another long password"])
BROWSERS: Final = st.sampled_from(["Firefox", "Chrome", "Safari"])
MEMORY: Final = Path("/dev/shm")  # noqa: S108 -- TemporaryDirectory makes a private folder in it
EXAMPLES: Final = int(os.environ.get("SESSION_EXAMPLES", "20"))  # `make soak` runs more
NUMBERS: Final = count()  # of the examples, each of which has its own users
claims_of = cache(client.claims_of)


class Users(RuleBasedStateMachine):
    """Two users on any number of devices, who open, use and revoke sessions."""

    client: ClassVar[Client]
    app: ClassVar[Flask]

    def __init__(self) -> None:
        super().__init__()
        number = next(NUMBERS)
        self.users = [f"{name}{number}" for name in ("ann", "ben")]
        self.ids = {name: create_user(self.app, name) for name in self.users}
        self.passwords = dict.fromkeys(self.users, PASSWORD)
        self.disabled: set[str] = set()
        self.failures = dict.fromkeys(self.users, 0)
        self.logins: list[Login] = []
        self.refresh_jtis: dict[str, tuple[str, int]] = {}
        self.access_jtis: set[str] = set()

    @rule(user=st.integers(0, 1), data=st.data(), browser=BROWSERS, with_cookie=st.booleans())
    def sign_in(self, user: int, data: st.DataObject, browser: str, *, with_cookie: bool) -> None:
        name = self.users[user]
        former = self._pick(data) if with_cookie and self.logins else None
        cookie = former.tokens[-1] if former else None
        response = self.client.login(name, self.passwords[name], cookie=cookie, headers={"User-Agent": browser})
        if self.failures[name] > FREE_FAILURES:
            assert (response.status, response.json.get("code")) == (429, "too_many_attempts"), "S12"
            return
        if name in self.disabled:
            assert (response.status, response.json.get("code")) == (401, "invalid_credentials"), "S3"
            self.failures[name] += 1
            self._lengthen_waits()
            return
        assert response.status == 200
        self.failures[name] = 0
        if former:
            self._note_revocation(former)
        self._note_tokens(self._opened(name, response, browser), response)
        live = [login for login in self._of(name) if login.revoked_at is None and not login.expired]
        self._note_revocation(*live[:-MAX_SESSIONS])

    @rule(user=st.integers(0, 1))
    def sign_in_with_a_wrong_password(self, user: int) -> None:
        name = self.users[user]
        response = self.client.login(name, "not the password at all")
        assert (response.status, response.cookie) == (429 if self.failures[name] > FREE_FAILURES else 401, None), "S12"
        self.failures[name] = min(self.failures[name] + 1, FREE_FAILURES + 1)
        self._lengthen_waits()

    @precondition(lambda self: self.logins)
    @rule(data=st.data(), browser=BROWSERS)
    def refresh(self, data: st.DataObject, browser: str) -> None:
        login = self._pick(data)
        self._present(login, data.draw(st.sampled_from([*login.tokens[-3:], *login.tokens, *login.lost])), browser)

    @precondition(lambda self: self.logins)
    @rule(data=st.data(), browser=BROWSERS)
    def refresh_with_the_current_token(self, data: st.DataObject, browser: str) -> None:
        login = self._pick(data)
        self._present(login, login.tokens[-1], browser)

    @precondition(lambda self: self.logins)
    @rule(data=st.data(), browser=BROWSERS, correct=st.booleans())
    def reauthenticate(self, data: st.DataObject, browser: str, *, correct: bool) -> None:
        login = self._pick(data)
        body = {"password": self.passwords[login.user] if correct else "not the password at all"}
        response = self._prove(login, "POST", "/api/reauthenticate", body, browser, correct=correct)
        if response is None:
            return
        assert response.status == 200
        self._note_revocation(login)
        self._note_tokens(self._opened(login.user, response, browser), response)

    @precondition(lambda self: self.logins)
    @rule(data=st.data(), browser=BROWSERS, password=PASSWORDS, correct=st.booleans())
    def change_password(self, data: st.DataObject, browser: str, password: str, *, correct: bool) -> None:
        login = self._pick(data)
        current = self.passwords[login.user]
        body = {"currentPassword": current if correct else "not the password at all", "newPassword": password}
        same = correct and password == current
        response = self._prove(login, "PUT", "/api/me/password", body, browser, correct=correct, rejected=same)
        if response is None:
            return
        assert response.status == 204
        self.passwords[login.user] = password
        self.failures[login.user] = 0
        self._note_revocation(*self._of(login.user))
        opened = self._opened(login.user, response, browser)
        self._present(opened, opened.tokens[-1], browser)

    @precondition(lambda self: self.logins)
    @rule(data=st.data())
    def call_the_api(self, data: st.DataObject) -> None:
        login = self._pick(data)
        if login.revoked_at is not None:
            time.sleep(max(0.0, login.revoked_at + REVOCATION_DELAY - time.monotonic()))
        response = self.client.protected(data.draw(st.sampled_from(login.access)))
        if login.revoked_at is not None:
            assert (response.status, response.json.get("code")) == (403, "access_token_invalid"), "S4, S11"
        else:
            assert response.status == 200, "S6"
            assert login.user in response.json["message"], "S7"

    @precondition(lambda self: self.logins)
    @rule(data=st.data(), by_bearer=st.booleans())
    def sign_out(self, data: st.DataObject, *, by_bearer: bool) -> None:
        login = self._pick(data)
        if by_bearer:
            response = self.client.logout(None, bearer=login.access[-1])
        else:
            response = self.client.logout(data.draw(st.sampled_from(login.tokens)))
        assert response.status == 204
        self._note_revocation(login)

    @precondition(lambda self: self.logins)
    @rule(data=st.data())
    def operator_revokes_a_session(self, data: st.DataObject) -> None:
        login = self._pick(data)
        with self.app.app_context():
            sessions.revoke(login.sid, "operator", datetime.now(UTC))
        self._note_revocation(login)

    @rule(user=st.integers(0, 1), password=PASSWORDS)
    def operator_sets_a_password(self, user: int, password: str) -> None:
        name = self.users[user]
        with self.app.app_context():
            accounts.set_password(accounts.find(name), password, datetime.now(UTC))
        self.passwords[name] = password
        self.failures[name] = 0
        self._note_revocation(*self._of(name))

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
                self._note_revocation(*self._of(name))

    @precondition(lambda self: self.logins)
    @rule(data=st.data(), seconds=AGES)
    def time_passes(self, data: st.DataObject, seconds: int) -> None:
        self._age(self._pick(data), seconds)

    @precondition(lambda self: any(len(login.tokens) > 2 and login.revoked_at is None for login in self.logins))
    @rule(data=st.data())
    def backup_is_restored(self, data: st.DataObject) -> None:
        login = data.draw(st.sampled_from([login for login in self.logins if len(login.tokens) > 2]))
        if login.revoked_at is not None or login.rotation_age is None:
            return
        login.lost.append(login.tokens.pop())
        jtis = [claims_of(token)["jti"] for token in login.tokens[-2:]]
        row = {"previous_jti": jtis[0], "current_jti": jtis[1], "generation": len(login.tokens) - 1}
        with self.app.app_context():
            db.execute_now(sa.update(Session).where(Session.id == login.sid).values(row))
        self._present(login, login.lost[-1])

    @invariant()
    def rows_match_the_model(self) -> None:
        with self.app.app_context():
            of_users = sa.select(*CHECKED).where(Session.user_id.in_([*self.ids.values()]))
            rows = {row.id: row for row in db.execute_now(of_users)}
        assert rows.keys() == {login.sid for login in self.logins}
        for login in self.logins:
            row = rows[login.sid]
            assert row.current_jti == claims_of(login.tokens[-1])["jti"], "S1"
            assert row.generation == len(login.tokens) - 1, "S1"
            assert (row.revoked_at is not None) == (login.revoked_at is not None), "S3, S5, S6"
            assert row.last_user_agent == login.browser, "the device list shows the browser of the last rotation"
            assert row.expires_at <= row.ends_at, "S8"
            assert abs(row.ends_at - row.created_at - timedelta(days=30)) < timedelta(seconds=1), "S8"

    @invariant()
    def list_has_exactly_the_live_sessions(self) -> None:
        for name, user_id in self.ids.items():
            with self.app.app_context():
                listed = {row.id for row, _ in sessions.list_sessions(datetime.now(UTC), user_id=user_id)}
            live = {login.sid for login in self._of(name) if login.revoked_at is None and not login.expired}
            assert listed == live, "S10"
            assert len(live) <= MAX_SESSIONS, "S15"

    def _pick(self, data: st.DataObject) -> Login:
        return data.draw(st.sampled_from(self.logins))

    def _of(self, name: str) -> list[Login]:
        return [login for login in self.logins if login.user == name]

    def _opened(self, name: str, response: Response, browser: str) -> Login:
        """Return the model of the session that `response` opened."""
        assert response.cookie, "S14: a new session has a refresh token"
        login = Login(name, claims_of(response.cookie)["sid"], [response.cookie], browser)
        assert login.sid not in {other.sid for other in self.logins}, "S9, S14"
        self.logins.append(login)
        return login

    def _prove(
        self,
        login: Login,
        method: str,
        path: str,
        body: dict[str, str],
        browser: str,
        *,
        correct: bool,
        rejected: bool = False,
    ) -> Response | None:
        """Send a password inside a session; return the response of a success."""
        headers = {"User-Agent": browser}
        response = self.client.send(method, path, payload=body, bearer=login.access[-1], headers=headers)
        if login.revoked_at is not None or login.expired:
            expected = (403, "access_token_invalid")
        elif login.failures > FREE_FAILURES:
            expected = (429, "too_many_attempts")
        elif not correct:
            login.failures += 1
            self._lengthen_waits()
            expected = (401, "invalid_credentials")
        else:
            login.failures = 0
            if not rejected:
                return response
            expected = (400, "password_rejected")
        assert (response.status, response.json.get("code")) == expected, "S4, S14"
        assert response.cookie is None
        return None

    def _present(self, login: Login, token: str, browser: str = "Firefox") -> None:
        outcome = login.outcome(token)
        response = self.client.refresh(token, headers={"User-Agent": browser})
        if outcome == "rotated":
            login.browser = browser
        if outcome in {"rotated", "damped", "grace"}:
            assert response.status == 200, f"S6: {outcome} was rejected with {response.body!r}"
            self._note_success(login, outcome, response)
            return
        code = "refresh_token_expired" if outcome == "expired" else "refresh_token_revoked"
        assert (response.status, response.json.get("code")) == (403, code), (
            f"S2, S3, S5, S8: {outcome} got {response.status}"
        )
        assert response.all("Set-Cookie") == []
        if outcome == "reuse":
            self._note_revocation(login)

    def _note_success(self, login: Login, outcome: str, response: Response) -> None:
        assert response.cookie is not None
        claims = claims_of(response.cookie)
        assert claims["sid"] == login.sid, "S7"
        if outcome == "rotated":
            assert claims["jti"] not in self.refresh_jtis, "S9"
            login.tokens.append(response.cookie)
            login.rotation_age = login.idle = 0
        else:
            assert claims["jti"] == claims_of(login.tokens[-1])["jti"], "S1"
        self._note_tokens(login, response)

    def _note_tokens(self, login: Login, response: Response) -> None:
        refresh, access = claims_of(response.cookie or ""), claims_of(response.json["accessToken"])
        place = (login.sid, len(login.tokens) - 1)
        assert self.refresh_jtis.setdefault(refresh["jti"], place) == place, "S9"
        assert access["jti"] not in self.access_jtis, "S9"
        assert (access["sub"], refresh["sub"]) == (self.ids[login.user],) * 2, "S7"
        assert access["exp"] <= int(time.time()) + 30 * DAY - login.age + 1, "S8"
        self.access_jtis.add(access["jti"])
        login.access.append(response.json["accessToken"])

    def _note_revocation(self, *revoked: Login) -> None:
        for login in revoked:
            if login.revoked_at is None:
                login.revoked_at = time.monotonic()

    def _lengthen_waits(self) -> None:
        with self.app.app_context():
            lengthen_waits()

    def _age(self, login: Login, seconds: int) -> None:
        with self.app.app_context():
            age(login.sid, seconds)
        login.age += seconds
        login.idle += seconds
        if login.rotation_age is not None:
            login.rotation_age += seconds


class PersistentUsers(Users):
    """The same users, who also repeat one action several times."""

    @precondition(lambda self: self.logins)
    @rule(data=st.data(), pause=st.sampled_from([2 * MINUTE, 8 * MINUTE]))
    def present_the_same_token_repeatedly(self, data: st.DataObject, pause: int) -> None:
        login = self._pick(data)
        token = data.draw(st.sampled_from(login.tokens))
        for _ in range(4):
            self._present(login, token)
            self._age(login, pause)

    @precondition(lambda self: self.logins)
    @rule(data=st.data())
    def rotate_repeatedly(self, data: st.DataObject) -> None:
        login = self._pick(data)
        for _ in range(3):
            self._present(login, login.tokens[-1])
            self._age(login, GRACE_PERIOD)

    @precondition(lambda self: self.logins)
    @rule(data=st.data())
    def refresh_until_past_the_absolute_limit(self, data: st.DataObject) -> None:
        login = self._pick(data)
        for _ in range(6):
            self._present(login, login.tokens[-1])
            self._age(login, 6 * DAY)
        self._present(login, login.tokens[-1])


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def stage(
    request: pytest.FixtureRequest, databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Start the service on a database of each kind; operators act in this process.

    The databases do not wait for the disk, which would take most of the time and changes no outcome.
    """
    url = databases(request.param)
    service = {
        "TOKENAPP_REVOCATION_DELAY": str(REVOCATION_DELAY),
        "TOKENAPP_REFRESH_GRACE": f"{GRACE_PERIOD}s",
        "TOKENAPP_MAX_SESSIONS": str(MAX_SESSIONS),
    }
    log = tmp_path_factory.mktemp("state_machine") / "server.log"
    with ExitStack() as stack:
        if request.param == "sqlite" and MEMORY.is_dir():
            folder = stack.enter_context(TemporaryDirectory(dir=MEMORY))
            url = f"sqlite:///{shutil.copy(file_of(url), folder)}"
        elif request.param == "postgresql":
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(f"ALTER DATABASE {connection.info.dbname} SET synchronous_commit = off")
        app = stack.enter_context(application(url))
        server = stack.enter_context(Server(url, service, log=log))
        Users.client, Users.app = server.client, app
        yield


@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("stage")
@pytest.mark.parametrize("machine", [Users, PersistentUsers])
def test_no_order_of_events_breaks_a_promise(machine: type[Users]) -> None:
    profile = settings(max_examples=EXAMPLES, stateful_step_count=30, deadline=None, database=None)
    run_state_machine_as_test(machine, settings=settings(profile, suppress_health_check=list(HealthCheck)))
