"""A new password by a link in a mail."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
import time_machine
from flask import Flask

from tests.mail.conftest import register
from tests.support import security_keys
from tests.support.access_keys import create_key, exchange
from tests.support.app import PASSWORD, application
from tests.support.authenticator import enrol, pending_of, second_step
from tests.support.client import Client, Response, sign_in
from tests.support.commandline import NEW_PASSWORD, can_sign_in, run
from tests.support.concurrency import wait_until
from tests.support.mailbox import Mailbox, deliver, text_of
from tests.support.service_clients import register as register_service
from tokenapp import accounts, db
from tokenapp.models import User

ADDRESS = "alice@example.com"


def ask(app: Flask, email: str = ADDRESS) -> Response:
    return Client(app).send("POST", "/api/password-reset", payload={"email": email})


def complete(app: Flask, token: str, password: str = NEW_PASSWORD) -> Response:
    payload = {"token": token, "newPassword": password}
    return Client(app).send("POST", "/api/password-reset/complete", payload=payload)


def token_for(app: Flask, mailbox: Mailbox, email: str = ADDRESS) -> str:
    assert ask(app, email).status == 202
    deliver(app)
    return mailbox.token("reset")


def test_reset_replaces_the_password(app: Flask, mailbox: Mailbox, alice: Client) -> None:
    del alice
    reply = complete(app, token_for(app, mailbox))
    assert (reply.status, reply.body, reply.cookie) == (204, b"", None)
    assert can_sign_in(app, password=NEW_PASSWORD)
    assert not can_sign_in(app)


def test_reset_revokes_every_session(app: Flask, mailbox: Mailbox, alice: Client) -> None:
    other = sign_in(app)
    assert complete(app, token_for(app, mailbox)).status == 204
    assert {client.refresh().code for client in (alice, other)} == {"refresh_token_revoked"}
    shown = run(app, "sessions", "why", other.sid).stdout
    assert "link that was mailed" in shown


def test_reset_leaves_other_users_alone(app: Flask, mailbox: Mailbox, alice: Client) -> None:
    del alice
    bob = register(app, mailbox, "bob")
    assert complete(app, token_for(app, mailbox)).status == 204
    assert bob.refresh().status == 200
    assert can_sign_in(app, "bob")


def test_unknown_address_gets_no_mail(app: Flask, mailbox: Mailbox) -> None:
    ask(app, "unknown@example.com")
    deliver(app)
    assert mailbox.attempts == 0


def test_link_works_once(app: Flask, mailbox: Mailbox, alice: Client) -> None:
    del alice
    token = token_for(app, mailbox)
    assert [complete(app, token, f"{NEW_PASSWORD} {number}").status for number in range(3)] == [204, 400, 400]
    assert can_sign_in(app, password=f"{NEW_PASSWORD} 0")


@pytest.mark.parametrize(("minutes", "status"), [(59, 204), (61, 400)])
def test_link_works_for_an_hour(app: Flask, mailbox: Mailbox, alice: Client, minutes: int, status: int) -> None:
    del alice
    token = token_for(app, mailbox)
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=minutes)):
        assert complete(app, token).status == status


def test_link_still_works_after_a_weak_password(app: Flask, mailbox: Mailbox, alice: Client) -> None:
    del alice
    token = token_for(app, mailbox)
    assert complete(app, token, "short").code == "password_rejected"
    assert complete(app, token).status == 204


@pytest.mark.parametrize("change", ["password", "operator", "disabled", "disabled and enabled", "deleted"])
def test_link_ends_with_a_change_of_the_account(app: Flask, mailbox: Mailbox, alice: Client, change: str) -> None:
    token = token_for(app, mailbox)
    if change == "password":
        payload = {"currentPassword": PASSWORD, "newPassword": "another long passphrase 17"}
        assert alice.call("PUT", "/api/me/password", payload=payload).status == 204
    elif change == "operator":
        run(app, "users", "set-password", "alice", stdin="another long passphrase 17\n")
    elif change == "deleted":
        run(app, "users", "delete", "alice", "--yes")
    else:
        run(app, "users", "disable", "alice")
        if change == "disabled and enabled":
            run(app, "users", "enable", "alice")
    assert complete(app, token).code == "link_invalid"
    assert not can_sign_in(app, password=NEW_PASSWORD)


def test_disabled_user_gets_no_mail(app: Flask, mailbox: Mailbox, alice: Client) -> None:
    del alice
    run(app, "users", "disable", "alice")
    mailbox.clear()
    assert ask(app).status == 202
    deliver(app)
    assert mailbox.recipients() == []


def test_reset_proves_an_address_that_an_operator_gave(app: Flask, mailbox: Mailbox) -> None:
    with app.app_context():
        accounts.create(accounts.NewUser("alice", PASSWORD, email=ADDRESS), datetime.now(UTC))
    assert not can_sign_in(app, ADDRESS)
    assert complete(app, token_for(app, mailbox)).status == 204
    assert can_sign_in(app, ADDRESS, NEW_PASSWORD)


def test_reset_unlocks_a_locked_account(app: Flask, mailbox: Mailbox, alice: Client) -> None:
    del alice
    for _ in range(5):
        Client(app).login(password="a wrong password")
    assert Client(app).login(ADDRESS).status == 429
    assert complete(app, token_for(app, mailbox)).status == 204
    assert can_sign_in(app, password=NEW_PASSWORD)


@pytest.mark.parametrize("verified", [True, False])
def test_reset_leaves_second_factors(app: Flask, mailbox: Mailbox, verified: bool) -> None:  # noqa: FBT001 -- a case
    with app.app_context():
        new = accounts.NewUser("alice", PASSWORD, email=ADDRESS, email_verified=verified)
        accounts.create(new, datetime.now(UTC))
    authenticator, pending = enrol(sign_in(app)), pending_of(app)
    assert complete(app, token_for(app, mailbox)).status == 204
    client = Client(app)
    assert second_step(client, pending, authenticator.code()).code == "sign_in_expired"
    for code, method in (authenticator.code(), "totp"), (authenticator.recovery_codes[0], "recovery_code"):
        assert second_step(client, pending_of(app, password=NEW_PASSWORD), code, method).status == 200


def test_reset_leaves_passkeys(app: Flask, mailbox: Mailbox, alice: Client) -> None:
    device = security_keys.Authenticator()
    security_keys.register(alice, device)
    assert complete(app, token_for(app, mailbox)).status == 204
    pending_of(app, password=NEW_PASSWORD)
    assert security_keys.sign_in_with(Client(app), device).status == 200


def test_reset_revokes_access_keys_and_their_tokens(app: Flask, mailbox: Mailbox, alice: Client) -> None:
    key = str(create_key(alice)["key"])
    token = exchange(app, key)
    assert Client(app).protected(token).status == 200
    assert complete(app, token_for(app, mailbox)).status == 204
    assert Client(app).send("POST", "/api/token", bearer=key).status == 403
    wait_until(lambda: Client(app).protected(token).status == 403, what="the end of the token")


def test_tokens_are_rejected_when_the_revocation_delay_has_passed(
    app: Flask, database_url: str, mailbox: Mailbox, alice: Client
) -> None:
    key, link = create_key(alice), token_for(app, mailbox)
    tokens = [alice.token, exchange(app, key["key"])]
    service, delay = register_service(app), app.config["TOKENAPP"].revocation_delay
    with (
        time_machine.travel(datetime.now(UTC), tick=False) as clock,
        application(database_url, TOKENAPP_SMTP_URL=mailbox.url) as another,
    ):
        processes = [Client(app), Client(another)]
        assert {each.protected(token).status for each in processes for token in tokens} == {200}
        assert complete(app, link).status == 204
        listed = {item["sid"] for item in service.feed().json["items"]}
        clock.shift(delay)
        assert {each.protected(token).status for each in processes for token in tokens} == {403}
    assert listed == {alice.sid, key["id"]}, "services that follow the feed learn it at their next read"


def test_reset_is_an_audit_event_without_the_token(app: Flask, mailbox: Mailbox, alice: Client) -> None:
    del alice
    token = token_for(app, mailbox)
    complete(app, token)
    listed = run(app, "events", "list", "--json").stdout
    assert token not in listed
    assert '"password_changed"' in listed
    assert '"reset"' in listed


def test_mail_goes_to_the_stored_address_and_names_the_user(app: Flask, mailbox: Mailbox, alice: Client) -> None:
    del alice
    mailbox.clear()
    ask(app, "\uff21LICE@Example.com")
    deliver(app)
    assert mailbox.recipients() == [ADDRESS]
    assert "alice" in text_of(mailbox.messages[0])


def test_registration_token_does_not_reset_a_password(app: Flask, mailbox: Mailbox, alice: Client) -> None:
    del alice
    Client(app).send("POST", "/api/register", payload={"email": "bob@example.com"})
    deliver(app)
    assert complete(app, mailbox.token("register")).code == "link_invalid"
    with app.app_context():
        assert len(db.execute_now(sa.select(User.id))) == 1
