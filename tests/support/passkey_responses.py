"""Requests that get every documented response of the routes for passkeys."""

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
import time_machine
from flask import Flask

from tests.support.client import Client
from tests.support.security_keys import (
    Authenticator,
    creation_options,
    passkey_login,
    register,
    request_options,
    sign_in_with,
)
from tokenapp.db import execute_now
from tokenapp.factor_models import RecoveryCode
from tokenapp.models import AddressCount, User

PASSKEYS = "/api/me/passkeys"


def use_passkeys(app: Flask, client: Client, username: str) -> None:
    """Add passkeys to the account of `client`, use them, rename and delete them."""
    client.login(username)
    devices = [Authenticator(), Authenticator()]
    for device in devices:
        register(client, device)
        sign_in_with(client, device)
    ids = [each["id"] for each in client.call("GET", PASSKEYS).json["passkeys"]]
    credential = Authenticator().create(creation_options(client))
    client.call("POST", PASSKEYS, payload={"credential": {**credential, "rawId": "AAAA"}})
    for passkey_id in (ids[0], "unknown"):
        client.call("PATCH", f"{PASSKEYS}/{passkey_id}", payload={"name": "Key ring"})
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=6)):
        client.call("POST", f"{PASSKEYS}/options")
        client.call("POST", PASSKEYS, payload={"credential": credential})
        client.call("DELETE", f"{PASSKEYS}/{ids[0]}")
    client.call("DELETE", f"{PASSKEYS}/{ids[0]}")
    _use_as_second_factor(client, username, devices)
    with app.app_context():
        execute_now(sa.update(User).where(User.username == username).values(password_hash="", hash_kind=""))
        owner = sa.select(User.id).where(User.username == username).scalar_subquery()
        execute_now(sa.delete(RecoveryCode).where(RecoveryCode.user_id == owner))
    sign_in_with(client, devices[1])
    client.call("DELETE", f"{PASSKEYS}/{ids[1]}")
    with app.app_context():
        execute_now(sa.update(AddressCount).where(AddressCount.key.contains("sign-ins")).values(count=1_000_000))
    sign_in_with(client, devices[1])


def send_signature(client: Client) -> None:
    """Sign in with a passkey that no account has."""
    passkey_login(client, Authenticator(user_handle="AAAA").get(request_options(client)))


def _use_as_second_factor(client: Client, username: str, devices: list[Authenticator]) -> None:
    """Give a deleted passkey, and a wrong signature, wherever a passkey can be given."""
    unknown, known = devices
    forged = Authenticator(user_handle=known.user_handle, credential_id=known.credential_id)
    for device in (unknown, forged):
        sign_in_with(client, device)
        step = {"method": "passkey", "credential": device.get(request_options(client))}
        client.call("POST", "/api/reauthenticate", payload=step)
        pending = client.login(username).json["pending"]
        step["credential"] = device.get(request_options(client))
        client.send("POST", "/api/login/second", payload={**step, "pending": pending})
