"""``flask sessions why``: the sentence that explains the state of a session."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest
import sqlalchemy as sa
from flask import Flask

from tests.support.client import Client, sign_in
from tests.support.commandline import NEW_PASSWORD, create_user, error_of, run, run_json
from tokenapp import accounts, db, sessions
from tokenapp.models import AuditEvent, Session
from tokenapp.sessions import REASONS, Reason

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
OPENED = datetime(2020, 3, 1, 9, 0, tzinfo=UTC)
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


def change(app: Flask, sid: str, **values: Any) -> None:
    with app.app_context():
        db.execute_now(sa.update(Session).where(Session.id == sid).values(values))


def delete(app: Flask, statement: sa.Delete) -> None:
    with app.app_context():
        db.execute_now(statement)


def open_old(app: Flask) -> str:
    """Open a session at a known time."""
    create_user(app)
    with app.app_context():
        grant = sessions.open_session(accounts.find("alice"), OPENED, sessions.Device("192.0.2.7", FIREFOX))
    return grant.sid


def why(app: Flask, sid_or_name: str) -> str:
    return run(app, "sessions", "why", sid_or_name).stdout


def subject(sid: str) -> str:
    return f"The session {sid} (Firefox on Linux), opened 2020-03-01 09:00:00 UTC,"


def test_every_reason_has_a_sentence() -> None:
    assert REASONS.keys() == set(get_args(Reason))


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_is_explained_in_a_sentence(app: Flask, reason: Reason) -> None:
    sid = open_old(app)
    with app.app_context():
        assert sessions.revoke(sid, reason, OPENED + HOUR)
    change(app, sid, revoked_at=OPENED + HOUR, rotated_at=OPENED + HOUR / 2)
    assert why(app, sid) == (
        f"{subject(sid)} was revoked 2020-03-01 10:00:00 UTC because {REASONS[reason]} (a command); "
        "last refreshed 2020-03-01 09:30:00 UTC.\n"
    )


def test_expired_session_names_the_limit_that_it_reached(app: Flask) -> None:
    sid = open_old(app)
    assert why(app, sid) == (
        f"{subject(sid)} reached its maximum lifetime 2020-03-31 09:00:00 UTC; "
        "last refreshed 2020-03-01 09:00:00 UTC.\n"
    )
    change(app, sid, ends_at=datetime.now(UTC) + DAY)
    assert why(app, sid) == (
        f"{subject(sid)} was idle for too long and expired 2020-03-08 09:00:00 UTC; "
        "last refreshed 2020-03-01 09:00:00 UTC.\n"
    )


def test_live_session_names_its_expiry(app: Flask) -> None:
    sid = open_old(app)
    change(app, sid, ends_at=datetime(2126, 1, 1, tzinfo=UTC), expires_at=datetime(2126, 1, 1, tzinfo=UTC))
    assert why(app, sid) == (
        f"{subject(sid)} is live; last refreshed 2020-03-01 09:00:00 UTC, "
        "valid until 2126-01-01 00:00:00 UTC if unused.\n"
    )


def test_session_whose_token_is_newer_than_the_database_is_explained(app: Flask) -> None:
    create_user(app)
    client = sign_in(app)
    sid = client.sid
    change(app, sid, generation=-1, current_jti="restored", rotated_at=datetime.now(UTC) - HOUR)
    assert client.refresh().status == 403
    rejected = r"A refresh token newer than the database was rejected \S+ \S+ UTC, as after restoring a backup\."
    assert re.search(rf"is live; .*\. {rejected}$", why(app, sid).strip())


def act(app: Flask, client: Client, how: str) -> None:
    """End the client's session as it happens in practice."""
    if how == "logout":
        assert client.logout().status == 204
    elif how == "replaced":
        client.login(cookie=client.cookie)
    elif how == "user_disabled":
        run(app, "users", "disable", "alice")
    elif how == "operator":
        run(app, "sessions", "revoke", client.sid)
    elif how == "password_changed":
        run(app, "users", "set-password", "alice", stdin=NEW_PASSWORD + "\n")
    elif how == "key_dropped":
        kid = next(key["kid"] for key in run_json(app, "keys", "list") if key["use"] == "refresh")
        run(app, "keys", "retire", "--now", "--yes", kid)
    else:
        change(app, client.sid, rotated_at=datetime.now(UTC) - HOUR, current_jti="later", generation=5)
        assert client.refresh().status == 403


@pytest.mark.parametrize(
    "how", ["logout", "replaced", "user_disabled", "operator", "password_changed", "key_dropped", "reuse"]
)
def test_explanation_names_the_actual_cause(app: Flask, how: str) -> None:
    create_user(app)
    client = sign_in(app)
    sid = client.sid
    act(app, client, how)
    by_request = how in {"logout", "replaced", "reuse"}
    actor = r" \(request \S+ from 127\.0\.0\.1\)" if by_request else r" \(a command\)"
    assert re.search(f"^The session {sid} .* because {re.escape(REASONS[how])}{actor}; last refreshed ", why(app, sid))


def test_pruned_session_is_explained_from_the_audit_log(app: Flask) -> None:
    create_user(app)
    ended, expired = sign_in(app), sign_in(app)
    sids = [client.sid for client in (ended, expired)]
    ended.logout()
    for sid in sids:
        delete(app, sa.delete(Session).where(Session.id == sid))
    sentence = f"The session {sids[0]} was revoked \\S+ \\S+ UTC because the user signed out\\.\n"
    assert re.fullmatch(sentence, why(app, sids[0]))
    assert why(app, sids[1]) == (
        f"The session {sids[1]} was pruned. The audit log contains no revocation, so it expired.\n"
    )
    delete(app, sa.delete(AuditEvent).where(AuditEvent.sid == sids[0]))
    assert (
        error_of(run(app, "sessions", "why", sids[0], code=1))
        == "There is no session, access key or user with that name."
    )


def test_latest_sessions_of_a_user_are_explained_newest_first(app: Flask) -> None:
    create_user(app)
    assert why(app, "alice") == "alice has no session, and no recent one is known.\n"
    sids = [sign_in(app).sid for _ in range(6)]
    lines = why(app, " ALICE ").splitlines()
    assert [line.split()[2] for line in lines] == sids[:0:-1]
    assert all(" is live; " in line for line in lines)


def test_unknown_id_or_name_is_an_error(app: Flask) -> None:
    assert (
        error_of(run(app, "sessions", "why", "nobody", code=1))
        == "There is no session, access key or user with that name."
    )
