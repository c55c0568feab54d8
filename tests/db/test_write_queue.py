"""Threads of one process write to SQLite in turn, and share commits."""

import math
import sqlite3
import struct
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy.exc import OperationalError

from tests.support.app import create_user
from tests.support.concurrency import wait_until
from tests.support.sqlite import file_of, write_lock
from tokenapp import accounts, db, sessions
from tokenapp.db import Database, DatabaseUnavailableError, write_queue
from tokenapp.db.statements import Call
from tokenapp.db.write_queue import WriteQueue
from tokenapp.models import Grant, RefreshClaims

only_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def database_of(app: Flask) -> Database:
    """Return the application's database."""
    with app.app_context():
        return db.current()


def queue_of(app: Flask) -> WriteQueue:
    """Return the application's queue."""
    queue = database_of(app).queue
    assert queue is not None
    return queue


def wait_for_threads(queue: WriteQueue, count: int) -> None:
    """Wait until `count` threads wait for their turn."""
    wait_until(lambda: len(queue._waiting) == count, what=f"{count} waiting threads")


def commits(url: str) -> int:
    """Return the number of transactions in the write-ahead log.

    The last frame of each contains the size of the database.
    """
    log = Path(f"{file_of(url)}-wal").read_bytes()
    page, salt = struct.unpack(">I", log[8:12])[0], log[16:24]
    frames = [log[start : start + 24] for start in range(32, len(log), 24 + page)]
    return sum(frame[4:8] != b"\0\0\0\0" for frame in frames if frame[8:16] == salt)


def pages_in_log(url: str) -> int:
    """Return the number of pages that are only in the write-ahead log."""
    index = Path(f"{file_of(url)}-shm").read_bytes()
    written, copied = struct.unpack("=I", index[16:20])[0], struct.unpack("=I", index[96:100])[0]
    return int(written - copied)


def open_sessions(app: Flask, number: int) -> list[Grant]:
    """Open sessions for a new user."""
    create_user(app)
    with app.app_context():
        user = accounts.find("alice")
        assert user is not None
        return [sessions.open_session(user, datetime.now(UTC)) for _ in range(number)]


def refresh(app: Flask, grant: Grant) -> Grant:
    """Refresh the session of `grant` as a request does."""
    with app.app_context():
        db.start_budget()
        return sessions.refresh(RefreshClaims(grant.sid, grant.jti, 0), datetime.now(UTC))


@only_sqlite
def test_refreshes_that_wait_at_the_same_time_share_a_commit(app: Flask, database_url: str) -> None:
    grants = open_sessions(app, 9)
    queue = queue_of(app)
    with ThreadPoolExecutor(len(grants)) as pool:
        with write_lock(database_url):
            before = commits(database_url)
            first = pool.submit(refresh, app, grants[0])
            wait_until(lambda: queue._holder is not None, what="the first thread's turn")
            others = [pool.submit(refresh, app, grant) for grant in grants[1:]]
            wait_for_threads(queue, len(others))
        rotated = [future.result() for future in (first, *others)]
    assert [grant.outcome for grant in rotated] == ["rotated"] * len(grants)
    assert [grant.sid for grant in rotated] == [grant.sid for grant in grants], "a thread got another's result"
    assert len({grant.jti for grant in rotated}) == len(grants)
    assert commits(database_url) - before == 2


@only_sqlite
def test_refreshes_of_one_token_in_one_commit_rotate_it_once(app: Flask, database_url: str) -> None:
    grant = open_sessions(app, 1)[0]
    with ThreadPoolExecutor(6) as pool:
        with write_lock(database_url):
            futures = [pool.submit(refresh, app, grant) for _ in range(6)]
            wait_for_threads(queue_of(app), 5)
        refreshed = [future.result() for future in futures]
    assert len({each.jti for each in refreshed}) == 1
    assert sorted(each.outcome for each in refreshed) == ["grace"] * 5 + ["rotated"]


def test_failed_shared_commit_fails_every_call_in_it() -> None:
    queue, release = WriteQueue(), threading.Event()
    executed: list[int] = []

    def fail(calls: Sequence[Call]) -> None:
        executed.append(len(calls))
        release.wait(60)
        raise OperationalError("INSERT", None, sqlite3.OperationalError("disk I/O error"))

    def write() -> str:
        try:
            queue.write(Call("", ()), fail)
        except (OperationalError, DatabaseUnavailableError) as error:
            return type(error).__name__
        return "done"

    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(write)
        wait_until(lambda: executed == [1], what="the first thread's turn")
        others = [pool.submit(write) for _ in range(3)]
        wait_for_threads(queue, 3)
        release.set()
        assert first.result() == "OperationalError"
        assert sorted(future.result() for future in others) == ["DatabaseUnavailableError"] * 2 + ["OperationalError"]
    assert executed == [1, 3]
    queue.write(Call("", ()), lambda calls: executed.append(len(calls)))
    assert executed == [1, 3, 1], "a call was left in the queue"


def write_in_thread(
    pool: ThreadPoolExecutor, queue: WriteQueue, sql: str, executed: list[str], seconds: float
) -> Future[None]:
    """Write in a thread whose request has `seconds` left.

    The SQL is added to `executed`.
    """

    def write() -> None:
        db.deadline.set(time.monotonic() + seconds)
        queue.write(Call(sql, ()), execute)

    def execute(calls: Sequence[Call]) -> None:
        executed.extend(call.sql for call in calls)

    return pool.submit(write)


def test_thread_without_time_leaves_the_queue_and_its_call_is_not_executed() -> None:
    queue = WriteQueue()
    executed: list[str] = []
    with ThreadPoolExecutor(1) as pool:
        with queue.exclusive():
            began = time.monotonic()
            with pytest.raises(DatabaseUnavailableError):
                write_in_thread(pool, queue, "late", executed, seconds=3).result()
            assert time.monotonic() - began < 2.9, "no time was left for the write itself"
        write_in_thread(pool, queue, "in time", executed, seconds=60).result()
    assert executed == ["in time"]


def test_thread_whose_turn_comes_too_late_does_not_fail_the_calls_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = WriteQueue()
    executed: list[str] = []
    with ThreadPoolExecutor(2) as pool:
        with queue.exclusive():
            late = write_in_thread(pool, queue, "late", executed, seconds=10)
            wait_for_threads(queue, 1)
            other = write_in_thread(pool, queue, "in time", executed, seconds=1000)
            wait_for_threads(queue, 2)
            # As after a stop of the process.
            monkeypatch.setattr(write_queue, "monotonic", lambda: time.monotonic() + 100)
        with pytest.raises(DatabaseUnavailableError):
            late.result(60)
        other.result(60)
    assert executed == ["in time"]


def test_thread_returns_once_its_call_is_committed_although_another_has_the_turn() -> None:
    queue, began, finish, leave = WriteQueue(), threading.Event(), threading.Event(), threading.Event()
    executed: list[int] = []

    def execute(calls: Sequence[Call]) -> None:
        executed.append(len(calls))
        began.set()
        finish.wait(60)

    def hold_the_turn() -> None:
        with queue.exclusive():
            leave.wait(60)

    def write() -> None:
        queue.write(Call("", ()), execute)

    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(write)
        began.wait(60)
        second, third = pool.submit(write), pool.submit(write)
        wait_for_threads(queue, 2)
        last = pool.submit(hold_the_turn)
        wait_for_threads(queue, 3)
        finish.set()
        for done in (first, second, third):
            done.result(60)
        assert not last.done()
        leave.set()
    assert executed == [1, 2]


@only_sqlite
def test_write_inside_a_write_is_an_error_instead_of_a_deadlock(app: Flask) -> None:
    with app.app_context(), db.writing(), pytest.raises(RuntimeError, match="inside"):
        sessions.revoke("unknown", "logout", datetime.now(UTC))


@only_sqlite
def test_only_one_thread_waits_for_a_locked_file(app: Flask, database_url: str) -> None:
    grants = open_sessions(app, 3)
    writes = database_of(app).writes

    with ThreadPoolExecutor(3) as pool:
        with write_lock(database_url):
            with pytest.raises((OperationalError, DatabaseUnavailableError)):
                pool.submit(refresh, app, grants[0]).result()  # trips the breaker
            wait_until(lambda: time.monotonic() >= (writes.retry_at or math.inf), what="the next probe")
            probe = pool.submit(refresh, app, grants[1])
            wait_until(lambda: queue_of(app)._holder is not None, what="the probe")
            # It does not wait behind the one that waits for the file.
            with pytest.raises(DatabaseUnavailableError, match="did not answer a moment ago"):
                pool.submit(refresh, app, grants[2]).result()
        with suppress(OperationalError):  # a busy machine: it waited as long as it may
            assert probe.result().outcome == "rotated"


@only_sqlite
def test_pruning_copies_the_write_ahead_log_into_the_file(app: Flask, database_url: str) -> None:
    open_sessions(app, 40)
    assert pages_in_log(database_url) > 40
    much_later = datetime.now(UTC) + timedelta(days=90)
    with app.app_context():
        assert sum(sessions.prune(much_later, timedelta(days=1))) == 40
    assert pages_in_log(database_url) == 0
