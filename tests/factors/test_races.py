"""One code signs in once, over the processes of two servers (F1, F2, F3)."""

import os
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import pytest
import time_machine
from flask import Flask

from tests.conftest import Databases
from tests.support.app import application, create_user
from tests.support.authenticator import (
    Authenticator,
    enrol,
    pending_of,
    pending_sign_ins,
    second_step,
    stopped_clock,
)
from tests.support.client import Client, sign_in
from tests.support.concurrency import at_once
from tests.support.server import Server

ROUNDS = int(os.environ.get("FACTOR_ROUNDS", "2"))
WORKERS = os.environ.get("FACTOR_WORKERS", "2")
CLIENTS = 20
# 503 is the response to a client that waited too long for the database.
LOST = {401, 429, 503}


class Servers(NamedTuple):
    """Two servers on one database, and the application in this process."""

    app: Flask
    ports: tuple[int, int]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def servers(
    request: pytest.FixtureRequest, databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Servers]:
    """Start two servers of two or more workers each on one database."""
    url, folder = databases(request.param), tmp_path_factory.mktemp("factors")
    settings = {"WEB_CONCURRENCY": WORKERS, "TOKENAPP_THREADS": "8"}
    with (
        application(url) as app,
        Server(url, settings, log=folder / "one.log") as one,
        Server(url, settings, log=folder / "two.log") as two,
    ):
        yield Servers(app, (one.port, two.port))


def user_with_a_factor(app: Flask) -> tuple[str, Authenticator]:
    """Create a user with an authenticator app; return the name and the app."""
    name = f"user-{uuid4().hex[:12]}"
    create_user(app, name)
    return name, enrol(sign_in(app, name))


def use_at_once(servers: Servers, *attempts: tuple[str, str, str]) -> Counter[int]:
    """Take second steps at once, on both servers in turn; count the statuses.

    Each has a pending sign-in, a code and a method.
    """
    clients = [Client(servers.ports[number % 2], timeout=60) for number in range(len(attempts))]
    calls = [partial(second_step, client, *attempt) for client, attempt in zip(clients, attempts, strict=True)]
    return Counter(response.status for response in at_once(*calls))


@pytest.mark.parametrize("method", ["totp", "recovery_code"])
def test_one_of_many_uses_of_a_code_signs_in(servers: Servers, method: str) -> None:
    for _ in range(ROUNDS):
        name, authenticator = user_with_a_factor(servers.app)
        waiting = pending_sign_ins(servers.app, name, CLIENTS)
        code = authenticator.code() if method == "totp" else authenticator.recovery_codes[0]
        statuses = use_at_once(servers, *((pending, code, method) for pending in waiting))
        assert statuses.pop(200) == 1
        assert set(statuses) <= LOST


def test_one_of_many_uses_of_a_pending_sign_in_signs_in(servers: Servers) -> None:
    name, authenticator = user_with_a_factor(servers.app)
    (pending,) = pending_sign_ins(servers.app, name, 1)
    codes = authenticator.recovery_codes
    assert use_at_once(servers, *((pending, code, "recovery_code") for code in codes))[200] == 1


def test_wrong_codes_at_once_count_over_all_pending_sign_ins(servers: Servers) -> None:
    name, authenticator = user_with_a_factor(servers.app)
    waiting, wrong = pending_sign_ins(servers.app, name, 50), authenticator.wrong
    statuses = use_at_once(servers, *((pending, wrong, "totp") for pending in waiting))
    assert statuses[401] <= 5
    assert set(statuses) <= LOST


def test_wrong_codes_count_over_all_pending_sign_ins(app: Flask, authenticator: Authenticator) -> None:
    with stopped_clock():
        waiting = pending_sign_ins(app, "alice", 50)
        wrong = [second_step(Client(app), pending, authenticator.wrong).status for pending in waiting]
        assert wrong == [401] * 5 + [429] * 45
        assert second_step(Client(app), waiting[0], authenticator.code()).status == 429


def test_code_of_the_previous_step_and_then_of_this_one(app: Flask, authenticator: Authenticator) -> None:
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=10)), stopped_clock():
        codes = [authenticator.code(offset) for offset in (-1, 0, -1, 0)]
        responses = [second_step(Client(app), pending_of(app), code) for code in codes]
    assert [each.status for each in responses] == [200, 200, 401, 401]
    assert [each.code for each in responses[2:]] == ["invalid_code"] * 2


@pytest.mark.parametrize("offset", [-2, 2])
def test_code_of_another_time_is_wrong(app: Flask, authenticator: Authenticator, offset: int) -> None:
    with stopped_clock():
        assert second_step(Client(app), pending_of(app), authenticator.code(offset)).code == "invalid_code"


@pytest.mark.parametrize("zero", [" 0", "0-", "\uff10", "\u0660", "\u06f0"])
def test_digits_of_other_scripts_and_spaces(app: Flask, authenticator: Authenticator, zero: str) -> None:
    digit = zero.strip("- ")
    typed = "".join(zero.replace(digit, chr(ord(digit) + int(char))) for char in authenticator.code())
    assert second_step(Client(app), pending_of(app), typed).status == 200


def test_cookie_of_before_the_sign_in_is_replaced(app: Flask, authenticator: Authenticator) -> None:
    before = Client(app)
    assert second_step(before, pending_of(app), authenticator.recovery_codes[0], "recovery_code").status == 200
    planted = before.cookie
    assert second_step(before, pending_of(app), authenticator.code()).status == 200
    assert before.cookie != planted
    assert before.refresh(planted).code == "refresh_token_revoked"


def test_secret_and_codes_are_not_stored_in_clear(tmp_path: Path, databases: Databases) -> None:
    url = databases("sqlite")
    with application(url) as app:
        name, authenticator = user_with_a_factor(app)
        pending = pending_of(app, name)
    del tmp_path
    path = Path(url.removeprefix("sqlite:///"))
    stored = b"".join(each.read_bytes() for each in path.parent.glob(f"{path.name}*"))
    for secret in (authenticator.secret, pending, *authenticator.recovery_codes):
        assert secret.encode() not in stored
        assert secret.replace("-", "").upper().encode() not in stored
