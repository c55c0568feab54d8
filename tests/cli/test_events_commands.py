"""``flask events prune``: it asks, counts, and records what it deleted."""

from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask

from tests.support.commandline import Terminal, create_user, run, run_json
from tokenapp import audit

SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def add_failures(app: Flask, *days: int, user_id: str | None = None) -> None:
    """Record failed sign-ins of these ages."""
    with app.app_context():
        for age in days:
            audit.record_alone("sign_in_failed", datetime.now(UTC) - timedelta(days=age), user_id=user_id)


def failures(app: Flask) -> int:
    """Return how many failed sign-ins are in the audit log."""
    return len(run_json(app, "events", "list", "--kind", "sign_in_failed", "--since", "3000d"))


@SQLITE
def test_prune_asks_at_a_terminal(app: Flask, database_url: str) -> None:
    add_failures(app, 400)
    for answer, left in (("n", 1), ("y", 0)):
        with Terminal(database_url, "events", "prune") as terminal:
            terminal.wait_for("Delete events older than 365 days?")
            terminal.type(answer)
            terminal.end()
        assert failures(app) == left


def test_prune_with_yes_does_not_ask(app: Flask) -> None:
    add_failures(app, 400)
    assert run(app, "events", "prune", "--yes").stdout == "Deleted 1 event.\n"
    assert failures(app) == 0


def test_dry_run_counts_what_prune_deletes(app: Flask) -> None:
    add_failures(app, 29, 31, 400)
    add_failures(app, 31, 400, user_id=create_user(app))
    assert run(app, "events", "prune", "--dry-run").stdout == "Would delete 3 events.\n"
    assert failures(app) == 5
    assert run(app, "events", "prune", "--yes").stdout == "Deleted 3 events.\n"
    assert failures(app) == 2


@SQLITE
def test_event_records_who_pruned_and_how_many(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "olivia")
    add_failures(app, 400, 500)
    run(app, "events", "prune", "--yes", "--older-than", "90d")
    (event,) = run_json(app, "events", "list", "--kind", "events_pruned")
    assert (event["reason"], event["operator"]) == ("2 older than 90 d", "olivia")


@SQLITE
def test_nothing_to_prune_leaves_no_event(app: Flask) -> None:
    assert run(app, "events", "prune", "--yes").stdout == "Deleted 0 events.\n"
    assert run_json(app, "events", "list", "--kind", "events_pruned") == []
