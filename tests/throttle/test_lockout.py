"""The lockout of accounts after wrong passwords (promise S12)."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event

import pytest
import sqlalchemy as sa
import time_machine
from flask import Flask
from werkzeug.security import generate_password_hash

from tests.conftest import Servers
from tests.support.app import PASSWORD, create_user
from tests.support.client import Client, Response, sign_in
from tests.support.concurrency import at_once, wait_until
from tests.support.server import Server
from tests.throttle.conftest import WRONG
from tokenapp import accounts, db, errors
from tokenapp.models import AuditEvent, Throttle, User
from tokenapp.passwords import hashing
from tokenapp.throttle import lockout

FREE = lockout.FREE_FAILURES + 1
WAITS = [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]
FULL_WIDTH = "STRASSE-FI".translate({code: code + 0xFEE0 for code in range(0x21, 0x7F)})
LONG_AGO = datetime(2021, 1, 1, tzinfo=UTC)
NEW_PASSWORD = "purple monkey dishwasher"


def login(app: Flask, username: str = "alice", password: str = WRONG) -> Response:
    """Sign in, with a wrong password by default."""
    return Client(app).login(username, password)


def fail(app: Flask, times: int, username: str = "alice") -> None:
    """Fail to sign in so many times."""
    assert [login(app, username).status for _ in range(times)] == [401] * times


def lock(app: Flask, username: str = "alice") -> None:
    """Fail a hundred times; make the last failure older instead of waiting."""
    fail(app, FREE, username)
    for _ in range(lockout.LOCK_AFTER - FREE):
        age(app, lockout.LONGEST_WAIT)
        fail(app, 1, username)


def age(app: Flask, by: timedelta) -> None:
    """Make the last failure older."""
    with app.app_context():
        last = db.execute_now(sa.select(Throttle.last_failed_at))[0][0]
        db.execute_now(sa.update(Throttle).values(last_failed_at=last - by))


@contextmanager
def full_hash_queue(app: Flask) -> Iterator[None]:
    """Occupy all places for requests that hash passwords."""
    with app.app_context():
        places = db.per_process(hashing._Places).free
    with ExitStack() as taken:
        while places.acquire(blocking=False):
            taken.callback(places.release)
        yield


@contextmanager
def busy_hash_pool() -> Iterator[None]:
    """Occupy the threads of the hashing pool, so that no hash is finished."""
    release = Event()
    for _ in range(hashing._POOL_THREADS):
        hashing._pool(os.getpid()).submit(release.wait)
    try:
        yield
    finally:
        release.set()


def checked(app: Flask) -> int:
    """Return the number of passwords that were checked and found wrong."""
    with app.app_context():
        return int(
            db.execute_now(sa.select(sa.func.sum(AuditEvent.count)).where(AuditEvent.kind == "sign_in_failed"))[0][0]
        )


def all_at_once(calls: list[Callable[[], Response]]) -> Counter[int]:
    """Make all calls at once, and each again after a 503; count the statuses.

    A loaded machine responds with 503 if its database is slow. Such an attempt is not counted.
    """

    def status(call: Callable[[], Response]) -> int:
        while (response := call()).status == 503:
            pass
        return response.status

    with ThreadPoolExecutor(len(calls)) as pool:
        return Counter(pool.map(status, calls))


def without_request_id(response: Response) -> tuple[int, list[tuple[str, str]], dict[str, object]]:
    """Return what must be equal for known and unknown users."""
    headers = [item for item in response.headers if item[0] not in {"X-Request-ID", "RateLimit-Remaining"}]
    body = response.json
    assert body.pop("requestId")
    return response.status, headers, body


def test_each_failure_from_the_fifth_doubles_the_wait(app: Flask, clock: time_machine.Traveller) -> None:
    create_user(app)
    fail(app, FREE)
    for wait in WAITS:
        rejected = login(app, password=PASSWORD)
        assert (rejected.status, rejected.header("Retry-After")) == (429, str(wait))
        clock.shift(wait - 1)
        assert login(app).header("Retry-After") == "1"
        clock.shift(1)
        fail(app, 1)


def test_rejected_attempt_does_not_extend_the_wait(app: Flask, clock: time_machine.Traveller) -> None:
    create_user(app)
    fail(app, FREE)
    clock.shift(29)
    assert login(app).status == 429
    clock.shift(1)
    assert login(app, password=PASSWORD).status == 200


def test_rejected_attempt_does_not_check_the_password(app: Flask) -> None:
    create_user(app)
    fail(app, FREE)
    assert {login(app).status for _ in range(10)} == {429}
    assert checked(app) == FREE


@pytest.mark.parametrize("left", ["0.001", "0.999", "1", "1.001", "29.5", "30"])
def test_retry_after_is_the_remaining_wait_rounded_up(app: Flask, clock: time_machine.Traveller, left: str) -> None:
    create_user(app)
    fail(app, FREE)
    clock.shift(30 - float(left))
    assert int(login(app).header("Retry-After") or 0) == -int(-float(left) // 1)


def test_correct_password_clears_the_failures(app: Flask) -> None:
    create_user(app)
    for _ in range(3):
        fail(app, FREE - 1)
        assert login(app, password=PASSWORD).status == 200
    with app.app_context():
        assert not db.execute_now(sa.select(Throttle.account))


def test_account_is_locked_for_a_day_after_a_hundred_failures(app: Flask) -> None:
    create_user(app)
    lock(app)
    age(app, lockout.LOCK_TIME - timedelta(minutes=10))
    assert login(app, password=PASSWORD).status == 429
    assert checked(app) == lockout.LOCK_AFTER
    age(app, timedelta(minutes=10))
    assert login(app, password=PASSWORD).status == 200


def test_correct_password_works_one_failure_before_the_lock(app: Flask) -> None:
    create_user(app)
    fail(app, 1)
    with app.app_context():
        db.execute_now(sa.update(Throttle).values(failures=lockout.LOCK_AFTER - 1, last_failed_at=LONG_AGO))
    assert login(app, password=PASSWORD).status == 200


def test_operator_can_unlock_an_account(app: Flask) -> None:
    create_user(app)
    lock(app)
    with app.app_context():
        accounts.unlock(accounts.find("alice"), datetime.now(UTC))
        recorded = db.execute_now(sa.select(AuditEvent.id).where(AuditEvent.kind == "user_unlocked"))
    assert login(app, password=PASSWORD).status == 200
    assert len(recorded) == 1


def test_new_password_unlocks_an_account(app: Flask) -> None:
    create_user(app)
    lock(app)
    with app.app_context():
        accounts.set_password(accounts.find("alice"), NEW_PASSWORD, datetime.now(UTC))
    assert login(app, password=NEW_PASSWORD).status == 200


def test_spellings_of_one_user_name_share_a_count(app: Flask) -> None:
    create_user(app, "straße-ﬁ")
    for spelling in ("straße-ﬁ", "STRASSE-FI", " strasse-fi ", FULL_WIDTH, "Straße-Fi"):
        fail(app, 1, spelling)
    assert {login(app, name).status for name in ("strasse-fi", "STRAẞE-FI")} == {429}


def test_unknown_and_disabled_users_get_the_same_responses(app: Flask, clock: time_machine.Traveller) -> None:
    create_user(app, "alice")
    create_user(app, "carol")
    with app.app_context():
        accounts.disable(accounts.find("carol"), datetime.now(UTC))
    for _ in range(lockout.LOCK_AFTER // 6):
        responses = [without_request_id(login(app, name)) for name in ("alice", "unknown", "carol")]
        assert responses[0] == responses[1] == responses[2]
        clock.shift(7 if responses[0][0] == 401 else int(dict(responses[0][1])["Retry-After"]))
    password_of_a_disabled_user = without_request_id(login(app, "carol", PASSWORD))
    assert password_of_a_disabled_user == without_request_id(login(app, "unknown", PASSWORD))


def test_other_accounts_are_not_affected(app: Flask) -> None:
    create_user(app, "alice")
    create_user(app, "bob")
    fail(app, FREE, "alice")
    assert login(app, "alice").status == 429
    assert login(app, "bob", PASSWORD).status == 200


@pytest.mark.parametrize("purpose", ["session", "code", "session code"])
def test_name_does_not_count_for_another_purpose(app: Flask, purpose: lockout.Purpose) -> None:
    fail(app, FREE, f"{purpose} 7")
    with app.app_context():
        assert lockout.state(purpose, "7", datetime.now(UTC)).failures == 0


def test_sessions_of_a_locked_account_stay_valid(app: Flask) -> None:
    create_user(app)
    client = sign_in(app)
    lock(app)
    assert client.protected().status == 200
    assert client.refresh().status == 200


def test_attempt_with_a_full_hash_queue_does_not_count(app: Flask) -> None:
    create_user(app)
    fail(app, FREE - 1)
    with full_hash_queue(app):
        assert [login(app, password=PASSWORD).status for _ in range(9)] == [503] * 9
    assert login(app, password=PASSWORD).status == 200


def test_attempt_without_a_timely_hash_does_not_count(app: Flask) -> None:
    create_user(app)

    def leaves_no_count() -> bool:
        with app.app_context():
            db.execute_now(sa.delete(Throttle))
        attempts = at_once(*[lambda: login(app, password=PASSWORD)] * 2)
        assert [attempt.status for attempt in attempts] == [503] * 2
        with app.app_context():
            return db.execute_now(sa.select(Throttle.failures)) in ([], [(0,)])

    with busy_hash_pool():
        # Again if the machine was too slow to undo the attempts within the time of the requests.
        wait_until(leaves_no_count, seconds=60, what="attempts that are undone")
    assert login(app, password=PASSWORD).status == 200


def test_undone_attempt_leaves_no_wait(app: Flask) -> None:
    now = datetime.now(UTC)
    with app.app_context():
        for failures in range(1, FREE + 3):
            assert lockout.count_attempt("password", "dora", now) == failures
            lockout.undo_attempt("password", "dora", failures, now)
            assert lockout.count_attempt("password", "dora", now) == failures
            now += lockout.LONGEST_WAIT


def test_undoing_an_attempt_keeps_later_attempts(app: Flask) -> None:
    now = datetime.now(UTC)
    with app.app_context():
        for failures in (1, 2):
            assert lockout.count_attempt("password", "dora", now) == failures
        lockout.undo_attempt("password", "dora", 1, now)
        assert lockout.count_attempt("password", "dora", now) == 3


def test_user_names_are_not_stored(app: Flask) -> None:
    fail(app, 1, "canary-password-in-the-wrong-field")
    with app.app_context():
        stored = db.execute_now(sa.select(Throttle.account))[0][0]
    assert "canary" not in stored


def test_pruning_deletes_only_old_counts(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lockout, "PRUNE_BATCH", 2)
    now = datetime.now(UTC)
    ages = {f"old{number}": (5, 31) for number in range(5)} | {"past lock": (100, 400), "recent": (5, 29)}
    with app.app_context():
        for account, (failures, days) in ages.items():
            row = {"account": account, "failures": failures, "last_failed_at": now - timedelta(days=days)}
            db.execute_now(sa.insert(Throttle).values(row))
        assert lockout.prune(now, timedelta(days=30)) == 6
        assert {row[0] for row in db.execute_now(sa.select(Throttle.account))} == {"recent"}


def test_pruning_ends_no_lock(app: Flask) -> None:
    create_user(app)
    lock(app)
    now = datetime.now(UTC)
    with app.app_context():
        assert lockout.prune(now + lockout.LOCK_TIME - timedelta(minutes=1), timedelta(0)) == 0
        assert lockout.prune(now + lockout.LOCK_TIME + timedelta(minutes=1), timedelta(0)) == 1


def test_pruning_shortens_no_wait(app: Flask) -> None:
    now = datetime.now(UTC)
    with app.app_context():
        for _ in range(20):
            lockout.count_attempt("password", "dora", now)
            now += lockout.LONGEST_WAIT
        now -= lockout.LONGEST_WAIT
        assert lockout.prune(now + timedelta(minutes=59), timedelta(0)) == 0
        with pytest.raises(errors.TooManyAttempts):
            lockout.count_attempt("password", "dora", now + timedelta(minutes=59))


def test_200_concurrent_guesses_over_four_workers_get_five_checks(
    app: Flask, database_url: str, tmp_path: Path
) -> None:
    create_user(app)
    settings = {"WEB_CONCURRENCY": "4", "TOKENAPP_ISSUER": "http://localhost"}
    with Server(database_url, settings, log=tmp_path / "log") as server:
        owner = sign_in(server.port)
        guesses = all_at_once([lambda: server.client.login(password=WRONG) for _ in range(200)])
        assert guesses == {401: FREE, 429: 200 - FREE}
        with app.app_context():  # a wait that a slow restart does not outlast
            db.execute_now(sa.update(Throttle).values(failures=lockout.LOCK_AFTER - 1))
        assert [owner.refresh().status, owner.protected().status] == [200, 200]
    with Server(database_url, settings, log=tmp_path / "log") as server:
        assert server.client.login().status == 429, "the restart reset the count"
        assert server.client.refresh(owner.cookie).status == 200
    assert checked(app) == FREE


def test_concurrent_sign_ins_with_the_correct_password_all_succeed(
    app: Flask, database_url: str, serve: Servers
) -> None:
    create_user(app)
    # Hashes must be expensive enough to overlap, and cheap enough for a loaded machine.
    cost = {"TOKENAPP_PASSWORD_MEMORY": "1024", "TOKENAPP_PASSWORD_PASSES": "1"}
    client = serve(database_url, WEB_CONCURRENCY="4", **cost).client
    assert all_at_once([client.login] * 24) == {200: 24}


def test_outdated_hash_does_not_count_as_a_failure(app: Flask) -> None:
    create_user(app)
    with app.app_context():
        db.execute_now(sa.update(User).values(password_hash=generate_password_hash(PASSWORD, "pbkdf2:sha256:1000")))
    assert [login(app, password=PASSWORD).status for _ in range(6)] == [200] * 6
