"""``flask sessions why``: a sentence, with the times, for each way in which a session can be over."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient

from tests.support.app import PASSWORD
from tests.support.client import claims_of
from tests.support.commandline import NEW_PASSWORD, create_user, error_of, run, run_json, signed_in
from tokenapp import accounts, db, sessions
from tokenapp.models import AuditEvent, Session

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
BEGUN = datetime(2020, 3, 1, 9, 0, tzinfo=UTC)
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


def sid_of(client: FlaskClient) -> str:
    cookie = client.get_cookie("refreshToken")
    assert cookie is not None
    return str(claims_of(cookie.value)["sid"])


def change(app: Flask, sid: str, **values: Any) -> None:
    with app.app_context():
        db.execute_now(sa.update(Session).where(Session.id == sid).values(values))


def open_old(app: Flask) -> str:
    """Open a session at a known time."""
    create_user(app)
    with app.app_context():
        grant = sessions.open_session(accounts.find("alice"), BEGUN, sessions.Device("192.0.2.7", FIREFOX))
    return grant.sid


def why(app: Flask, subject: str) -> str:
    return run(app, "sessions", "why", subject).stdout


def who(sid: str) -> str:
    return f"The session {sid} (Firefox on Linux), begun 2020-03-01 09:00:00 UTC,"


REASONS = {
    "logout": "they signed out",
    "replaced": "they signed in anew in the same browser",
    "reuse": "a refresh token that had long been replaced was presented again, as after a theft",
    "password_changed": "the password was changed",
    "user_disabled": "the user was disabled",
    "operator": "an operator ended it",
    "ended_by_user": "they ended it from their list of devices",
    "signed_out_everywhere": "they signed out everywhere",
    "revoked_by_client": "another service asked for it",
    "key_dropped": "the key that had signed its refresh token was dropped",
}


@pytest.mark.parametrize("reason", REASONS)
def test_each_reason_is_told_in_a_sentence(app: Flask, reason: sessions.Reason) -> None:
    sid = open_old(app)
    with app.app_context():
        assert sessions.revoke(sid, reason, BEGUN + HOUR)
    change(app, sid, revoked_at=BEGUN + HOUR, rotated_at=BEGUN + HOUR / 2)
    assert why(app, sid) == (
        f"{who(sid)} ended 2020-03-01 10:00:00 UTC because {REASONS[reason]} (a command); "
        "last refreshed 2020-03-01 09:30:00 UTC.\n"
    )


def test_a_session_that_expired_says_which_limit_it_reached(app: Flask) -> None:
    sid = open_old(app)
    assert why(app, sid) == (
        f"{who(sid)} reached its absolute limit 2020-03-31 09:00:00 UTC; last refreshed 2020-03-01 09:00:00 UTC.\n"
    )
    change(app, sid, ends_at=datetime.now(UTC) + DAY)
    assert why(app, sid) == (
        f"{who(sid)} was not used for too long and expired 2020-03-08 09:00:00 UTC; "
        "last refreshed 2020-03-01 09:00:00 UTC.\n"
    )


def test_a_live_session_says_until_when(app: Flask) -> None:
    sid = open_old(app)
    change(app, sid, ends_at=datetime(2126, 1, 1, tzinfo=UTC), expires_at=datetime(2126, 1, 1, tzinfo=UTC))
    assert why(app, sid) == (
        f"{who(sid)} is live; last refreshed 2020-03-01 09:00:00 UTC, good until 2126-01-01 00:00:00 UTC if not used.\n"
    )


def test_a_session_that_was_refused_as_ahead_of_the_database_says_so(app: Flask) -> None:
    create_user(app)
    client = signed_in(app)
    sid = sid_of(client)
    change(app, sid, generation=-1, current_jti="restored", rotated_at=datetime.now(UTC) - HOUR)
    assert client.post("/api/token").status_code == 403
    assert re.search(
        r"is live; .*\. A refresh token newer than the database was refused \S+ \S+ UTC, as after a restored backup\.$",
        why(app, sid).strip(),
    )


def act(app: Flask, client: FlaskClient, how: str) -> None:
    """End the client's session in one of the real ways."""
    if how == "logout":
        assert client.post("/api/logout").status_code == 204
    elif how == "replaced":
        client.post("/api/login", json={"username": "alice", "password": PASSWORD})
    elif how == "user_disabled":
        run(app, "users", "disable", "alice")
    elif how == "operator":
        run(app, "sessions", "revoke", sid_of(client))
    elif how == "password_changed":
        run(app, "users", "set-password", "alice", stdin=NEW_PASSWORD + "\n")
    elif how == "key_dropped":
        kid = next(key["kid"] for key in run_json(app, "keys", "list") if key["use"] == "refresh")
        run(app, "keys", "retire", "--now", "--yes", kid)
    else:
        change(app, sid_of(client), rotated_at=datetime.now(UTC) - HOUR, current_jti="later", generation=5)
        assert client.post("/api/token").status_code == 403


@pytest.mark.parametrize(
    "how", ["logout", "replaced", "user_disabled", "operator", "password_changed", "key_dropped", "reuse"]
)
def test_what_really_ended_a_session_is_what_is_told(app: Flask, how: str) -> None:
    create_user(app)
    client = signed_in(app)
    sid = sid_of(client)
    act(app, client, how)
    by_request = how in {"logout", "replaced", "reuse"}
    doer = r" \(request \S+ from 127\.0\.0\.1\)" if by_request else r" \(a command\)"
    assert re.search(f"^The session {sid} .* because {re.escape(REASONS[how])}{doer}; last refreshed ", why(app, sid))


def prune(app: Flask, kind: Callable[[str], Any], value: str) -> None:
    with app.app_context():
        db.execute_now(kind(value))


def test_of_a_pruned_session_the_trail_tells(app: Flask) -> None:
    create_user(app)
    ended, expired = signed_in(app), signed_in(app)
    sids = [sid_of(client) for client in (ended, expired)]
    ended.post("/api/logout")
    for sid in sids:
        prune(app, lambda sid: sa.delete(Session).where(Session.id == sid), sid)
    told = why(app, sids[0])
    assert re.fullmatch(f"The session {sids[0]} ended \\S+ \\S+ UTC because they signed out\\.\n", told)
    assert why(app, sids[1]) == (
        f"The session {sids[1]} is no longer kept; the trail tells of no end, so it expired.\n"
    )
    prune(app, lambda sid: sa.delete(AuditEvent).where(AuditEvent.sid == sid), sids[0])
    assert error_of(run(app, "sessions", "why", sids[0], code=1)) == "There is no such session and no such user."


def test_a_users_latest_sessions_are_told_newest_first(app: Flask) -> None:
    create_user(app)
    assert why(app, "alice") == "alice has no session, and none that ended lately is known.\n"
    sids = [sid_of(signed_in(app)) for _ in range(6)]
    lines = why(app, " ALICE ").splitlines()
    assert [line.split()[2] for line in lines] == sids[:0:-1]
    assert all(" is live; " in line for line in lines)


def test_what_is_neither_is_an_error(app: Flask) -> None:
    assert error_of(run(app, "sessions", "why", "nobody", code=1)) == "There is no such session and no such user."
