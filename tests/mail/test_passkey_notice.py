"""Passkeys in notices and in the download of one's data."""

from flask import Flask

from tests.support.client import Client
from tests.support.mailbox import Mailbox, deliver
from tests.support.security_keys import Authenticator, register, sign_in_with


def test_counter_that_goes_back_is_a_notice(app: Flask, mailbox: Mailbox, alice: Client) -> None:
    device = Authenticator(counter=5)
    register(alice, device)
    device.counter = 2
    assert sign_in_with(Client(app), device).status == 200
    deliver(app)
    assert "Check your passkeys at localhost" in [str(each["Subject"]) for each in mailbox.messages]


def test_export_has_passkeys_without_their_keys(alice: Client) -> None:
    device = Authenticator()
    register(alice, device, "A phone")
    sign_in_with(alice, device)
    (passkey,) = alice.call("GET", "/api/me/export").json["passkeys"]
    assert (passkey["name"], passkey["rpId"]) == ("A phone", "localhost")
    assert passkey["lastUsedAt"] is not None
    assert "publicKey" not in passkey
