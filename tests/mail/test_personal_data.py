"""People delete their account, and download what is stored about them."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
import time_machine
from flask import Flask

from tests.mail.conftest import register
from tests.support.app import PASSWORD
from tests.support.authenticator import enrol, pending_of
from tests.support.client import Client
from tests.support.commandline import can_sign_in, run_json
from tests.support.mailbox import Mailbox
from tokenapp import accounts, db, errors, sessions


def dump(app: Flask) -> str:
    """Return all rows of all tables as text."""
    with app.app_context():
        return "\n".join(
            f"{table.name} {tuple(row)}"
            for table in db.Base.metadata.sorted_tables
            for row in db.execute_now(sa.select(table))
        )


def test_account_is_deleted_with_all_personal_data(app: Flask, mailbox: Mailbox, alice: Client) -> None:
    user_id = alice.call("GET", "/api/me").json["id"]
    alice.send("POST", "/api/password-reset", payload={"email": "alice@example.com"})
    reply = alice.call("DELETE", "/api/me")
    assert (reply.status, reply.cookie) == (204, "")
    left = "\n".join(line for line in dump(app).split("\n") if "key_created" not in line)  # of the first request
    for personal in ("alice", "127.0.0.1", "Werkzeug", "'reset'", "known_devices (", "login_names ("):
        assert personal not in left
    assert user_id in left
    assert run_json(app, "users", "list") == []
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=2)):  # one mail a minute to each address
        again = register(app, mailbox, "alice").call("GET", "/api/me").json
    assert again["id"] != user_id


def test_deleted_user_has_no_way_in(app: Flask, alice: Client) -> None:
    cookie = alice.cookie
    alice.call("DELETE", "/api/me")
    assert alice.refresh(cookie).status == 403
    assert not can_sign_in(app)
    assert not can_sign_in(app, "alice@example.com")


def test_deletion_needs_a_recent_sign_in(app: Flask, alice: Client) -> None:
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=16)):
        assert alice.refresh().status == 200
        assert alice.call("DELETE", "/api/me").code == "reauthentication_required"
    assert can_sign_in(app)


def test_export_has_everything_except_secrets(app: Flask, mailbox: Mailbox, alice: Client) -> None:
    other = Client(app)
    other.login()
    other.logout()
    register(app, mailbox, "bob")
    reply = alice.call("GET", "/api/me/export")
    assert reply.header("Content-Disposition") == 'attachment; filename="account.json"'
    export = reply.json
    assert export["account"]["email"] == "alice@example.com"
    assert len(export["sessions"]) == 2
    assert {event["kind"] for event in export["events"]} >= {"user_created", "sign_in", "session_ended"}
    assert [mail["kind"] for mail in export["mails"]] == []
    assert [(link["purpose"], link["email"]) for link in export["links"]] == [("registration", "alice@example.com")]
    for secret in (PASSWORD, "$argon2", "bob", "digest", "jti", "encrypted"):
        assert secret not in reply.text


def test_export_has_the_second_factors(app: Flask, alice: Client) -> None:
    enrol(alice)
    pending_of(app)
    export = alice.call("GET", "/api/me/export").json
    numbers = [len(export[kind]) for kind in ("authenticatorApps", "recoveryCodes", "pendingSignIns")]
    assert numbers == [1, 10, 1]


def test_export_needs_an_access_token(app: Flask) -> None:
    assert Client(app).call("GET", "/api/me/export").code == "access_token_missing"


def test_nothing_is_deleted_in_a_session_that_was_just_revoked(app: Flask, alice: Client) -> None:
    """Other workers accept its access token for up to a second."""
    now = datetime.now(UTC)
    with app.app_context():
        user = accounts.find("alice")
        sessions.revoke_all_of(user.id, "password_reset", now)
        with pytest.raises(errors.AccessTokenInvalid):
            accounts.delete(user, now, sid=alice.sid)
    assert can_sign_in(app)
