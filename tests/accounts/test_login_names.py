"""User names and verified addresses share one namespace."""

from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from tests.support.app import PASSWORD, create_user
from tests.support.client import Client, sign_in
from tests.support.commandline import error_of, run, run_json
from tests.support.concurrency import at_once
from tokenapp import accounts, db, errors
from tokenapp.models import LoginName, User

NOW = datetime.now(UTC)
STDIN = PASSWORD + "\n"


def create(app: Flask, username: str, **more: Any) -> User:
    """Create a user."""
    with app.app_context():
        return accounts.create(accounts.NewUser(username, PASSWORD, **more), NOW)


@pytest.mark.parametrize("name", ["alice", "alice@example.com", "ALICE@Example.com"])
def test_user_signs_in_by_name_or_verified_address(app: Flask, name: str) -> None:
    create(app, "alice", email="Alice@example.com", email_verified=True)
    assert sign_in(app, name).protected().json["message"].startswith("Welcome, alice!")


def test_nobody_signs_in_by_an_address_that_is_not_verified(app: Flask) -> None:
    create(app, "alice", email="alice@example.com")
    assert Client(app).login("alice@example.com").problem == Client(app).login("nobody").problem


@pytest.mark.parametrize("verified", [True, False])
def test_address_of_another_user_is_taken(app: Flask, *, verified: bool) -> None:
    create(app, "alice", email="alice@example.com", email_verified=verified)
    with pytest.raises(errors.AddressTaken):
        create(app, "bob", email="ALICE@example.com")
    with pytest.raises(errors.UsernameTaken):
        create(app, "alice@example.com")


def test_name_of_another_user_is_taken_as_an_address(app: Flask) -> None:
    create(app, "alice@example.com")
    with pytest.raises(errors.AddressTaken):
        create(app, "bob", email="alice@example.com")


def test_address_can_be_the_name_of_its_user(app: Flask) -> None:
    create(app, "alice@example.com", email="Alice@example.com")
    sign_in(app, "alice@example.com")


def test_one_of_two_concurrent_users_gets_the_name(app: Flask) -> None:
    def attempt(**new: Any) -> str:
        try:
            create(app, **new)
        except (errors.UsernameTaken, errors.AddressTaken):
            return "taken"
        return "created"

    users = [{"username": f"user{number}", "email": "same@example.com"} for number in range(3)]
    results = at_once(*(lambda new=new: attempt(**new) for new in users), lambda: attempt(username="same@example.com"))
    assert sorted(results) == ["created", "taken", "taken", "taken"]
    with app.app_context():
        assert len(db.execute_now(sa.select(LoginName.name).where(LoginName.name == "same@example.com"))) == 1


def test_both_names_share_the_waits_after_wrong_passwords(app: Flask) -> None:
    create(app, "alice", email="alice@example.com", email_verified=True)
    names = ["alice", "alice@example.com"] * 3
    statuses = [Client(app).login(name, "a wrong password").status for name in names]
    assert statuses == [401] * 5 + [429]


def test_account_shows_the_address(app: Flask) -> None:
    create(app, "alice", email="alice@example.com", locale="de")
    account = sign_in(app).call("GET", "/api/me").json
    assert (account["email"], account["locale"]) == ("alice@example.com", "de")
    assert "emailVerifiedAt" not in account


def test_operator_creates_a_user_with_an_address(app: Flask) -> None:
    run(app, "users", "create", "alice", "--email", "Alice@example.com", "--email-verified", stdin=STDIN)
    shown = run_json(app, "users", "show", "alice@EXAMPLE.com")
    assert (shown["username"], shown["email"]) == ("alice", "Alice@example.com")
    assert shown["emailVerifiedAt"] == shown["createdAt"]


def test_operator_cannot_give_an_address_twice(app: Flask) -> None:
    create(app, "alice", email="alice@example.com")
    refused = run(app, "users", "create", "bob", "--email", "alice@example.com", "--if-missing", code=1)
    assert error_of(refused) == "Another account has this e-mail address."


def test_operator_cannot_give_a_malformed_address(app: Flask) -> None:
    refused = run(app, "users", "create", "bob", "--email", "bob@localhost", code=1)
    assert error_of(refused) == errors.AddressRejected.message


def test_verification_needs_an_address(app: Flask) -> None:
    assert "--email" in run(app, "users", "create", "bob", "--email-verified", code=2).stderr


def test_names_are_deleted_with_their_user(app: Flask) -> None:
    create_user(app)
    with app.app_context():
        db.execute_now(sa.delete(User))
        assert db.execute_now(sa.select(LoginName.name)) == []
