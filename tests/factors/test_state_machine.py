"""Promise F7 over HTTP, for changes of factors in any order.

The model of a user has the password or none, the authenticator apps, the unused recovery codes, the passkeys, and the
sessions.
At the end of each example the owner signs in with what the model says is left.
"""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from typing import ClassVar, Final

import pytest
import sqlalchemy as sa
from flask import Flask
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from tests.conftest import Databases
from tests.support.app import PASSWORD, application, create_user
from tests.support.authenticator import Authenticator, confirm, pending_of, second_step
from tests.support.client import Client, Response, claims_of
from tests.support.security_keys import Authenticator as SecurityKey
from tests.support.security_keys import sign_in_with
from tokenapp import accounts, db, one_time_tokens
from tokenapp.factor_models import Totp
from tokenapp.models import User

EXAMPLES: Final = int(os.environ.get("FACTOR_EXAMPLES", "10"))
NUMBERS: Final = count()  # of the examples, each of which has its own user
LONG, SHORT = "another long password", "vK9#xq!L"
MOST_SESSIONS: Final = 5
MOST_APPS: Final = 2


class Person(RuleBasedStateMachine):
    """A user with up to two authenticator apps and two passkeys."""

    app: ClassVar[Flask]

    def __init__(self) -> None:
        super().__init__()
        self.name = f"person{next(NUMBERS)}"
        self.address = f"{self.name}@example.com"
        self.id = create_user(self.app, self.name, email=self.address)
        self.password: str | None = PASSWORD
        self.apps: list[Authenticator] = []
        self.keys: dict[str, SecurityKey] = {}
        self.codes: list[str] = []
        self.started: Authenticator | None = None
        self.sessions: list[Client] = []
        self._sign_in()

    @rule()
    @precondition(lambda self: len(self.sessions) < MOST_SESSIONS)
    def sign_in(self) -> None:
        self._sign_in()

    @rule(data=st.data())
    @precondition(lambda self: self.apps)
    def add_the_app_to_a_session(self, data: st.DataObject) -> None:
        self._forget_used_codes()
        client = self._session(data)
        payload = {"method": "totp", "code": self.apps[0].code()}
        assert client.call("POST", "/api/reauthenticate", payload=payload).status == 200, "F7"
        assert client.token is not None
        assert claims_of(client.token)["acr"] == "2"

    @rule(data=st.data())
    @precondition(lambda self: len(self.apps) < MOST_APPS)
    def start_an_app(self, data: st.DataObject) -> None:
        client = self._session(data)
        response = client.call("POST", "/api/me/factors/totp")
        if self._is_allowed(client, response):
            assert response.status == 200
            self.started = Authenticator(response.json["secret"], response.json["id"])

    @rule(data=st.data(), wrong=st.booleans())
    @precondition(lambda self: self.started is not None and len(self.apps) < MOST_APPS)
    def confirm_the_app(self, data: st.DataObject, *, wrong: bool) -> None:
        assert self.started is not None
        client = self._session(data)
        response = confirm(client, self.started.id, self.started.wrong if wrong else self.started.code())
        if not self._is_allowed(client, response):
            return
        assert response.status == (401 if wrong else 200), response.body
        if not wrong:
            self._note_first(response)
            self.apps.append(self.started)
            self.started = None

    @rule(data=st.data())
    @precondition(lambda self: self.apps)
    def remove_an_app(self, data: st.DataObject) -> None:
        client, authenticator = self._session(data), data.draw(st.sampled_from(self.apps))
        response = client.call("DELETE", f"/api/me/factors/{authenticator.id}")
        if self._is_removed(client, response, self._is_last):
            self.apps.remove(authenticator)
            self._note_last()

    @rule(data=st.data())
    @precondition(lambda self: len(self.keys) < 2)
    def add_a_passkey(self, data: st.DataObject) -> None:
        client, key = self._session(data), SecurityKey()
        options = client.call("POST", "/api/me/passkeys/options")
        if not self._is_allowed(client, options):
            return
        payload = {"credential": key.create(options.json), "name": "A phone"}
        added = client.call("POST", "/api/me/passkeys", payload=payload)
        assert added.status == 200, added.body
        self._note_first(added)
        self.keys[added.json["passkey"]["id"]] = key

    @rule(data=st.data())
    @precondition(lambda self: self.keys)
    def delete_a_passkey(self, data: st.DataObject) -> None:
        client, passkey_id = self._session(data), data.draw(st.sampled_from(sorted(self.keys)))
        response = client.call("DELETE", f"/api/me/passkeys/{passkey_id}")
        # Without a password, two must be left, or one and recovery codes.
        left = len(self.keys) - 1
        kept = self._is_last or (self.password is None and (left == 0 or (left == 1 and not self.codes)))
        if self._is_removed(client, response, kept):
            del self.keys[passkey_id]
            self._note_last()

    @rule(data=st.data())
    def replace_the_recovery_codes(self, data: st.DataObject) -> None:
        client = self._session(data)
        response = client.call("POST", "/api/me/recovery-codes")
        if not self._is_allowed(client, response):
            return
        assert response.status == (200 if self._has_factor else 404), response.body
        if self._has_factor:
            self.codes = response.json["recoveryCodes"]

    @rule(data=st.data(), new=st.sampled_from([PASSWORD, LONG, SHORT]))
    @precondition(lambda self: self.password)
    def change_the_password(self, data: st.DataObject, new: str) -> None:
        client = self._session(data)
        payload = {"currentPassword": self.password, "newPassword": new}
        response = client.call("PUT", "/api/me/password", payload=payload)
        if not self._is_allowed(client, response):
            return
        if new == self.password or (new == SHORT and not self._has_factor):
            assert response.code == "password_rejected"
            return
        assert response.status == 204, response.body
        self.password = new
        assert client.refresh().status == 200
        self.sessions = [client]

    @rule(new=st.sampled_from([PASSWORD, LONG, SHORT]))
    def reset_the_password_by_mail(self, new: str) -> None:
        """Use a link that was mailed; it changes no factor."""
        binding = one_time_tokens.Binding("reset", self.address, self.address, self.id, None)
        with self.app.app_context(), db.writing() as writer:
            token = one_time_tokens.issue(writer, binding, datetime.now(UTC))
        payload = {"token": token, "newPassword": new}
        response = Client(self.app).send("POST", "/api/password-reset/complete", payload=payload)
        if new == SHORT and not self._has_factor:
            assert response.code == "password_rejected"
            return
        assert response.status == 204, response.body
        self.password = new
        self._expect_no_session()

    @rule()
    @precondition(lambda self: self.keys and self.password)
    def lose_the_password(self) -> None:
        """Undo a change of the address, after which the password does not work."""
        with self.app.app_context(), db.writing() as writer:
            accounts.remove_password(writer, writer.get_one(User, self.id), datetime.now(UTC))
        assert self.password is not None
        assert Client(self.app).login(self.name, self.password).code == "invalid_credentials"
        self.password = None
        self._expect_no_session()

    @rule()
    @precondition(lambda self: self.codes and self.password)
    def lose_the_devices(self) -> None:
        """Sign in with a recovery code, and remove the lost apps."""
        assert self.password is not None
        client = Client(self.app)
        pending = pending_of(self.app, self.name, self.password)
        assert second_step(client, pending, self.codes.pop(), "recovery_code").status == 200, "F7"
        for authenticator in list(self.apps):
            if self._is_removed(client, client.call("DELETE", f"/api/me/factors/{authenticator.id}"), self._is_last):
                self.apps.remove(authenticator)
                self._note_last()
        self.sessions = [client, *self.sessions][:MOST_SESSIONS]

    @invariant()
    def stored_level_is_that_of_the_factors(self) -> None:
        with self.app.app_context():
            assert db.execute_now(sa.select(User.second_factor).where(User.id == self.id))[0][0] is self._has_factor

    def teardown(self) -> None:
        self._sign_in()

    @property
    def _has_factor(self) -> bool:
        return bool(self.apps or self.keys)

    def _session(self, data: st.DataObject) -> Client:
        return self.sessions[data.draw(st.integers(0, len(self.sessions) - 1))]

    def _is_allowed(self, client: Client, response: Response) -> bool:
        """Return whether the session has the level of the account.

        If not, check the response.
        """
        assert client.token is not None
        if self._has_factor and claims_of(client.token)["acr"] != "2":
            assert (response.status, response.code) == (401, "reauthentication_required"), "F7"
            return False
        return True

    @property
    def _is_last(self) -> bool:
        """Whether only one factor is left, and the password does not do alone."""
        return self.password in {SHORT, None} and len(self.apps) + len(self.keys) == 1

    def _expect_no_session(self) -> None:
        for client in self.sessions:
            assert client.refresh().status == 403
        self.sessions.clear()
        self._sign_in()

    def _is_removed(self, client: Client, response: Response, kept: bool) -> bool:  # noqa: FBT001 -- what the model expects
        """Return whether a factor was removed, which it is not if it must be `kept`."""
        if not self._is_allowed(client, response):
            return False
        if kept:
            assert (response.status, response.code) == (409, "last_way_to_sign_in"), "F7"
            return False
        assert response.status in {200, 204}, response.body
        return True

    def _note_first(self, response: Response) -> None:
        codes = response.json.get("recoveryCodes")
        assert bool(codes) is not self._has_factor
        self.codes = codes or self.codes

    def _note_last(self) -> None:
        if not self._has_factor:
            self.codes = []

    def _sign_in(self) -> None:
        """Sign in with what is left."""
        client = Client(self.app)
        if not self._has_factor:
            assert self.password is not None, "F7"
            assert client.login(self.name, self.password).status == 200, "F7"
        elif self.keys:
            assert sign_in_with(client, next(iter(self.keys.values()))).status == 200, "F7"
        else:
            assert self.password is not None, "F7"
            self._forget_used_codes()
            pending = pending_of(self.app, self.name, self.password)
            assert second_step(client, pending, self.apps[0].code()).status == 200, "F7"
        self.sessions.append(client)

    def _forget_used_codes(self) -> None:
        """Let the current code of an app work again, as if half a minute had passed."""
        with self.app.app_context():
            db.execute_now(sa.update(Totp).where(Totp.user_id == self.id).values(last_step=0))


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def stage(request: pytest.FixtureRequest, databases: Databases) -> Iterator[None]:
    """Create the application on a database of each kind."""
    with application(databases(request.param), TOKENAPP_SMTP_URL="smtp://127.0.0.1:1") as app:
        Person.app = app
        yield


@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("stage")
def test_no_order_of_changes_locks_out_or_lets_a_weaker_session_in() -> None:
    profile = settings(
        max_examples=EXAMPLES,
        stateful_step_count=15,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    run_state_machine_as_test(Person, settings=profile)
