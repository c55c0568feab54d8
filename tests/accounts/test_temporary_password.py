"""A temporary password works once: to choose a new one."""

import pytest
from flask import Flask

from tests.support.app import PASSWORD
from tests.support.client import Client, Response
from tests.support.commandline import NEW_PASSWORD, can_sign_in, create_user, run

TEMPORARY = "a password from the operator"


@pytest.fixture
def temporary(app: Flask) -> Flask:
    """Return the application, where alice has a temporary password."""
    create_user(app)
    run(app, "users", "set-password", "alice", "--temporary", stdin=TEMPORARY + "\n")
    return app


def sign_in_with(app: Flask, **fields: str | None) -> Response:
    return Client(app).send("POST", "/api/login", payload={"username": "alice", "password": TEMPORARY, **fields})


def test_temporary_password_opens_no_session(temporary: Flask) -> None:
    reply = sign_in_with(temporary)
    assert reply.problem == (401, "password_change_required", "Please choose a new password.")
    assert reply.cookie is None


def test_new_password_replaces_it_and_signs_in(temporary: Flask) -> None:
    reply = sign_in_with(temporary, newPassword=NEW_PASSWORD)
    assert reply.status == 200
    assert Client(temporary).protected(bearer=reply.json["accessToken"]).status == 200
    assert can_sign_in(temporary, password=NEW_PASSWORD)
    assert not can_sign_in(temporary, password=TEMPORARY)


@pytest.mark.parametrize("new", ["short", TEMPORARY])
def test_weak_or_equal_password_is_rejected(temporary: Flask, new: str) -> None:
    assert sign_in_with(temporary, newPassword=new).code == "password_rejected"
    assert sign_in_with(temporary).code == "password_change_required"


def test_wrong_password_is_not_told_that_it_is_temporary(temporary: Flask) -> None:
    reply = sign_in_with(temporary, password="a wrong password", newPassword=NEW_PASSWORD)
    assert reply.code == "invalid_credentials"


def test_password_that_is_not_temporary_cannot_be_replaced_at_sign_in(app: Flask) -> None:
    create_user(app)
    assert sign_in_with(app, password=PASSWORD, newPassword=NEW_PASSWORD).code == "invalid_request"
    assert can_sign_in(app)


def test_new_password_of_an_operator_is_not_temporary_by_default(temporary: Flask) -> None:
    run(temporary, "users", "set-password", "alice", stdin=NEW_PASSWORD + "\n")
    assert can_sign_in(temporary, password=NEW_PASSWORD)
