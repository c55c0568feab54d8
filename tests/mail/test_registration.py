"""Registration and invitation: an address is proven before there is a user."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
import time_machine
from flask import Flask

from tests.mail.conftest import register
from tests.support.app import PASSWORD, application, create_user
from tests.support.client import Client, Response, sign_in
from tests.support.commandline import error_of, run, run_json
from tests.support.mailbox import Mailbox, deliver, text_of
from tokenapp import db
from tokenapp.models import OneTimeToken, User

INVALID = "link_invalid"


def ask(app: Flask, email: str = "alice@example.com") -> Response:
    return Client(app).send("POST", "/api/register", payload={"email": email})


def complete(app: Flask, token: str, username: str = "alice", password: str = PASSWORD) -> Response:
    payload = {"token": token, "username": username, "password": password}
    return Client(app).send("POST", "/api/register/complete", payload=payload)


def users(app: Flask) -> int:
    with app.app_context():
        return len(db.execute_now(sa.select(User.id)))


def test_proven_address_becomes_an_account_that_is_signed_in(app: Flask, mailbox: Mailbox) -> None:
    client = register(app, mailbox, "alice")
    assert client.protected().status == 200
    assert client.refresh().status == 200
    account = client.call("GET", "/api/me").json
    assert account["email"] == "alice@example.com"
    assert account["emailVerifiedAt"] == account["createdAt"]


def test_account_replaces_the_session_of_the_browser(app: Flask, mailbox: Mailbox) -> None:
    bob = register(app, mailbox, "bob")
    ask(app)
    deliver(app)
    token = mailbox.token("register")
    payload = {"token": token, "username": "alice", "password": PASSWORD}
    two = {"Cookie": f"refreshToken={bob.cookie}; refreshToken=x"}
    assert Client(app).send("POST", "/api/register/complete", payload=payload, headers=two).status == 400
    assert bob.refresh().status == 200
    assert Client(app).send("POST", "/api/register/complete", payload=payload, cookie=bob.cookie).status == 200
    assert bob.refresh().code == "refresh_token_revoked"


def test_there_is_no_user_before_the_address_is_proven(app: Flask, mailbox: Mailbox) -> None:
    assert ask(app).status == 202
    deliver(app)
    assert users(app) == 0
    assert complete(app, mailbox.token("register")).status == 200
    assert users(app) == 1


def test_known_address_is_told_that_it_has_an_account(app: Flask, mailbox: Mailbox, alice: Client) -> None:
    del alice
    mailbox.clear()
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=2), tick=False):
        assert ask(app, "ALICE@example.com").body == ask(app, "unknown@example.com").body
        deliver(app)
    assert mailbox.recipients() == ["alice@example.com", "unknown@example.com"]
    assert "alice" in text_of(mailbox.messages[0])
    assert "#register=" not in text_of(mailbox.messages[0])


def test_link_works_once(app: Flask, mailbox: Mailbox) -> None:
    ask(app)
    deliver(app)
    token = mailbox.token("register")
    assert complete(app, token).status == 200
    assert complete(app, token, "bob").code == INVALID


def test_new_link_replaces_the_previous_one(app: Flask, mailbox: Mailbox) -> None:
    now = datetime.now(UTC)
    tokens = []
    for minutes in (0, 2):
        with time_machine.travel(now + timedelta(minutes=minutes), tick=False):
            ask(app)
            deliver(app)
            tokens.append(mailbox.token("register"))
    assert complete(app, tokens[0]).code == INVALID
    assert complete(app, tokens[1]).status == 200


@pytest.mark.parametrize(("hours", "status"), [(23, 200), (25, 400)])
def test_link_works_for_24_hours(app: Flask, mailbox: Mailbox, hours: int, status: int) -> None:
    ask(app)
    deliver(app)
    with time_machine.travel(datetime.now(UTC) + timedelta(hours=hours)):
        assert complete(app, mailbox.token("register")).status == status


@pytest.mark.parametrize(
    ("username", "password", "code"),
    [
        ("bob", PASSWORD, "username_taken"),
        ("alice", "short", "password_rejected"),
        ("a\u200bb", PASSWORD, "username_rejected"),
        ("victim@example.com", PASSWORD, "username_rejected"),
    ],
)
def test_link_still_works_after_a_mistake(
    app: Flask, mailbox: Mailbox, username: str, password: str, code: str
) -> None:
    create_user(app, "bob")
    ask(app)
    deliver(app)
    assert complete(app, mailbox.token("register"), username, password).code == code
    assert complete(app, mailbox.token("register")).status == 200


def test_user_name_can_be_the_proven_address(app: Flask, mailbox: Mailbox) -> None:
    ask(app)
    deliver(app)
    assert complete(app, mailbox.token("register"), "Alice@Example.com").status == 200
    sign_in(app, "alice@example.com")


@pytest.mark.parametrize("token", ["", "x", "A" * 43, "A" * 64, "\u00e9" * 43, "A" * 42 + "="])
def test_unknown_token_is_rejected(app: Flask, token: str) -> None:
    assert complete(app, token).problem == (400, INVALID, "This link is invalid, has expired, or was used before.")


@pytest.mark.parametrize("email", ["", "alice", "a@b@c", "a b@example.com", "a@example.com\r\nBcc: b@example.com"])
def test_text_that_is_no_address_is_rejected(app: Flask, mailbox: Mailbox, email: str) -> None:
    assert ask(app, email).problem[:2] == (400, "address_rejected")
    deliver(app)
    assert mailbox.messages == []


def test_only_addresses_of_the_domains_can_register(database_url: str, mailbox: Mailbox) -> None:
    settings = {
        "TOKENAPP_SMTP_URL": mailbox.url,
        "TOKENAPP_REGISTRATION_DOMAINS": "example.com, example.org, xn--mnchen-3ya.example",
    }
    allowed = ["example.com", "EXAMPLE.ORG", "m\u00fcnchen.example", "xn--mnchen-3ya.example"]
    with application(database_url, **settings) as app:
        others = ["example.net", "sub.example.com", "munchen.example"]
        bodies = {ask(app, f"a{number}@{domain}").body for number, domain in enumerate(allowed + others)}
        deliver(app)
    assert len(bodies) == 1
    assert [address.partition("@")[0] for address in mailbox.recipients()] == ["a0", "a1", "a2", "a3"]


def test_invited_person_creates_an_account_while_registration_is_by_invitation(
    database_url: str, mailbox: Mailbox
) -> None:
    with application(database_url, TOKENAPP_SMTP_URL=mailbox.url, TOKENAPP_REGISTRATION="invite") as app:
        assert ask(app).status == 404
        run(app, "users", "invite", "alice@example.com", "--locale", "de")
        deliver(app)
        assert mailbox.messages[0]["Subject"].startswith("Einladung")
        assert complete(app, mailbox.token("register")).status == 200
        refused = run(app, "users", "invite", "Alice@example.com", code=1)
        assert error_of(refused) == "Another account has this e-mail address."


def test_link_of_a_registration_ends_when_registration_is_by_invitation(
    app: Flask, database_url: str, mailbox: Mailbox
) -> None:
    ask(app)
    deliver(app)
    with application(database_url, TOKENAPP_SMTP_URL=mailbox.url, TOKENAPP_REGISTRATION="invite") as closed:
        assert complete(closed, mailbox.token("register")).code == INVALID
    assert complete(app, mailbox.token("register")).status == 200


def test_device_can_be_bound_to_the_first_session(database_url: str, mailbox: Mailbox) -> None:
    settings = {"TOKENAPP_SMTP_URL": mailbox.url, "TOKENAPP_DEVICE_BINDING": "report"}
    with application(database_url, **settings) as app:
        ask(app)
        deliver(app)
        reply = complete(app, mailbox.token("register"))
    assert reply.header("Secure-Session-Registration")


def test_any_language_can_be_given_for_an_invitation(app: Flask, mailbox: Mailbox) -> None:
    run(app, "users", "invite", "alice@example.com", "--locale", "de-DE-x-a-very-long-locale")
    deliver(app)
    assert complete(app, mailbox.token("register")).status == 200
    assert run_json(app, "users", "show", "alice")["locale"] == "de"


@pytest.mark.parametrize("email", ["\ufdfa" * 60 + "@example.com", "a@" + "\ufdfa" * 60])
@pytest.mark.parametrize("path", ["register", "password-reset"])
def test_address_whose_canonical_form_is_too_long_is_rejected(app: Flask, path: str, email: str) -> None:
    reply = Client(app).send("POST", f"/api/{path}", payload={"email": email})
    assert reply.code == "address_rejected"


def test_nobody_is_invited_while_registration_is_closed(database_url: str, mailbox: Mailbox) -> None:
    with application(database_url, TOKENAPP_SMTP_URL=mailbox.url, TOKENAPP_REGISTRATION="closed") as app:
        assert ask(app).status == complete(app, "A" * 43).status == 404
        assert "TOKENAPP_REGISTRATION" in error_of(run(app, "users", "invite", "alice@example.com", code=1))


def test_registration_from_another_site_is_rejected(app: Flask, mailbox: Mailbox) -> None:
    ask(app)
    deliver(app)
    payload = {"token": mailbox.token("register"), "username": "alice", "password": PASSWORD}
    headers = {"Sec-Fetch-Site": "cross-site"}
    reply = Client(app).send("POST", "/api/register/complete", payload=payload, headers=headers)
    assert reply.code == "cross_site_request"
    assert users(app) == 0


def test_only_digests_of_tokens_are_stored(app: Flask, mailbox: Mailbox) -> None:
    ask(app)
    deliver(app)
    with app.app_context():
        (row,) = db.execute_now(sa.select(OneTimeToken.__table__))
    assert mailbox.token("register") not in str(row)
    assert len(row.digest) == 64
