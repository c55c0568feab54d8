"""Strangers cannot fill the audit log, and pruning it leaves an event."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from flask import Flask

from tests.support.app import create_user
from tests.support.client import Client
from tests.support.commandline import run, run_json
from tokenapp import audit, db
from tokenapp.models import AuditEvent, Throttle
from tokenapp.throttle import lockout

WRONG = "not the password of anybody"


def count(app: Flask, kind: str) -> list[int]:
    with app.app_context():
        return [int(row[0]) for row in db.execute_now(sa.select(AuditEvent.count).where(AuditEvent.kind == kind))]


@pytest.mark.parametrize("username", ["alice", "nobody"])
def test_failures_from_the_fifth_on_are_one_event_an_hour(app: Flask, username: str) -> None:
    create_user(app)
    client = Client(app)
    for _ in range(12):
        client.login(username, WRONG)
        with app.app_context():
            db.execute_now(sa.update(Throttle).values(last_failed_at=datetime.now(UTC) - lockout.LONGEST_WAIT))
    counts = count(app, "sign_in_failed")
    assert sum(counts) == 12
    assert len(counts) <= 6, "four single events and one an hour; the hour may change during the test"


def record(app: Flask, age: timedelta, user_id: str | None) -> None:
    with app.app_context():
        audit.record_alone("sign_in_failed", datetime.now(UTC) - age, user_id=user_id)


def test_failures_of_unknown_names_are_kept_for_30_days(app: Flask) -> None:
    user_id = create_user(app)
    for age in (timedelta(days=29), timedelta(days=31), timedelta(days=366)):
        record(app, age, None)
        record(app, age, user_id)
    run(app, "events", "prune", "--yes")
    assert len(count(app, "sign_in_failed")) == 3


def test_pruning_leaves_an_event_of_itself(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "olivia")
    record(app, timedelta(days=400), None)
    run(app, "events", "prune", "--yes")
    (event,) = run_json(app, "events", "list", "--kind", "events_pruned")
    assert (event["actor"], event["operator"]) == ("operator", "olivia")


def test_pruning_asks(app: Flask) -> None:
    record(app, timedelta(days=400), None)
    assert "Answer yes" in run(app, "events", "prune", code=1).stderr
    assert len(count(app, "sign_in_failed")) == 1


def test_dry_run_deletes_nothing(app: Flask) -> None:
    record(app, timedelta(days=400), None)
    assert "Would delete 1 event" in run(app, "events", "prune", "--dry-run").output
    assert len(count(app, "sign_in_failed")) == 1


def test_caller_does_not_choose_the_request_id_in_the_audit_log(app: Flask) -> None:
    create_user(app)
    Client(app).login(headers={"X-Request-ID": "chosen-by-the-caller"})
    with app.app_context():
        ids = [row.request_id for row in db.execute_now(sa.select(AuditEvent.request_id)) if row.request_id]
    assert ids
    assert "chosen-by-the-caller" not in ids


def test_sign_out_clears_the_cache(app: Flask) -> None:
    create_user(app)
    client = Client(app)
    client.login()
    assert client.logout().header("Clear-Site-Data") == '"cache"'
