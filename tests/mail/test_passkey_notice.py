"""The notice about a passkey that may have been copied."""

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
