"""An authenticator app, and sign-ins with it."""

from datetime import UTC, datetime

import pyotp
from flask import Flask

from tests.support.app import PASSWORD
from tests.support.client import Client, Response

STEP = 30


class Authenticator:
    """An app that shows the codes of a secret; `recovery_codes` came with it."""

    def __init__(self, secret: str, factor_id: str = "", recovery_codes: list[str] | None = None) -> None:
        self.secret = secret
        self.id = factor_id
        self.recovery_codes = recovery_codes or []

    def code(self, offset: int = 0) -> str:
        """Return the code of the current time step, or of one before or after it."""
        return str(pyotp.TOTP(self.secret).generate_otp(int(datetime.now(UTC).timestamp()) // STEP + offset))

    @property
    def wrong(self) -> str:
        """A code that is not valid now."""
        valid = {self.code(offset) for offset in (-2, -1, 0, 1, 2)}
        return next(code for code in ("000000", "111111", "222222", "333333", "444444", "555555") if code not in valid)


def enrol(client: Client, *, offset: int = -1) -> Authenticator:
    """Set up an authenticator app for a client that is signed in.

    It is confirmed with the code of the previous time step, so that the current one can still be used.
    """
    started = client.call("POST", "/api/me/factors/totp")
    assert started.status == 200, started.body
    app = Authenticator(started.json["secret"], started.json["id"])
    confirmed = confirm(client, app.id, app.code(offset))
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


def second_step(client: Client, pending: str, code: str, method: str = "totp") -> Response:
    """Take the second step of a sign-in."""
    payload = {"pending": pending, "method": method, "code": code}
    return client.call("POST", "/api/login/second", bearer=None, payload=payload, cookie=client.cookie)
