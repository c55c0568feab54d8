"""The five attacks of Sudhodanan and Paverd (2022) on accounts made in advance.

The attacker prepares something for the address of a victim, who takes the account over later.
"""

from datetime import UTC, datetime

from flask import Flask

from tests.mail.conftest import register
from tests.support.app import PASSWORD
from tests.support.client import Client, Response, sign_in
from tests.support.commandline import NEW_PASSWORD, can_sign_in
from tests.support.mailbox import Mailbox, deliver
from tokenapp import accounts

VICTIM, ATTACKER = "victim@example.com", "attacker@example.net"


def post(app: Flask, path: str, **payload: str) -> Response:
    return Client(app).send("POST", f"/api/{path}", payload=payload)


def create_unverified(app: Flask) -> None:
    """Create the account of an import, where the attacker gave the victim's address."""
    with app.app_context():
        accounts.create(accounts.NewUser("prepared", PASSWORD, email=VICTIM), datetime.now(UTC))


def take_over(app: Flask, mailbox: Mailbox) -> None:
    """Reset the password as the victim, who reads the mail."""
    assert post(app, "password-reset", email=VICTIM).status == 202
    deliver(app)
    reset = {"token": mailbox.token("reset"), "newPassword": NEW_PASSWORD}
    assert post(app, "password-reset/complete", **reset).status == 204


def test_account_cannot_be_created_for_an_address_that_is_not_read(app: Flask, mailbox: Mailbox) -> None:
    post(app, "register", email=VICTIM)
    deliver(app)
    for token in ("", "A" * 43):
        assert post(app, "register/complete", token=token, username="attacker", password=PASSWORD).status == 400
    assert not can_sign_in(app, VICTIM)
    # The victim, who registers later, gets an account of their own.
    token = mailbox.token("register")
    assert post(app, "register/complete", token=token, username="victim", password=NEW_PASSWORD).status == 200


def test_session_of_the_attacker_ends(app: Flask, mailbox: Mailbox) -> None:
    create_unverified(app)
    attacker = sign_in(app, "prepared")
    take_over(app, mailbox)
    assert attacker.refresh().code == "refresh_token_revoked"
    assert not can_sign_in(app, "prepared")


def test_name_of_the_attacker_is_never_the_address_of_the_victim(app: Flask, mailbox: Mailbox) -> None:
    post(app, "register", email=ATTACKER)
    deliver(app)
    token = mailbox.token("register")
    reply = post(app, "register/complete", token=token, username=VICTIM, password=PASSWORD)
    assert reply.code == "username_rejected"


def test_pending_change_of_the_attacker_ends(app: Flask, mailbox: Mailbox) -> None:
    create_unverified(app)
    attacker = sign_in(app, "prepared")
    assert attacker.call("POST", "/api/me/email", payload={"email": ATTACKER}).status == 202
    deliver(app)
    token = mailbox.token("email")
    take_over(app, mailbox)
    assert post(app, "me/email/complete", token=token).code == "link_invalid"
    assert sign_in(app, VICTIM, NEW_PASSWORD).call("GET", "/api/me").json["email"] == VICTIM


def test_undo_of_the_attacker_ends(app: Flask, mailbox: Mailbox) -> None:
    attacker = register(app, mailbox, "attacker")
    assert attacker.call("POST", "/api/me/email", payload={"email": VICTIM}).status == 202
    deliver(app)
    assert post(app, "me/email/complete", token=mailbox.token("email")).status == 204
    deliver(app)
    token = mailbox.token("undo")
    take_over(app, mailbox)
    assert post(app, "email-change/undo", token=token).code == "link_invalid"
    assert not can_sign_in(app, "attacker")
    assert not can_sign_in(app, "attacker@example.com")
