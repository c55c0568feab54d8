"""The commands ``flask events list`` and ``flask events prune``."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from flask import Flask

from tests.audit.events import rows_of
from tests.support.app import ROOT, environment
from tests.support.client import sign_in
from tests.support.commandline import create_user, error_of, run, run_json
from tests.support.concurrency import wait_until
from tokenapp import audit, db
from tokenapp.models import AddressCount, AuditEvent, Throttle
from tokenapp.throttle import lockout


def listed_kinds(app: Flask, *options: str) -> list[str]:
    """Return the kinds of the listed events."""
    return [event["kind"] for event in run_json(app, "events", "list", *options)]


def test_list_is_filtered_by_user_and_session(app: Flask) -> None:
    create_user(app)
    create_user(app, "bob")
    client, _, _ = sign_in(app), sign_in(app), sign_in(app, "bob")
    sid = client.sid
    client.logout()
    assert listed_kinds(app, "--user", " ALICE ") == ["user_created", "sign_in", "sign_in", "session_ended"]
    assert listed_kinds(app, "--session", sid) == ["sign_in", "session_ended"]
    assert listed_kinds(app, "--session", "unknown") == []
    assert error_of(run(app, "events", "list", "--user", "nobody", code=1)) == "User not found."


def test_list_is_filtered_by_kind_and_age(app: Flask) -> None:
    create_user(app)
    create_user(app, "bob")
    for username in ("alice", "alice", "bob"):
        sign_in(app, username)
    assert len(listed_kinds(app, "--kind", "sign_in")) == 3
    assert len(listed_kinds(app, "--kind", "sign_in", "--user", "bob")) == 1
    with app.app_context():
        audit.record_alone("sign_in", datetime.now(UTC) - timedelta(hours=30))
    assert len(listed_kinds(app, "--kind", "sign_in")) == 3
    assert len(listed_kinds(app, "--kind", "sign_in", "--since", "31h")) == 4


def test_list_without_json_has_a_header_line(app: Flask) -> None:
    create_user(app)
    sign_in(app)
    shown = run(app, "events", "list", "--kind", "sign_in").stdout.splitlines()
    assert shown[0].split("\t")[:3] == ["at", "kind", "reason"]
    assert len(shown) == 2


def test_list_has_all_pages(app: Flask) -> None:
    now = datetime.now(UTC)
    with app.app_context(), db.writing() as writer:
        for _ in range(2001):
            audit.record(writer, "sign_in_failed", now)
    listed = [event["id"] for event in run_json(app, "events", "list")]
    assert listed == sorted(set(listed))
    assert len(listed) == 2001


@contextmanager
def following(database_url: str, output: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``flask events list --follow`` in a process of its own."""
    command = [sys.executable, "-m", "flask", "events", "list", "--follow", "--json", "--kind", "sign_in"]
    env = environment(DATABASE_URL=database_url)
    with (
        output.open("wb") as out,
        subprocess.Popen(command, cwd=ROOT, env=env, stdout=out, stderr=subprocess.PIPE) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_follow_shows_each_event_once_and_soon(app: Flask, database_url: str, tmp_path: Path) -> None:
    create_user(app)
    sign_in(app)
    output = tmp_path / "output"

    def shows(count: int) -> None:
        wait_until(lambda: len(output.read_text().splitlines()) == count, what=f"{count} events")

    with following(database_url, output) as process:
        shows(1)
        sign_in(app)
        shows(2)
        with app.app_context():  # dated before the last query, and committed after it
            audit.record_alone("sign_in", datetime.now(UTC) - timedelta(seconds=3))
        sign_in(app)
        shows(4)
        sign_in(app)
        shows(5)  # by then, events that were shown before would have been repeated
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    ids = [json.loads(line)["id"] for line in output.read_text().splitlines()]
    assert len(ids) == len(set(ids)) == 5


def test_prune_deletes_old_events_and_expired_counts(app: Flask) -> None:
    create_user(app)
    now = datetime.now(UTC)
    old = now - timedelta(days=400)
    with app.app_context():
        for moment in (old, now - timedelta(days=300)):
            audit.record_alone("sign_in", moment)
        lockout.count_attempt("password", "old", old)
        lockout.count_attempt("password", "new", now)
        for minutes in (-5, 5):
            row = {"key": str(minutes), "count": 1, "expires_at": now + timedelta(minutes=minutes)}
            db.execute_now(sa.insert(AddressCount).values(row))
    assert run(app, "events", "prune", "--yes").stdout == "Deleted 1 event.\n"
    assert [event.kind for event in rows_of(app, AuditEvent)].count("sign_in") == 1
    assert len(rows_of(app, Throttle)) == 1
    assert [row.key for row in rows_of(app, AddressCount)] == ["5"]
    assert run(app, "events", "prune", "--yes", "--older-than", "200d").stdout == "Deleted 1 event.\n"


def test_prune_deletes_in_batches(app: Flask) -> None:
    old = datetime.now(UTC) - timedelta(days=400)
    with app.app_context(), db.writing() as writer:
        for _ in range(2 * audit.PRUNE_BATCH + 1):
            audit.record(writer, "sign_in_failed", old)
    assert run(app, "events", "prune", "--yes").stdout == f"Deleted {2 * audit.PRUNE_BATCH + 1} events.\n"
