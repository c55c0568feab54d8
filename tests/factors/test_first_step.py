"""What the first step of a sign-in shows before the password is right."""

from datetime import UTC, datetime, timedelta
from typing import Any

import time_machine
from flask import Flask

from tests.support.app import PASSWORD, create_user
from tests.support.authenticator import enrol
from tests.support.client import Client, sign_in
from tests.support.commandline import run
from tests.support.security_keys import Authenticator as SecurityKey
from tests.support.security_keys import register
from tests.support.statements import statements

SPACING = timedelta(hours=2)  # longer than any wait after a wrong password


def seen_by_a_stranger(app: Flask, username: str, password: str) -> list[tuple[Any, ...]]:
    """Sign in several times; return the responses and statements."""
    results = []
    moment = datetime.now(UTC)
    for number in range(7):
        with time_machine.travel(moment + number * SPACING, tick=False), statements(app) as ran:
            response = Client(app).login(username, password)
        headers = sorted(name for name, _ in response.headers)
        results.append((response.status, {**response.json, "requestId": ""}, headers, ran))
    return results


def test_factor_is_not_shown_until_the_password_is_right(app: Flask) -> None:
    for name in ("plain", "with-app", "with-key", "disabled"):
        create_user(app, name)
    enrol(sign_in(app, "with-app"))
    register(sign_in(app, "with-key"), SecurityKey())
    enrol(sign_in(app, "disabled"))
    run(app, "users", "disable", "disabled")
    plain = seen_by_a_stranger(app, "plain", "a wrong password")
    assert {each[0] for each in plain} == {401}
    assert len(plain[0][-1]) > 3
    assert seen_by_a_stranger(app, "with-app", "a wrong password") == plain
    assert seen_by_a_stranger(app, "with-key", "a wrong password") == plain
    assert seen_by_a_stranger(app, "disabled", PASSWORD) == plain
    assert seen_by_a_stranger(app, "nobody", "a wrong password") == plain
