"""``flask users delete``: what is erased, what stays, and what is free again."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from tests.audit.events import rows_of
from tests.support.app import PASSWORD
from tests.support.client import Client, claims_of, sign_in
from tests.support.commandline import (
    NEW_PASSWORD,
    Terminal,
    can_refresh,
    can_sign_in,
    create_user,
    error_of,
    run,
    run_json,
)
from tests.support.concurrency import at_once
from tokenapp import accounts, db, errors, sessions
from tokenapp.models import AuditEvent, Device, Session, Throttle, User

SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
ADDRESS = "127.0.0.1"


def everything(app: Flask) -> str:
    """Return the contents of all tables, as one text.

    The counts of addresses are left out: they belong to no user, and expire after a minute.
    """
    with app.app_context():
        tables = [table for table in db.Base.metadata.sorted_tables if table.name != "address_counts"]
        return str([tuple(row) for table in tables for row in db.execute_now(sa.select(table))])


def delete(app: Flask, name: str = "alice") -> str:
    return run(app, "users", "delete", name, "--yes").stdout


def test_deleted_user_can_neither_sign_in_nor_refresh_nor_call(app: Flask) -> None:
    user_id = create_user(app)
    create_user(app, "bob")
    alice, bob = sign_in(app), sign_in(app, "bob")
    assert delete(app) == f"Deleted the user alice ({user_id}) and revoked 1 session.\n"
    assert not can_refresh(alice)
    assert alice.call("GET", "/api/me").status == 403
    assert not can_sign_in(app)
    assert can_refresh(bob)


def test_no_personal_data_stays(app: Flask) -> None:
    user_id = create_user(app)
    live, ended = sign_in(app), sign_in(app)
    assert can_refresh(live)
    ended.logout()
    for _ in range(6):
        Client(app).login(password="not the password at all")
    (stored,) = [user.password_hash for user in rows_of(app, User)]
    with app.app_context():  # the first request creates the keys, which is not about the user
        db.execute_now(sa.delete(AuditEvent).where(AuditEvent.kind == "key_created"))
        db.execute_now(sa.update(Session).values(bound_key="the key of a device"))
    personal = ("alice", stored, ADDRESS, "Werkzeug", "the key of a device")
    before = everything(app)
    assert all(text in before for text in personal)
    delete(app)
    after = everything(app)
    assert not [text for text in personal if text in after]
    assert user_id in after


def test_events_keep_the_id_and_lose_what_leads_to_the_person(app: Flask) -> None:
    user_id, other = create_user(app), create_user(app, "bob")
    sign_in(app)
    sign_in(app, "bob")
    delete(app)
    own = [event for event in rows_of(app, AuditEvent) if event.user_id == user_id]
    assert {event.kind for event in own} == {"user_created", "sign_in", "session_ended", "user_deleted"}
    assert {(event.ip_address, event.request_id) for event in own} == {(None, None)}
    (theirs,) = [event for event in rows_of(app, AuditEvent) if (event.user_id, event.kind) == (other, "sign_in")]
    assert theirs.ip_address == ADDRESS
    assert theirs.request_id


def test_session_that_is_opened_while_the_others_are_read_is_erased(app: Flask) -> None:
    create_user(app)
    with app.app_context():
        user = accounts.find("alice")
        grant = sessions.open_session(user, datetime.now(UTC), Device("192.0.2.7", FIREFOX))
        sessions.revoke(grant.sid, "logout", datetime.now(UTC))
        with db.writing() as writer:
            sessions.erase_devices(writer, user.id, [])
    (row,) = rows_of(app, Session)
    assert (row.ip_address, row.user_agent, row.last_ip_address, row.last_user_agent) == (None,) * 4


def test_session_whose_events_were_pruned_is_erased(app: Flask) -> None:
    create_user(app)
    sign_in(app).logout()
    with app.app_context():
        db.execute_now(sa.delete(AuditEvent))
    delete(app)
    assert [row.ip_address for row in rows_of(app, Session)] == [None]


def test_failed_attempts_are_forgotten_with_the_name(app: Flask) -> None:
    create_user(app)
    for _ in range(6):
        Client(app).login(password="not the password at all")
    assert rows_of(app, Throttle)
    delete(app)
    assert rows_of(app, Throttle) == []


def test_name_is_free_again_and_the_new_user_has_another_id(app: Flask) -> None:
    first = create_user(app)
    before = sign_in(app)
    delete(app)
    second = create_user(app)
    assert second != first
    assert can_sign_in(app)
    assert not can_refresh(before)
    assert [user["id"] for user in run_json(app, "users", "list")] == [second]


def test_row_keeps_the_id_and_the_times(app: Flask) -> None:
    user_id = create_user(app)
    created = run_json(app, "users", "show", "alice")["createdAt"]
    delete(app)
    shown = run_json(app, "users", "show", user_id)
    assert (shown["id"], shown["username"], shown["createdAt"]) == (user_id, None, created)
    assert abs(datetime.fromisoformat(shown["deletedAt"]) - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.parametrize(
    "command", ["enable {}", "disable {}", "unlock {}", "set-password {}", "rename {} bob", "delete {} --yes"]
)
@SQLITE
def test_deleted_user_cannot_be_changed(app: Flask, command: str) -> None:
    user_id = create_user(app)
    delete(app)
    before = everything(app)
    assert error_of(run(app, "users", *command.format(user_id).split(), stdin=PASSWORD, code=1)) == "User not found."
    assert everything(app) == before


def test_user_who_was_read_before_the_deletion_cannot_be_changed(app: Flask) -> None:
    user_id = create_user(app)
    now = datetime.now(UTC)
    with app.app_context():
        user = accounts.find("alice")
        accounts.delete(user, now)
        accounts.enable(user, now)
        accounts.set_password(user, NEW_PASSWORD, now)
        for change in (lambda: accounts.rename(user, "bob", now), lambda: accounts.delete(user, now)):
            with pytest.raises(errors.UserNotFound):
                change()
    (row,) = rows_of(app, User)
    assert (row.id, row.password_hash) == (user_id, "")
    assert row.disabled_at is not None


def test_of_two_deletions_at_once_one_succeeds(app: Flask) -> None:
    create_user(app)

    def attempt() -> bool:
        with app.app_context():
            try:
                accounts.delete(accounts.find("alice"), datetime.now(UTC))
            except errors.UserNotFound:
                return False
        return True

    assert sorted(at_once(attempt, attempt, attempt, attempt)) == [False, False, False, True]
    assert [event.kind for event in rows_of(app, AuditEvent)].count("user_deleted") == 1


@SQLITE
def test_deletion_asks_and_a_missing_answer_changes_nothing(app: Flask) -> None:
    create_user(app)
    for answer in ("", "n\n"):
        assert "Nothing was changed" in run(app, "users", "delete", "alice", stdin=answer, code=1).stderr
    assert can_sign_in(app)


@SQLITE
def test_question_names_the_user(database_url: str, app: Flask) -> None:
    user_id = create_user(app)
    with Terminal(database_url, "users", "delete", "ALICE") as terminal:
        terminal.wait_for(f"the user alice ({user_id}) for good. Continue? [y/N]")
        terminal.type("y")
        assert terminal.end() == 0
    assert run_json(app, "users", "list") == []


def test_events_and_sessions_of_a_deleted_user_are_found_by_id(app: Flask) -> None:
    user_id = create_user(app)
    sid = sign_in(app).sid
    delete(app)
    kinds = {event["kind"] for event in run_json(app, "events", "list", "--user", user_id)}
    assert kinds == {"user_created", "sign_in", "session_ended", "user_deleted"}
    (session,) = run_json(app, "sessions", "list", "--all", "--user", user_id)
    assert (session["id"], session["username"], session["revokedReason"]) == (sid, None, "user_deleted")
    assert "because the user was deleted (a command)" in run(app, "sessions", "why", sid).stdout


def test_doctor_and_decoys_ignore_deleted_users(app: Flask) -> None:
    create_user(app)
    delete(app)
    with app.app_context():
        assert accounts.with_unverifiable_hash(limit=10) == []


def renamed_claims(client: Client) -> Any:
    assert client.cookie
    return claims_of(client.refresh().json["accessToken"])["username"]


def test_renamed_user_keeps_the_id_the_password_and_the_sessions(app: Flask) -> None:
    user_id = create_user(app)
    alice = sign_in(app)
    assert run(app, "users", "rename", "alice", " Alicia ").stdout == "Renamed the user alice to alicia.\n"
    assert renamed_claims(alice) == "alicia"
    assert can_sign_in(app, "alicia")
    assert not can_sign_in(app, "alice")
    assert run_json(app, "users", "show", "alicia")["id"] == user_id


def test_renaming_is_an_event_without_the_names(app: Flask) -> None:
    user_id = create_user(app)
    run(app, "users", "rename", "alice", "alicia")
    (event,) = [event for event in rows_of(app, AuditEvent) if event.kind == "user_renamed"]
    assert (event.user_id, event.reason) == (user_id, None)


@pytest.mark.parametrize(("name", "words"), [("BOB", "taken"), ("", "1 to"), ("b\u043eb", "scripts")])
def test_new_name_must_be_free_and_allowed(app: Flask, name: str, words: str) -> None:
    create_user(app)
    create_user(app, "bob")
    assert words in error_of(run(app, "users", "rename", "alice", name, code=1))
    assert [user["username"] for user in run_json(app, "users", "list")] == ["alice", "bob"]


def test_renaming_to_the_same_name_changes_nothing(app: Flask) -> None:
    create_user(app)
    assert run(app, "users", "rename", "alice", "ALICE").stdout == "Renamed the user alice to alice.\n"
    assert "user_renamed" not in {event.kind for event in rows_of(app, AuditEvent)}


def test_old_name_is_free_and_not_locked(app: Flask) -> None:
    create_user(app)
    for _ in range(6):
        Client(app).login(password="not the password at all")
    run(app, "users", "rename", "alice", "alicia")
    create_user(app)
    assert can_sign_in(app)
    assert can_sign_in(app, "alicia")
