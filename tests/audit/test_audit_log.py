"""What is in the audit log, and what is not."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import get_args

import sqlalchemy as sa
from flask import Flask

from tests.audit.events import kinds, rows_of
from tests.support.app import PASSWORD, ROOT
from tests.support.client import Client, claims_of, sign_in
from tests.support.commandline import create_user, run, run_json
from tokenapp import audit, db
from tokenapp.models import Session, User


def test_successful_refreshes_are_not_recorded(app: Flask) -> None:
    create_user(app)
    client = sign_in(app)
    before = kinds(app)
    first = client.cookie
    second = client.refresh().cookie
    for token in (second, first):  # damped, and within the grace period
        assert client.refresh(token).cookie == second
    assert kinds(app) == before == [("sign_in", None)]


def test_reason_is_cut_to_what_the_database_stores(app: Flask) -> None:
    with app.app_context():
        audit.record_alone("sign_in_failed", datetime.now(UTC), reason="x" * 300)
    assert kinds(app) == [("sign_in_failed", "x" * 64)]


@contextmanager
def unwritable_audit_log(app: Flask) -> Iterator[None]:
    """Make it impossible to write an audit event, as on a full disk."""
    with app.app_context():
        db.execute_now(sa.text("ALTER TABLE events RENAME TO events_away"))
        yield
        db.execute_now(sa.text("ALTER TABLE events_away RENAME TO events"))


def test_no_change_is_made_that_cannot_be_recorded(app: Flask) -> None:
    create_user(app)
    client = sign_in(app)
    with unwritable_audit_log(app):
        assert client.logout().status == 503
        assert Client(app).login().status == 503
        for command in (["users", "disable", "alice"], ["keys", "rotate"], ["sessions", "revoke", "--user", "alice"]):
            run(app, *command, code=1)
        assert client.refresh().status == 200
    assert len(rows_of(app, Session)) == 1
    assert kinds(app) == [("sign_in", None)]
    assert rows_of(app, User)[0].disabled_at is None


def test_commands_are_distinguished_from_requests(app: Flask) -> None:
    create_user(app)
    sign_in(app)
    run(app, "sessions", "revoke", "--user", "alice")
    (opened,), (revoked,) = (run_json(app, "events", "list", "--kind", kind) for kind in ("sign_in", "session_ended"))
    assert (opened["kind"], opened["actor"], opened["ipAddress"]) == ("sign_in", "request", "127.0.0.1")
    assert opened["requestId"]
    assert (revoked["kind"], revoked["reason"]) == ("session_ended", "operator")
    assert (revoked["actor"], revoked["ipAddress"], revoked["requestId"]) == ("operator", None, None)


def test_password_typed_into_the_username_field_is_not_recorded(app: Flask) -> None:
    create_user(app)
    typed = "hunter2 is my whole secret"
    Client(app).login(typed, PASSWORD)
    Client(app).login("alice", typed)
    cookie = sign_in(app).cookie or ""
    output = run(app, "events", "list", "--json").stdout
    assert output.count("sign_in_failed") == 2
    assert "unknown user" in output
    for secret in (typed, "hunter2", PASSWORD, cookie, claims_of(cookie)["jti"]):
        assert secret not in output


def test_page_of_the_audit_log_lists_all_kinds_of_events() -> None:
    listed = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/audit-log.md").read_text(), re.MULTILINE)
    assert listed == list(get_args(audit.Kind))
