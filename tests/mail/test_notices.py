"""Notices: mails about what happened to an account."""

import secrets
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from flask import Flask

from tests.mail.conftest import register
from tests.support.app import PASSWORD, SETTINGS, application, create_user
from tests.support.bound_device import Browser, copy_of
from tests.support.client import Client
from tests.support.commandline import NEW_PASSWORD, run
from tests.support.mailbox import Mailbox, deliver, text_of
from tokenapp import accounts
from tokenapp.throttle import lockout

FIREFOX = "Mozilla/5.0 (Windows NT 10.0; rv:{0}) Gecko/20100101 Firefox/{0}"
SAFARI = "Mozilla/5.0 (Macintosh) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Safari/605.1.15"


def subjects(app: Flask, mailbox: Mailbox) -> list[str]:
    """Return the subjects of the mails since the last call."""
    mailbox.clear()
    deliver(app)
    return [str(message["Subject"]) for message in mailbox.messages]


def sign_in_with(
    app: Flask, agent: str = FIREFOX.format("140.0"), address: str = "192.0.2.1", name: str = "alice"
) -> None:
    environ = {"REMOTE_ADDR": address}
    assert Client(app).login(name, headers={"User-Agent": agent}, environ=environ).status == 200


@pytest.mark.parametrize("actor", ["user", "operator", "reset"])
def test_new_password_is_a_notice(app: Flask, mailbox: Mailbox, alice: Client, actor: str) -> None:
    if actor == "user":
        alice.call("PUT", "/api/me/password", payload={"currentPassword": PASSWORD, "newPassword": NEW_PASSWORD})
    elif actor == "operator":
        run(app, "users", "set-password", "alice", stdin=NEW_PASSWORD + "\n")
    else:
        alice.send("POST", "/api/password-reset", payload={"email": "alice@example.com"})
        deliver(app)
        payload = {"token": mailbox.token("reset"), "newPassword": NEW_PASSWORD}
        alice.send("POST", "/api/password-reset/complete", payload=payload)
    assert subjects(app, mailbox) == ["Your password at localhost was changed"]


def test_first_sign_in_is_not_a_notice(app: Flask, mailbox: Mailbox, alice: Client) -> None:
    del alice
    assert subjects(app, mailbox) == []


def test_new_browser_and_new_network_are_notices_once(app: Flask, mailbox: Mailbox) -> None:
    with app.app_context():
        new = accounts.NewUser("alice", PASSWORD, email="alice@example.com", email_verified=True)
        accounts.create(new, datetime.now(UTC))
    sign_in_with(app)
    assert subjects(app, mailbox) == []
    for agent, address in ((SAFARI, "192.0.2.1"), (SAFARI, "198.51.100.1")):
        sign_in_with(app, agent, address)
        assert subjects(app, mailbox) == ["New sign-in at localhost"]
        text = text_of(mailbox.messages[0])
        assert address in text
        assert "Safari" in text
    for agent, address in ((SAFARI, "192.0.2.1"), (FIREFOX.format("141.0"), "198.51.100.1")):
        sign_in_with(app, agent, address)
    assert subjects(app, mailbox) == []


def test_known_browser_stays_known_after_a_change_of_the_secret_key(
    app: Flask, database_url: str, mailbox: Mailbox, alice: Client
) -> None:
    del alice
    sign_in_with(app)
    assert subjects(app, mailbox) == ["New sign-in at localhost"]
    new = {"SECRET_KEY": secrets.token_urlsafe(48), "TOKENAPP_SMTP_URL": mailbox.url}
    with application(database_url, SECRET_KEY_FALLBACKS=SETTINGS["SECRET_KEY"], **new) as changed:
        sign_in_with(changed)
        assert subjects(changed, mailbox) == []
    with application(database_url, **new) as without_former:
        sign_in_with(without_former)
        assert subjects(without_former, mailbox) == []
        sign_in_with(without_former, SAFARI)
        assert subjects(without_former, mailbox) == ["New sign-in at localhost"]


def test_user_without_a_verified_address_gets_no_notice(app: Flask, mailbox: Mailbox) -> None:
    with app.app_context():
        accounts.create(accounts.NewUser("alice", PASSWORD, email="alice@example.com"), datetime.now(UTC))
    create_user(app, "bob")
    for name in ("alice", "bob"):
        for address in ("192.0.2.1", "192.0.2.2"):
            sign_in_with(app, address=address, name=name)
        run(app, "users", "set-password", name, stdin=NEW_PASSWORD + "\n")
    assert subjects(app, mailbox) == []


def test_reuse_is_a_notice(app: Flask, mailbox: Mailbox, alice: Client) -> None:
    old = alice.cookie
    assert alice.refresh().status == 200
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=1)):
        alice.refresh()
        assert alice.refresh(old).status == 403
        assert subjects(app, mailbox) == ["A session at localhost was ended"]


@pytest.mark.parametrize(("mode", "status"), [("report", 200), ("enforce", 403)])
def test_refresh_without_the_key_of_its_device_is_one_notice(
    database_url: str, mailbox: Mailbox, mode: str, status: int
) -> None:
    with application(database_url, TOKENAPP_SMTP_URL=mailbox.url, TOKENAPP_DEVICE_BINDING=mode) as app:
        register(app, mailbox, "alice")
        browser = Browser(app)
        browser.sign_in()
        assert (browser.register().status, browser.prove().status) == (200, 200)
        subjects(app, mailbox)
        thief = copy_of(browser, with_cookie=False)
        assert [thief.refresh().status for _ in range(3)] == [status] * 3
        assert set(subjects(app, mailbox)) == {"Check your devices at localhost"}


def test_locked_account_is_a_notice(app: Flask, mailbox: Mailbox, alice: Client) -> None:
    del alice
    now = datetime.now(UTC)
    with app.app_context():
        for number in range(lockout.LOCK_AFTER - 1):
            lockout.count_attempt("password", "alice", now + timedelta(hours=number))
    with time_machine.travel(now + timedelta(hours=lockout.LOCK_AFTER)):
        assert Client(app).login(password="a wrong password").status == 401
        assert Client(app).login().status == 429
        assert subjects(app, mailbox) == ["Your account at localhost is locked"]
    assert "user_locked" in run(app, "events", "list").stdout


def test_signing_out_is_not_a_notice(app: Flask, mailbox: Mailbox, alice: Client) -> None:
    alice.logout()
    register(app, mailbox, "bob").call("DELETE", "/api/sessions")
    assert subjects(app, mailbox) == []


def test_same_notice_is_mailed_five_times_an_hour_at_most(app: Flask, mailbox: Mailbox, alice: Client) -> None:
    del alice
    with app.app_context():
        user = accounts.find("alice")
        for _ in range(8):
            accounts.set_password(user, NEW_PASSWORD, datetime.now(UTC))
    assert len(subjects(app, mailbox)) == 5
