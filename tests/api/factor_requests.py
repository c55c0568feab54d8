"""Requests that get every documented response of the routes of second factors."""

from datetime import UTC, datetime, timedelta

import time_machine
from flask import Flask

from tests.support.app import PASSWORD, make_app
from tests.support.authenticator import Authenticator, confirm, enrol, second_step
from tests.support.client import Client
from tests.support.security_keys import Authenticator as SecurityKey


def requiring(app: Flask) -> Flask:
    """Return an application on the same database that requires second factors."""
    url = app.config["TOKENAPP"].database_url.render_as_string(hide_password=False)
    return make_app(url, TOKENAPP_SECOND_FACTOR="required")


def use_factors(client: Client, username: str, registration: str) -> None:
    """Register, set up factors, sign in with them, and change them."""
    payload = {"token": registration, "username": username, "password": PASSWORD}
    pending = client.send("POST", "/api/register/complete", payload=payload).json["pending"]
    second_step(client, pending, "000000")  # before there is a secret
    started = client.send("POST", "/api/login/setup/totp", payload={"pending": pending}).json
    client.send("POST", "/api/login/setup/totp", payload={"pending": "x"})
    client.send("POST", "/api/login/setup/passkey", payload={"pending": "x"})
    options = client.send("POST", "/api/login/setup/passkey", payload={"pending": pending}).json
    step = {"method": "passkey", "credential": {**SecurityKey().create(options), "rawId": "AAAA"}}
    client.send("POST", "/api/login/second", payload={**step, "pending": pending})
    first = Authenticator(started["secret"], started["id"])
    second_step(client, pending, first.wrong)
    first.recovery_codes = second_step(client, pending, first.code(0)).json["recoveryCodes"]
    second_step(client, pending, first.code())
    client.call("GET", "/api/me/factors")
    client.call("DELETE", f"/api/me/factors/{first.id}")  # the last one
    started = client.call("POST", "/api/me/factors/totp").json
    confirm(client, started["id"], Authenticator(started["secret"]).wrong)
    confirm(client, "unknown", "000000")
    others = [enrol(client) for _ in range(4)]
    client.call("POST", "/api/me/factors/totp")  # too many
    client.call("DELETE", f"/api/me/factors/{others[0].id}")
    first.recovery_codes = client.call("POST", "/api/me/recovery-codes").json["recoveryCodes"]
    client.call("POST", "/api/reauthenticate", payload={"password": PASSWORD})
    client.call("POST", "/api/reauthenticate", payload={"method": "totp", "code": first.wrong})
    client.call("POST", "/api/reauthenticate", payload={"method": "totp", "code": first.code()})
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=6)):
        for method, path in (
            ("POST", "factors/totp"),
            ("POST", "factors/totp/unknown/confirm"),
            ("POST", "recovery-codes"),
            ("DELETE", "factors/unknown"),
        ):
            client.call(method, f"/api/me/{path}", payload={"code": "000000"})
    pending = client.login(username).json["pending"]
    for _ in range(6):
        second_step(client, pending, first.wrong)


def use_a_weaker_session(client: Client) -> None:
    """Set up a factor, and use the session from before, without a second factor."""
    client.call("POST", "/api/me/recovery-codes")
    enrol(client)
    client.call("PUT", "/api/me/password", payload={"currentPassword": PASSWORD, "newPassword": PASSWORD})
