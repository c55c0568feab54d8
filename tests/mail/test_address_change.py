"""A new address is proven first, and the previous one can undo the change."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
import time_machine
from flask import Flask

from tests.mail.conftest import register
from tests.support.app import PASSWORD
from tests.support.client import Client, Response
from tests.support.commandline import NEW_PASSWORD, can_sign_in
from tests.support.concurrency import wait_until
from tests.support.mailbox import Mailbox, deliver
from tokenapp import accounts, address_change, db, errors, sessions
from tokenapp.models import OneTimeToken, User

OLD, NEW = "alice@example.com", "alice@example.org"


def post(app: Flask, path: str, **payload: str) -> Response:
    return Client(app).send("POST", f"/api/{path}", payload=payload)


def change(app: Flask, mailbox: Mailbox, client: Client, email: str = NEW) -> Response:
    """Ask for a new address and confirm it."""
    assert client.call("POST", "/api/me/email", payload={"email": email}).status == 202
    deliver(app)
    reply = post(app, "me/email/complete", token=mailbox.token("email"))
    deliver(app)
    return reply


def email_of(client: Client) -> str:
    return str(client.call("GET", "/api/me").json["email"])


def test_address_changes_once_the_new_one_is_proven(app: Flask, mailbox: Mailbox, alice: Client) -> None:
    alice.call("POST", "/api/me/email", payload={"email": NEW})
    deliver(app)
    assert mailbox.recipients()[-1] == NEW
    assert email_of(alice) == OLD
    assert post(app, "me/email/complete", token=mailbox.token("email")).status == 204
    assert email_of(alice) == NEW
    assert can_sign_in(app, NEW)
    assert not can_sign_in(app, OLD)


def test_user_name_that_is_the_address_changes_with_it(app: Flask, mailbox: Mailbox) -> None:
    post(app, "register", email=OLD)
    deliver(app)
    alice = Client(app)
    payload = {"token": mailbox.token("register"), "username": OLD, "password": PASSWORD}
    assert alice.call("POST", "/api/register/complete", payload=payload).status == 200
    for _ in range(6):  # by somebody who guesses
        Client(app).login(NEW, "not the password at all")
    assert change(app, mailbox, alice).status == 204
    assert alice.call("GET", "/api/me").json["username"] == NEW
    assert can_sign_in(app, NEW)
    assert not can_sign_in(app, OLD)
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=2)):
        post(app, "register", email=OLD)  # of the next owner of the address
        deliver(app)
        assert mailbox.recipients()[-1] == OLD
    assert post(app, "email-change/undo", token=mailbox.token("undo")).status == 204
    with app.app_context():
        assert accounts.find(OLD).username == OLD


def test_change_needs_a_fresh_sign_in(app: Flask, alice: Client) -> None:
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=16)):
        assert alice.refresh().status == 200
        reply = alice.call("POST", "/api/me/email", payload={"email": NEW})
    assert reply.code == "reauthentication_required"
    assert Client(app).call("POST", "/api/me/email", payload={"email": NEW}).code == "access_token_missing"


def test_address_of_somebody_else_is_not_revealed(app: Flask, mailbox: Mailbox, alice: Client) -> None:
    register(app, mailbox, "bob")
    mailbox.clear()
    replies = [alice.call("POST", "/api/me/email", payload={"email": each}) for each in ("bob@example.com", NEW)]
    assert replies[0].body == replies[1].body
    deliver(app)
    assert sorted(mailbox.recipients()) == [NEW, "bob@example.com"]
    assert email_of(alice) == OLD


def test_address_that_was_taken_meanwhile_is_an_error(app: Flask, mailbox: Mailbox, alice: Client) -> None:
    alice.call("POST", "/api/me/email", payload={"email": "bob@example.com"})
    deliver(app)
    token = mailbox.token("email")
    register(app, mailbox, "bob")
    assert post(app, "me/email/complete", token=token).code == "address_taken"
    assert email_of(alice) == OLD


def test_previous_address_undoes_the_change(app: Flask, mailbox: Mailbox, alice: Client) -> None:
    assert change(app, mailbox, alice).status == 204
    assert mailbox.recipients()[-1] == OLD
    assert post(app, "email-change/undo", token=mailbox.token("undo")).status == 204
    deliver(app)
    assert alice.refresh().code == "refresh_token_revoked"
    assert not can_sign_in(app)
    reset = {"token": mailbox.token("reset"), "newPassword": NEW_PASSWORD}
    assert mailbox.recipients()[-1] == OLD
    assert post(app, "password-reset/complete", **reset).status == 204
    assert can_sign_in(app, OLD, NEW_PASSWORD)


def test_undo_works_after_the_thief_changes_more(app: Flask, mailbox: Mailbox, alice: Client) -> None:
    change(app, mailbox, alice)
    token = mailbox.token("undo")
    payload = {"currentPassword": PASSWORD, "newPassword": NEW_PASSWORD}
    assert alice.call("PUT", "/api/me/password", payload=payload).status == 204
    alice.login(NEW, NEW_PASSWORD)
    assert change(app, mailbox, alice, "thief@example.net").status == 204
    assert post(app, "email-change/undo", token=token).status == 204
    assert not can_sign_in(app, "alice", NEW_PASSWORD)


def test_address_that_replaced_another_one_does_not_undo_the_undo(app: Flask, mailbox: Mailbox, alice: Client) -> None:
    change(app, mailbox, alice)
    first = mailbox.token("undo")
    change(app, mailbox, alice, "third@example.net")
    second = mailbox.token("undo")
    assert post(app, "email-change/undo", token=first).status == 204
    assert post(app, "email-change/undo", token=second).code == "link_invalid"


def test_thief_who_changes_the_address_twice_cannot_end_the_undo(app: Flask, mailbox: Mailbox, alice: Client) -> None:
    change(app, mailbox, alice)
    first = mailbox.token("undo")
    change(app, mailbox, alice, "third@example.net")
    assert post(app, "email-change/undo", token=mailbox.token("undo")).status == 204
    assert post(app, "email-change/undo", token=first).status == 204
    deliver(app)
    assert mailbox.recipients()[-1] == OLD


def test_change_is_not_asked_for_in_a_session_that_was_just_revoked(
    app: Flask, mailbox: Mailbox, alice: Client
) -> None:
    """Other workers accept its access token for up to a second."""
    user_id, now = alice.call("GET", "/api/me").json["id"], datetime.now(UTC)
    with app.app_context():
        sessions.revoke_all_of(user_id, "password_reset", now)
        with pytest.raises(errors.AccessTokenInvalid):
            address_change.request(user_id, alice.sid, NEW, "client", now)
    assert deliver(app) == 0
    del mailbox


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_link_that_waits_for_its_user_holds_no_lock_on_its_token(app: Flask, mailbox: Mailbox, alice: Client) -> None:
    change(app, mailbox, alice)
    token = mailbox.token("undo")
    with app.app_context(), db.current().engine.connect() as other, ThreadPoolExecutor(1) as pool, other.begin():
        other.execute(sa.select(User.id).with_for_update())  # as a change of the password does first
        undo = pool.submit(post, app, "email-change/undo", token=token)
        waiting = sa.text("SELECT 1 FROM pg_locks WHERE NOT granted")
        wait_until(lambda: bool(other.execute(waiting).all()) or undo.done(), seconds=60)
        free = sa.select(OneTimeToken.purpose).where(OneTimeToken.purpose == "undo").with_for_update(skip_locked=True)
        assert other.execute(free).all(), "each would wait for the other"


@pytest.mark.parametrize(("days", "status"), [(6, 204), (8, 400)])
def test_undo_works_for_7_days(app: Flask, mailbox: Mailbox, alice: Client, days: int, status: int) -> None:
    change(app, mailbox, alice)
    with time_machine.travel(datetime.now(UTC) + timedelta(days=days)):
        assert post(app, "email-change/undo", token=mailbox.token("undo")).status == status


def test_change_of_password_ends_a_pending_change(app: Flask, mailbox: Mailbox, alice: Client) -> None:
    alice.call("POST", "/api/me/email", payload={"email": NEW})
    deliver(app)
    alice.call("PUT", "/api/me/password", payload={"currentPassword": PASSWORD, "newPassword": NEW_PASSWORD})
    assert post(app, "me/email/complete", token=mailbox.token("email")).code == "link_invalid"


def test_change_ends_a_pending_reset(app: Flask, mailbox: Mailbox, alice: Client) -> None:
    post(app, "password-reset", email=OLD)
    deliver(app)
    token = mailbox.token("reset")
    change(app, mailbox, alice)
    assert post(app, "password-reset/complete", token=token, newPassword=NEW_PASSWORD).code == "link_invalid"
