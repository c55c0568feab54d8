"""A temporary password of a user with a second factor changes nothing alone."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from flask import Flask

from tests.support.app import application, create_user
from tests.support.authenticator import Authenticator, pending_of, second_step
from tests.support.client import Client, Response
from tests.support.commandline import NEW_PASSWORD, run, run_json

TEMPORARY = "a password from the operator"
OTHER = "another password of a thief"
SHORT = "vK9#xq!L"


@pytest.fixture
def temporary(app: Flask, authenticator: Authenticator) -> Authenticator:
    """Return the app of alice, who has a temporary password."""
    run(app, "users", "set-password", "alice", "--temporary", stdin=TEMPORARY + "\n")
    return authenticator


@pytest.fixture
def requiring(database_url: str) -> Iterator[Flask]:
    """Return an application that requires a factor, with alice, who has none."""
    with application(database_url, TOKENAPP_SECOND_FACTOR="required") as app:
        create_user(app)
        run(app, "users", "set-password", "alice", "--temporary", stdin=TEMPORARY + "\n")
        yield app


def replace(app: Flask, new: str = NEW_PASSWORD) -> Response:
    payload = {"username": "alice", "password": TEMPORARY, "newPassword": new}
    return Client(app).send("POST", "/api/login", payload=payload)


def is_temporary(app: Flask) -> bool:
    return Client(app).login(password=TEMPORARY).code == "password_change_required"


def test_new_password_waits_for_the_second_factor(app: Flask, temporary: Authenticator) -> None:
    response = replace(app)
    assert (response.code, response.cookie) == ("second_factor_required", None)
    assert is_temporary(app)
    assert Client(app).login(password=NEW_PASSWORD).code == "invalid_credentials"
    client = Client(app)
    assert second_step(client, response.json["pending"], temporary.code()).status == 200
    assert client.refresh().status == 200
    assert Client(app).login(password=TEMPORARY).code == "invalid_credentials"
    pending = pending_of(app, password=NEW_PASSWORD)
    assert second_step(Client(app), pending, temporary.recovery_codes[0], "recovery_code").status == 200


def test_wrong_code_changes_no_password(app: Flask, temporary: Authenticator) -> None:
    assert second_step(Client(app), replace(app).json["pending"], temporary.wrong).code == "invalid_code"
    assert is_temporary(app)


def test_late_code_changes_no_password(app: Flask, temporary: Authenticator) -> None:
    pending = replace(app).json["pending"]
    with time_machine.travel(datetime.now(UTC) + timedelta(seconds=301)):
        assert second_step(Client(app), pending, temporary.code()).code == "sign_in_expired"
    assert is_temporary(app)


def test_confirmed_password_ends_other_replacements(app: Flask, temporary: Authenticator) -> None:
    of_the_thief, own = replace(app, OTHER).json["pending"], replace(app).json["pending"]
    assert second_step(Client(app), own, temporary.code()).status == 200
    code = temporary.recovery_codes[0]
    assert second_step(Client(app), of_the_thief, code, "recovery_code").code == "sign_in_expired"
    pending_of(app, password=NEW_PASSWORD)


def test_another_temporary_password_ends_the_replacement(app: Flask, temporary: Authenticator) -> None:
    pending = replace(app).json["pending"]
    run(app, "users", "set-password", "alice", "--temporary", stdin=TEMPORARY + "\n")
    assert second_step(Client(app), pending, temporary.code()).code == "sign_in_expired"
    assert is_temporary(app)


def test_short_password_is_not_left_without_the_factor(app: Flask, temporary: Authenticator) -> None:
    pending = replace(app, SHORT).json["pending"]
    run(app, "users", "reset-factors", "alice", "--yes")
    assert second_step(Client(app), pending, temporary.code()).code == "sign_in_expired"
    assert replace(app, SHORT).code == "password_rejected"
    assert replace(app).status == 200


def test_each_replacement_is_one_audit_event(app: Flask, temporary: Authenticator) -> None:
    replace(app, OTHER)
    second_step(Client(app), replace(app).json["pending"], temporary.code())
    events = run_json(app, "events", "list", "--json")
    assert [each["actor"] for each in events if each["kind"] == "password_changed"] == ["operator", "request"]


def test_new_password_waits_for_the_factor_that_is_set_up(requiring: Flask) -> None:
    pending = replace(requiring).json["pending"]
    started = Client(requiring).send("POST", "/api/login/setup/totp", payload={"pending": pending}).json
    authenticator = Authenticator(started["secret"])
    assert second_step(Client(requiring), pending, authenticator.wrong).code == "invalid_code"
    assert is_temporary(requiring)
    assert second_step(Client(requiring), pending, authenticator.code()).status == 200
    pending_of(requiring, password=NEW_PASSWORD)
