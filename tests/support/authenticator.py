"""An authenticator app, and sign-ins with it.

A code is accepted in its time step, and in those before and after it. Tests enrol with the code of the current step and
then use that of the next one, so that a slow machine can take half a minute longer for a request than expected.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pyotp
import time_machine
from flask import Flask

from tests.support.app import PASSWORD
from tests.support.client import Client, Response
from tokenapp import accounts, factors

STEP = 30


class Authenticator:
    """An app that shows the codes of a secret; `recovery_codes` came with it."""

    def __init__(self, secret: str, factor_id: str = "", recovery_codes: list[str] | None = None) -> None:
        self.secret = secret
        self.id = factor_id
        self.recovery_codes = recovery_codes or []

    def code(self, offset: int = 1) -> str:
        """Return the code of the next time step, or of another one."""
        return str(pyotp.TOTP(self.secret).generate_otp(int(datetime.now(UTC).timestamp()) // STEP + offset))

    @property
    def wrong(self) -> str:
        """A code that is not valid now."""
        valid = {self.code(offset) for offset in range(-2, 4)}
        return next(code for code in ("000000", "111111", "222222", "333333", "444444", "555555") if code not in valid)


@contextmanager
def stopped_clock() -> Iterator[None]:
    """Stop the clock of this process at the beginning of the next time step."""
    moment = (datetime.now(UTC).timestamp() // STEP + 1) * STEP
    with time_machine.travel(datetime.fromtimestamp(moment, UTC), tick=False):
        yield


def enrol(client: Client) -> Authenticator:
    """Set up an authenticator app for a client that is signed in.

    It is confirmed with the code of the current time step, so that the next one can still be used.
    """
    started = client.call("POST", "/api/me/factors/totp")
    assert started.status == 200, started.body
    app = Authenticator(started.json["secret"], started.json["id"])
    confirmed = confirm(client, app.id, app.code(0))
    assert confirmed.status == 200, confirmed.body
    app.recovery_codes = confirmed.json["recoveryCodes"]
    return app


def confirm(client: Client, factor_id: str, code: str) -> Response:
    """Confirm an authenticator app."""
    return client.call("POST", f"/api/me/factors/totp/{factor_id}/confirm", payload={"code": code})


def pending_of(target: Flask | int, username: str = "alice", password: str = PASSWORD) -> str:
    """Take the first step of a sign-in, and return what the second step needs."""
    response = Client(target).login(username, password)
    assert (response.status, response.code) == (401, "second_factor_required"), response.body
    return str(response.json["pending"])


def pending_sign_ins(app: Flask, username: str, number: int) -> list[str]:
    """Store sign-ins whose password was right, without checking passwords."""
    with app.app_context():
        user, now = accounts.find(username), datetime.now(UTC)
        steps = [factors.pending.begin(user, now) for _ in range(number)]
    return [str((step.members or {})["pending"]) for step in steps]


def second_step(client: Client, pending: str, code: str, method: str = "totp") -> Response:
    """Take the second step of a sign-in."""
    payload = {"pending": pending, "method": method, "code": code}
    return client.call("POST", "/api/login/second", bearer=None, payload=payload, cookie=client.cookie)
