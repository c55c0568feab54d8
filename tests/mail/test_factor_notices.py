"""Mails about second factors."""

from collections.abc import Iterator

import pytest
from flask import Flask

from tests.mail.conftest import LIMITS
from tests.support.app import PASSWORD, application
from tests.support.authenticator import Authenticator, enrol, pending_of, second_step
from tests.support.client import Client
from tests.support.commandline import run
from tests.support.mailbox import Mailbox, deliver, html_of, text_of
from tests.support.security_keys import Authenticator as SecurityKey
from tests.support.security_keys import register as register_key


@pytest.fixture
def requiring(database_url: str, mailbox: Mailbox) -> Iterator[Flask]:
    """Return an application with open registration that requires a factor."""
    settings = {"TOKENAPP_SMTP_URL": mailbox.url, "TOKENAPP_SECOND_FACTOR": "required", **LIMITS}
    with application(database_url, **settings) as app:
        yield app


def mailed(app: Flask, mailbox: Mailbox) -> list[tuple[str, str]]:
    """Return the subjects and texts of the mails since the last call."""
    mailbox.clear()
    deliver(app)
    assert all(message["To"] == "alice@example.com" for message in mailbox.messages)
    assert all("alice" in html_of(message) for message in mailbox.messages)
    return [(str(message["Subject"]), text_of(message)) for message in mailbox.messages]


def test_each_change_of_a_factor_is_one_mail_with_its_name(app: Flask, mailbox: Mailbox, alice: Client) -> None:
    mailed(app, mailbox)
    authenticator = enrol(alice)
    ((subject, text),) = mailed(app, mailbox)
    assert subject == "A second factor was added at localhost"
    assert "A second factor (TOTP) was added to the account alice" in text
    assert "set a new password now" in text
    second_step(alice, pending_of(app), authenticator.recovery_codes[0], "recovery_code")
    ((subject, text),) = mailed(app, mailbox)
    assert subject == "A recovery code was used at localhost"
    assert "A recovery code of the account alice was used to sign in" in text
    passkey = register_key(alice, SecurityKey()).json["passkey"]
    assert "A second factor (passkey) was added to the account alice" in mailed(app, mailbox)[0][1]
    new = alice.call("POST", "/api/me/recovery-codes").json["recoveryCodes"]
    ((subject, text),) = mailed(app, mailbox)
    assert subject == "New recovery codes at localhost"
    assert not any(code in text for code in new)
    alice.call("DELETE", f"/api/me/passkeys/{passkey['id']}")
    assert "A second factor (passkey) of the account alice was removed" in mailed(app, mailbox)[0][1]
    alice.call("DELETE", f"/api/me/factors/{authenticator.id}")
    assert "A second factor (TOTP) of the account alice was removed" in mailed(app, mailbox)[0][1]


def test_reset_by_an_operator_is_one_mail(app: Flask, mailbox: Mailbox, alice: Client) -> None:
    enrol(alice)
    mailed(app, mailbox)
    run(app, "users", "reset-factors", "alice", "--yes")
    ((subject, text),) = mailed(app, mailbox)
    assert subject == "Your second factors at localhost were removed"
    assert "An operator removed all second factors of the account alice" in text


def test_attempts_that_change_nothing_are_no_mail(app: Flask, mailbox: Mailbox, alice: Client) -> None:
    authenticator = enrol(alice)
    mailed(app, mailbox)
    second_step(Client(app), pending_of(app), authenticator.wrong)
    second_step(Client(app), pending_of(app), "aaaa-bbbb-cccc-dddd", "recovery_code")
    alice.call("POST", "/api/me/recovery-codes")  # below the level of the account
    assert mailed(app, mailbox) == []


# Registration where a factor is required


def complete_registration(app: Flask, mailbox: Mailbox) -> str:
    """Register alice by mail; return the pending sign-in."""
    client = Client(app)
    client.send("POST", "/api/register", payload={"email": "alice@example.com"})
    deliver(app)
    payload = {"token": mailbox.token("register"), "username": "alice", "password": PASSWORD}
    response = client.call("POST", "/api/register/complete", payload=payload)
    assert (response.status, response.code, response.cookie) == (401, "second_factor_required", None)
    assert (response.json["methods"], response.json["setup"]) == ([], ["totp", "passkey"])
    assert client.send("POST", "/api/register/complete", payload=payload).code == "link_invalid"
    return str(response.json["pending"])


def test_registration_continues_with_the_set_up_of_a_factor(requiring: Flask, mailbox: Mailbox) -> None:
    pending, client = complete_registration(requiring, mailbox), Client(requiring)
    started = client.send("POST", "/api/login/setup/totp", payload={"pending": pending}).json
    response = second_step(client, pending, Authenticator(started["secret"]).code())
    assert (response.status, len(response.json["recoveryCodes"])) == (200, 10)
    assert client.call("GET", "/api/me").json["email"] == "alice@example.com"
    assert [subject for subject, _ in mailed(requiring, mailbox)] == ["A second factor was added at localhost"]


def test_abandoned_registration_continues_with_the_password(requiring: Flask, mailbox: Mailbox) -> None:
    complete_registration(requiring, mailbox)
    pending, key, client = pending_of(requiring), SecurityKey(), Client(requiring)
    options = client.send("POST", "/api/login/setup/passkey", payload={"pending": pending}).json
    payload = {"pending": pending, "method": "passkey", "credential": key.create(options)}
    assert client.call("POST", "/api/login/second", bearer=None, payload=payload).status == 200
    assert client.call("GET", "/api/me").json["username"] == "alice"
