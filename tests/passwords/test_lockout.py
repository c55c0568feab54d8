"""Guessing at one account: promise S12, and that it costs honest people nothing."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import time_machine
from argon2 import PasswordHasher
from flask import Flask
from werkzeug.security import generate_password_hash
from werkzeug.test import TestResponse

from tests.conftest import Servers
from tests.support.app import PASSWORD, create_user, make_app
from tests.support.client import Response
from tests.support.concurrency import wait_until
from tests.support.server import Server
from tokenapp import accounts, db, errors
from tokenapp.models import AuditEvent, Throttle, User
from tokenapp.passwords import hashing
from tokenapp.throttle import lockout

WRONG = "not the password at all"
FREE = lockout.FREE_FAILURES + 1
WAITS = [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]
FULL_WIDTH = "STRASSE-FI".translate({code: code + 0xFEE0 for code in range(0x21, 0x7F)})
LONG_AGO = datetime(2021, 1, 1, tzinfo=UTC)
START = datetime(2031, 5, 6, 7, 8, 30, tzinfo=UTC)


@pytest.fixture
def app(database_url: str) -> Iterator[Flask]:
    """Give the application with no limit on this one address that would get in the way."""
    app = make_app(database_url, TOKENAPP_ADDRESS_FAILURES="100000")
    yield app
    with app.app_context():
        db.db.engine.dispose()


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    """Stop the clock; the test moves it on."""
    with time_machine.travel(START, tick=False) as traveller:
        yield traveller


def login(app: Flask, username: str = "alice", password: str = WRONG) -> TestResponse:
    return app.test_client().post("/api/login", json={"username": username, "password": password})


def fail(app: Flask, times: int, username: str = "alice") -> None:
    for _ in range(times):
        assert login(app, username).status_code == 401


def lock(app: Flask, username: str = "alice") -> None:
    """Fail a hundred times, each as soon as it is allowed, by ageing the row instead of waiting."""
    fail(app, FREE, username)
    for _ in range(lockout.LOCK_AFTER - FREE):
        age(app, lockout.LONGEST_WAIT)
        fail(app, 1, username)


def age(app: Flask, by: timedelta) -> None:
    with app.app_context():
        last = db.execute_now(sa.select(Throttle.last_failed_at))[0][0]
        db.execute_now(sa.update(Throttle).values(last_failed_at=last - by))


@contextmanager
def full_hash_queue() -> Iterator[None]:
    """Take all places in the queue before the hashing pool."""
    with ExitStack() as taken:
        while hashing._places.acquire(blocking=False):
            taken.callback(hashing._places.release)
        yield


def verified(app: Flask) -> int:
    """Count the passwords that were looked at and found wrong."""
    with app.app_context():
        return int(db.execute_now(sa.select(sa.func.count()).where(AuditEvent.kind == "sign_in_failed"))[0][0])


def all_at_once(calls: list[Callable[[], Response]]) -> Counter[int]:
    with ThreadPoolExecutor(len(calls)) as pool:
        return Counter(reply.status for reply in pool.map(lambda call: call(), calls))


def without_request_id(reply: TestResponse) -> tuple[int, dict[str, Any], dict[str, Any]]:
    body = json.loads(reply.data)
    headers = {name: value for name, value in reply.headers if name not in {"X-Request-ID", "RateLimit-Remaining"}}
    assert body.pop("requestId")
    return reply.status_code, headers, body


def test_from_the_fifth_failure_on_each_brings_a_longer_wait(app: Flask, clock: time_machine.Traveller) -> None:
    create_user(app)
    fail(app, FREE)
    for wait in WAITS:
        refused = login(app, password=PASSWORD)
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, str(wait))
        clock.shift(wait - 1)
        assert login(app).headers["Retry-After"] == "1"
        clock.shift(1)
        fail(app, 1)


def test_a_refused_attempt_does_not_lengthen_the_wait(app: Flask, clock: time_machine.Traveller) -> None:
    create_user(app)
    fail(app, FREE)
    clock.shift(29)
    assert login(app).status_code == 429
    clock.shift(1)
    assert login(app, password=PASSWORD).status_code == 200


def test_a_refused_attempt_looks_at_no_password(app: Flask) -> None:
    create_user(app)
    fail(app, FREE)
    assert {login(app).status_code for _ in range(10)} == {429}
    assert verified(app) == FREE


@pytest.mark.parametrize("left", ["0.001", "0.999", "1", "1.001", "29.5", "30"])
def test_retry_after_is_the_rest_of_the_wait_rounded_up(app: Flask, clock: time_machine.Traveller, left: str) -> None:
    create_user(app)
    fail(app, FREE)
    clock.shift(30 - float(left))
    assert int(login(app).headers["Retry-After"]) == -int(-float(left) // 1)


def test_the_right_password_makes_all_failures_forgotten(app: Flask) -> None:
    create_user(app)
    for _ in range(3):
        fail(app, FREE - 1)
        assert login(app, password=PASSWORD).status_code == 200
    with app.app_context():
        assert not db.execute_now(sa.select(Throttle.account))


def test_after_a_hundred_failures_not_even_the_right_password_is_looked_at(app: Flask) -> None:
    create_user(app)
    lock(app)
    age(app, timedelta(days=1000))
    assert login(app, password=PASSWORD).status_code == 429
    assert verified(app) == lockout.LOCK_AFTER


def test_one_failure_before_the_lock_the_right_password_is_still_good(app: Flask) -> None:
    create_user(app)
    fail(app, 1)
    with app.app_context():
        db.execute_now(sa.update(Throttle).values(failures=lockout.LOCK_AFTER - 1, last_failed_at=LONG_AGO))
    assert login(app, password=PASSWORD).status_code == 200


def test_an_operator_unlocks_an_account(app: Flask) -> None:
    create_user(app)
    lock(app)
    with app.app_context():
        accounts.unlock(accounts.find("alice"), datetime.now(UTC))
        records = db.execute_now(sa.select(AuditEvent.id).where(AuditEvent.kind == "user_unlocked"))
    assert login(app, password=PASSWORD).status_code == 200
    assert len(records) == 1


def test_a_new_password_unlocks_an_account(app: Flask) -> None:
    create_user(app)
    lock(app)
    with app.app_context():
        accounts.set_password(accounts.find("alice"), "an entirely new one 42", datetime.now(UTC))
    assert login(app, password="an entirely new one 42").status_code == 200


def test_spellings_of_one_name_share_their_failures(app: Flask) -> None:
    create_user(app, "straße-ﬁ")
    for spelling in ("straße-ﬁ", "STRASSE-FI", " strasse-fi ", FULL_WIDTH, "Straße-Fi"):
        fail(app, 1, spelling)
    assert {login(app, name).status_code for name in ("strasse-fi", "STRAẞE-FI")} == {429}


def test_names_that_nobody_has_are_answered_as_those_of_people(app: Flask, clock: time_machine.Traveller) -> None:
    create_user(app, "alice")
    create_user(app, "carol")
    with app.app_context():
        accounts.disable(accounts.find("carol"), datetime.now(UTC))
    for _ in range(lockout.LOCK_AFTER // 6):
        answers = [without_request_id(login(app, name)) for name in ("alice", "nobody", "carol")]
        assert answers[0] == answers[1] == answers[2]
        clock.shift(7 if answers[0][0] == 401 else int(answers[0][1]["Retry-After"]))
    password_of_a_disabled_user = without_request_id(login(app, "carol", PASSWORD))
    assert password_of_a_disabled_user == without_request_id(login(app, "nobody", PASSWORD))


def test_one_account_does_not_slow_another(app: Flask) -> None:
    create_user(app, "alice")
    create_user(app, "bob")
    fail(app, FREE, "alice")
    assert login(app, "alice").status_code == 429
    assert login(app, "bob", PASSWORD).status_code == 200


def test_sessions_of_a_locked_account_go_on(app: Flask) -> None:
    create_user(app)
    owner = app.test_client()
    access = owner.post("/api/login", json={"username": "alice", "password": PASSWORD}).json
    assert access is not None
    lock(app)
    assert owner.get("/api/protected", headers={"Authorization": f"Bearer {access['accessToken']}"}).status_code == 200
    assert owner.post("/api/token").status_code == 200


def test_an_attempt_that_nobody_had_time_for_does_not_count(app: Flask) -> None:
    create_user(app)
    fail(app, FREE - 1)
    with full_hash_queue():
        assert [login(app, password=PASSWORD).status_code for _ in range(9)] == [503] * 9
    assert login(app, password=PASSWORD).status_code == 200


def test_a_hash_that_takes_too_long_does_not_count(app: Flask) -> None:
    slow = PasswordHasher(time_cost=1, memory_cost=65536, parallelism=1).hash(PASSWORD).replace(",t=1,", ",t=100,")
    create_user(app)
    with app.app_context():
        db.execute_now(sa.update(User).values(password_hash=slow))
    assert [login(app, password=PASSWORD).status_code for _ in range(2)] == [503] * 2
    with app.app_context():
        assert db.execute_now(sa.select(Throttle.failures)) in ([], [(0,)])
    wait_until(lambda: login(app, "nobody").status_code == 401, seconds=30, what="the end of the slow hashes")


def test_what_is_withdrawn_leaves_the_account_as_open_as_it_was(app: Flask) -> None:
    now = datetime.now(UTC)
    with app.app_context():
        for failures in range(1, FREE + 3):
            assert lockout.count_attempt("password", "dora", now) == failures
            lockout.undo_attempt("password", "dora", failures, now)
            assert lockout.count_attempt("password", "dora", now) == failures
            now += lockout.LONGEST_WAIT


def test_what_is_withdrawn_takes_nothing_from_an_attempt_that_came_after(app: Flask) -> None:
    now = datetime.now(UTC)
    with app.app_context():
        for failures in (1, 2):
            assert lockout.count_attempt("password", "dora", now) == failures
        lockout.undo_attempt("password", "dora", 1, now)
        assert lockout.count_attempt("password", "dora", now) == 3


def test_the_table_holds_no_name(app: Flask) -> None:
    fail(app, 1, "canary-password-in-the-wrong-field")
    with app.app_context():
        stored = db.execute_now(sa.select(Throttle.account))[0][0]
    assert "canary" not in stored


def test_pruning_forgets_what_is_long_over_and_nothing_that_still_counts(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lockout, "PRUNE_BATCH", 2)
    now = datetime.now(UTC)
    ages = {f"old{number}": (5, 31) for number in range(5)} | {"locked": (100, 400), "recent": (5, 29)}
    with app.app_context():
        for account, (failures, days) in ages.items():
            row = {"account": account, "failures": failures, "last_failed_at": now - timedelta(days=days)}
            db.execute_now(sa.insert(Throttle).values(row))
        assert lockout.prune(now, timedelta(days=30)) == 5
        assert {row[0] for row in db.execute_now(sa.select(Throttle.account))} == {"locked", "recent"}


def test_pruning_cuts_no_wait_short(app: Flask) -> None:
    now = datetime.now(UTC)
    with app.app_context():
        for _ in range(20):
            lockout.count_attempt("password", "dora", now)
            now += lockout.LONGEST_WAIT
        now -= lockout.LONGEST_WAIT
        assert lockout.prune(now + timedelta(minutes=59), timedelta(0)) == 0
        with pytest.raises(errors.TooManyAttempts):
            lockout.count_attempt("password", "dora", now + timedelta(minutes=59))


def test_of_200_guesses_at_once_over_four_workers_only_the_free_ones_are_looked_at(
    app: Flask, database_url: str, tmp_path: Path
) -> None:
    create_user(app)
    settings = {
        "WEB_CONCURRENCY": "4",
        "TOKENAPP_ADDRESS_FAILURES": "100000",
        "TOKENAPP_ISSUER": "http://localhost",
    }
    with Server(database_url, settings, log=tmp_path / "log") as server:
        owner = server.client.login()
        guesses = all_at_once([lambda: server.client.login(password=WRONG) for _ in range(200)])
        assert guesses == {401: FREE, 429: 200 - FREE}
        assert server.client.refresh(owner.cookie).status == 200
        assert server.client.protected(owner.json["accessToken"]).status == 200
    with Server(database_url, settings, log=tmp_path / "log") as server:
        assert server.client.login().status == 429, "a restart changes nothing"
        assert server.client.refresh(owner.cookie).status == 200
    assert verified(app) == FREE


def test_people_who_sign_in_to_one_account_at_once_all_get_in(app: Flask, database_url: str, serve: Servers) -> None:
    create_user(app)
    # Dear enough for many to be at it together; no dearer, or a slow machine would say that it has too much to do.
    hashing = {"TOKENAPP_PASSWORD_MEMORY": "8192", "TOKENAPP_PASSWORD_PASSES": "2"}
    client = serve(database_url, WEB_CONCURRENCY="4", **hashing).client
    assert all_at_once([client.login] * 24) == {200: 24}


def test_a_hash_of_a_former_kind_does_not_count_as_a_failure(app: Flask) -> None:
    create_user(app)
    with app.app_context():
        db.execute_now(sa.update(User).values(password_hash=generate_password_hash(PASSWORD, "pbkdf2:sha256:1000")))
    assert [login(app, password=PASSWORD).status_code for _ in range(6)] == [200] * 6
