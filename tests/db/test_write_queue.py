"""How the threads of one process write to SQLite: one after another, with one commit for all who wait meanwhile."""

import sqlite3
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy.exc import OperationalError

from tests.support.app import create_user
from tests.support.concurrency import wait_until
from tokenapp import accounts, db, sessions
from tokenapp.db import DatabaseUnavailableError
from tokenapp.db.statements import Call
from tokenapp.db.write_queue import WriteQueue
from tokenapp.models import Grant, RefreshClaims

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def queue_of(app: Flask) -> WriteQueue:
    with app.app_context():
        queue = db.current().queue
    assert queue is not None
    return queue


def file_of(url: str) -> str:
    return url.removeprefix("sqlite:///")


def commits(file: str) -> int:
    """Return how many transactions the write-ahead log holds: the last frame of each tells the size of the file."""
    log = Path(f"{file}-wal").read_bytes()
    page, salt = struct.unpack(">I", log[8:12])[0], log[16:24]
    frames = [log[start : start + 24] for start in range(32, len(log), 24 + page)]
    return sum(frame[4:8] != b"\0\0\0\0" for frame in frames if frame[8:16] == salt)


def left_in_log(file: str) -> int:
    """Return how many pages of the write-ahead log are not in the file yet, by SQLite's own index of it."""
    index = Path(f"{file}-shm").read_bytes()
    written, moved = struct.unpack("=I", index[16:20])[0], struct.unpack("=I", index[96:100])[0]
    return int(written - moved)


@contextmanager
def locked(file: str) -> Iterator[None]:
    """Write to the file from outside, and let nobody else do so."""
    writer = sqlite3.connect(file, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        writer.execute("ROLLBACK")
        writer.close()


def open_sessions(app: Flask, number: int) -> list[Grant]:
    create_user(app)
    with app.app_context():
        user = accounts.find("alice")
        assert user is not None
        return [sessions.open_session(user, datetime.now(UTC)) for _ in range(number)]


def test_refreshes_that_wait_for_the_file_together_are_committed_together(app: Flask, database_url: str) -> None:
    grants = open_sessions(app, 9)

    def refresh(grant: Grant) -> Grant:
        with app.app_context():
            db.start_budget()
            return sessions.refresh(RefreshClaims(grant.sid, grant.jti, 0), datetime.now(UTC))

    turns: WriteQueue = queue_of(app)
    file = file_of(database_url)
    with ThreadPoolExecutor(len(grants)) as pool:
        with locked(file):
            before = commits(file)
            first = pool.submit(refresh, grants[0])
            wait_until(lambda: turns._holder is not None, what="the first one's turn")
            others = [pool.submit(refresh, grant) for grant in grants[1:]]
            wait_until(lambda: len(turns._waiting) == len(others), what="the queue of the others")
        rotated = [future.result() for future in (first, *others)]
    assert [grant.outcome for grant in rotated] == ["rotated"] * len(grants)
    assert [grant.sid for grant in rotated] == [grant.sid for grant in grants], "each got its own answer"
    assert len({grant.jti for grant in rotated}) == len(grants)
    assert commits(file) - before == 2


def test_who_presents_the_same_token_in_one_commit_gets_one_successor(app: Flask, database_url: str) -> None:
    grant = open_sessions(app, 1)[0]
    turns: WriteQueue = queue_of(app)

    def refresh() -> Grant:
        with app.app_context():
            return sessions.refresh(RefreshClaims(grant.sid, grant.jti, 0), datetime.now(UTC))

    with ThreadPoolExecutor(6) as pool:
        with locked(file_of(database_url)):
            futures = [pool.submit(refresh) for _ in range(6)]
            wait_until(lambda: len(turns._waiting) == 5, what="the queue")
        answers = [future.result() for future in futures]
    assert len({answer.jti for answer in answers}) == 1
    assert sorted(answer.outcome for answer in answers) == ["grace"] * 5 + ["rotated"]


def test_what_could_not_be_committed_is_refused_to_all_who_took_part(app: Flask) -> None:
    del app
    turns, release = WriteQueue(), threading.Event()
    carried: list[int] = []

    def fail(calls: Sequence[Call]) -> None:
        carried.append(len(calls))
        release.wait(10)
        raise OperationalError("INSERT", None, sqlite3.OperationalError("disk I/O error"))

    def share() -> str:
        try:
            turns.write(Call("", ()), fail)
        except (OperationalError, DatabaseUnavailableError) as error:
            return type(error).__name__
        return "done"

    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(share)
        wait_until(lambda: carried == [1], what="the first one's turn")
        others = [pool.submit(share) for _ in range(3)]
        wait_until(lambda: len(turns._waiting) == 3, what="the queue")
        release.set()
        assert first.result() == "OperationalError"
        assert sorted(future.result() for future in others) == ["DatabaseUnavailableError"] * 2 + ["OperationalError"]
    assert carried == [1, 3]
    turns.write(Call("", ()), lambda calls: carried.append(len(calls)))
    assert carried == [1, 3, 1], "nobody was left in the queue"


def test_whoever_has_no_time_left_leaves_the_queue_and_is_not_carried_out(app: Flask) -> None:
    del app
    turns = WriteQueue()
    carried: list[str] = []

    def carry_out(calls: Sequence[Call]) -> None:
        carried.extend(call.sql for call in calls)

    def hurried() -> None:
        db.start_budget()
        turns.write(Call("too late", ()), carry_out)

    with ThreadPoolExecutor(1) as pool:
        with turns.exclusive():
            began = time.monotonic()
            with pytest.raises(DatabaseUnavailableError):
                pool.submit(hurried).result()
            assert time.monotonic() - began < 2.5, "the write itself needs a part of the time"
        turns.write(Call("in time", ()), carry_out)
    assert carried == ["in time"]


def test_what_was_carried_out_is_answered_at_once_though_somebody_else_has_the_turn(app: Flask) -> None:
    del app
    turns, began, go_on, leave = WriteQueue(), threading.Event(), threading.Event(), threading.Event()
    carried: list[int] = []

    def carry_out(calls: Sequence[Call]) -> None:
        carried.append(len(calls))
        began.set()
        go_on.wait(10)

    def linger() -> None:
        with turns.exclusive():
            leave.wait(10)

    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(turns.write, Call("", ()), carry_out)
        began.wait(10)
        second, third = (pool.submit(turns.write, Call("", ()), carry_out) for _ in range(2))
        wait_until(lambda: len(turns._waiting) == 2, what="the queue")
        last = pool.submit(linger)
        wait_until(lambda: len(turns._waiting) == 3, what="the queue")
        go_on.set()
        for done in (first, second, third):
            done.result(5)
        assert not last.done()
        leave.set()
    assert carried == [1, 2]


def test_a_write_within_a_write_is_a_fault_and_no_hang(app: Flask) -> None:
    with app.app_context(), db.writing(), pytest.raises(RuntimeError, match="within"):
        sessions.revoke("somebody", "logout", datetime.now(UTC))


def test_while_the_file_is_locked_nobody_queues_behind_the_one_who_asks(app: Flask, database_url: str) -> None:
    grants = open_sessions(app, 3)

    def refresh(grant: Grant) -> float:
        began = time.monotonic()
        db.start_budget()
        with app.app_context(), pytest.raises((OperationalError, DatabaseUnavailableError)):
            sessions.refresh(RefreshClaims(grant.sid, grant.jti, 0), datetime.now(UTC))
        return time.monotonic() - began

    with locked(file_of(database_url)), ThreadPoolExecutor(3) as pool:
        pool.submit(refresh, grants[0]).result()  # which finds out
        time.sleep(1.1)
        asking = pool.submit(refresh, grants[1])
        wait_until(lambda: queue_of(app)._holder is not None, what="the one who asks")
        assert pool.submit(refresh, grants[2]).result() < 1, "the one who asks waits for the file"
        assert asking.result() > 1.5


def test_pruning_leaves_nothing_in_the_log_for_others_to_move(app: Flask, database_url: str) -> None:
    open_sessions(app, 40)
    assert left_in_log(file_of(database_url)) > 40
    much_later = datetime.now(UTC) + timedelta(days=90)
    with app.app_context():
        assert sum(sessions.prune(much_later, timedelta(days=1))) == 40
    assert left_in_log(file_of(database_url)) == 0
