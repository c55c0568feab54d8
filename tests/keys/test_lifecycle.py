"""The lifecycle of signing keys: rotate, retire, and the states of a key."""

from datetime import datetime, timedelta
from functools import partial

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric import ec
from flask import Flask

from tests.keys.conftest import (
    SQLITE,
    Restart,
    load,
    now,
    pem,
    retire,
    rotate,
    signer,
    states,
    statuses,
    stored_keys,
)
from tests.support.app import create_user
from tests.support.client import sign_in
from tests.support.concurrency import at_once
from tokenapp import db, errors, keys
from tokenapp.keys import lifecycle
from tokenapp.models import Session

USES = pytest.mark.parametrize("use", keys.USES)
LEAD = timedelta(seconds=302)  # the lifetime of the JWK set and two revocation delays
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)


# Rotation.


@USES
def test_key_is_pending_then_active_then_retiring_then_retired(app: Flask, use: keys.Use) -> None:
    began = now()
    signer(app, use, began)
    second = rotate(app, use, began)
    lead = LEAD if use == "access" else 3 * SECOND
    lifetime = timedelta(minutes=15) if use == "access" else timedelta(days=7)
    end = began + lead + lifetime + timedelta(seconds=61)
    assert second.activates_at == began + lead
    for moment, expected in (
        (began, ["active", "pending"]),
        (began + lead - SECOND / 1000, ["active", "pending"]),
        (began + lead, ["retiring", "active"]),
        (end - SECOND / 1000, ["retiring", "active"]),
        (end, ["retired", "active"]),
    ):
        assert states(app, moment, use) == expected
        ring = load(app, moment)
        assert len([kid for kid, key in ring.by_kid.items() if key.use == use]) == 2 - (expected[0] == "retired")
        assert (ring.signing[use].kid == second.kid) is (expected[1] == "active")


@USES
def test_rotation_before_the_first_use_creates_the_first_key(app: Flask, use: keys.Use) -> None:
    at = now()
    created = rotate(app, use, at)
    assert (created.state, created.activates_at) == ("active", at)
    create_user(app)
    assert statuses(app, sign_in(app)) == (200, 200)
    assert [row.kid for row in stored_keys(app, use)] == [created.kid]


def test_only_one_key_can_be_pending(app: Flask) -> None:
    at = now()
    signer(app, "access", at)
    rotate(app, "access", at)
    with pytest.raises(errors.KeyPending):
        rotate(app, "access", at + LEAD - SECOND)
    rotate(app, "access", at + LEAD)
    assert states(app, at + LEAD) == ["retiring", "active", "pending"]


@pytest.mark.parametrize("before", [0, 1])
def test_one_of_several_concurrent_rotations_succeeds(app: Flask, before: int) -> None:
    at = now()
    if before:
        signer(app, "access", at)

    def attempt() -> str:
        try:
            return rotate(app, "access", at).state
        except errors.KeyPending:
            return "rejected"

    outcomes = sorted(at_once(*[attempt] * 4))
    # Without a first key, the first rotation creates an active key, and the next one a pending key.
    allowed = [["pending", *["rejected"] * 3]]
    if not before:
        allowed = [["active", *["rejected"] * 3], ["active", "pending", *["rejected"] * 2]]
    assert outcomes in allowed
    assert states(app, at).count("active") == 1
    assert states(app, at).count("pending") <= 1


def test_concurrent_retirement_and_rotation_leave_one_active_key(app: Flask) -> None:
    for _ in range(5):
        at = now()
        dropped = signer(app, "access", at)
        for row in stored_keys(app, "access"):
            if row.activates_at > at and row.retired_at is None:
                retire(app, row.kid, at)

        def attempt(at: datetime = at) -> str:
            try:
                return rotate(app, "access", at).kid
            except errors.KeyPending:
                return "rejected"

        at_once(partial(_retire_as_text, app, dropped, at), attempt)
        live = [row for row in stored_keys(app, "access") if row.retired_at is None]
        assert states(app, at).count("active") == 1
        assert dropped not in {row.kid for row in live}
        assert [row.verifies_until for row in live].count(None) == 1


def test_processes_that_create_first_keys_at_once_agree_on_one(restart: Restart) -> None:
    apps = [restart() for _ in range(4)]
    for use in keys.USES:
        assert len(set(at_once(*[partial(signer, app, use) for app in apps]))) == 1
    with apps[0].app_context():
        lifecycle.create_first("access", now())  # like a process that looked before the others wrote
    assert len(stored_keys(apps[0], "access")) == 1


@SQLITE
def test_first_key_of_a_host_whose_clock_is_ahead_signs_at_once(app: Flask) -> None:
    ahead = signer(app, "access", now() + timedelta(seconds=5))
    assert signer(app, "access", now()) == ahead
    assert len(stored_keys(app, "access")) == 1


# Retirement.


@USES
def test_retiring_a_pending_key_undoes_its_rotation(app: Flask, use: keys.Use) -> None:
    at = now()
    active = signer(app, use, at)
    with app.app_context():
        assert lifecycle.retire(lifecycle.rotate(use, at).kid, at) == 0
    later = at + timedelta(days=400)
    assert states(app, later, use) == ["active", "retired"]
    assert signer(app, use, later) == active


@USES
def test_pending_key_becomes_active_when_the_active_key_is_retired(app: Flask, use: keys.Use) -> None:
    at = now()
    old = signer(app, use, at)
    pending = rotate(app, use, at)
    retire(app, old, at + SECOND)
    assert states(app, at + SECOND, use) == ["retired", "active"]
    assert signer(app, use, at + SECOND) == pending.kid
    assert states(app, at + timedelta(days=400), use) == ["retired", "active"]


@SQLITE
@pytest.mark.parametrize("alg", ["EdDSA", "HS256"])
def test_retired_key_without_a_successor_gets_one_of_its_algorithm(app: Flask, alg: keys.Alg) -> None:
    at = now()
    retire(app, rotate(app, "access", at, alg=alg).kid, at)
    assert states(app, at) == ["retired", "active"]
    assert stored_keys(app, "access")[1].algorithm == alg


@SQLITE
def test_retirement_of_a_retiring_key_does_not_change_the_active_key(app: Flask) -> None:
    at = now()
    old = signer(app, "access", at)
    second = rotate(app, "access", at)
    retire(app, old, at + LEAD)
    assert states(app, at + LEAD) == ["retired", "active"]
    assert signer(app, "access", at + LEAD) == second.kid


@SQLITE
def test_key_that_verifies_valid_tokens_is_not_retired_by_default(app: Flask) -> None:
    at = now()
    old = signer(app, "access", at)
    create_user(app)
    sign_in(app)
    rotate(app, "access", at)
    with app.app_context():
        for moment in (at + SECOND, at + LEAD + SECOND, at + LEAD + timedelta(minutes=15)):
            with pytest.raises(errors.KeyInUse) as error:
                lifecycle.retire(old, moment)
            assert "still verifies valid tokens" in error.value.detail
        assert lifecycle.retire(old, at + LEAD + timedelta(minutes=17)) == 0
        with pytest.raises(errors.KeyNotFound):
            lifecycle.retire(old, now(), at_once=True)
        with pytest.raises(errors.KeyNotFound):
            lifecycle.count_affected_sessions("unknown", now())


def test_retirement_of_a_refresh_key_revokes_only_the_sessions_that_it_signed(app: Flask) -> None:
    create_user(app)
    at = now()
    signer(app, "refresh", at - HOUR)
    rotate(app, "refresh", at - HOUR / 2)
    dropped = stored_keys(app, "refresh")[1].kid
    early, affected, expired = (sign_in(app).sid for _ in range(3))
    with app.app_context():
        moved = {"created_at": at - 40 * timedelta(minutes=1), "expires_at": at + HOUR}
        db.execute_now(sa.update(Session).where(Session.id == early).values(moved))
        db.execute_now(sa.update(Session).where(Session.id == expired).values(expires_at=at - SECOND))
        after = now()
        assert lifecycle.count_affected_sessions(dropped, after) == 1
        assert lifecycle.retire(dropped, after, at_once=True) == 1
        reasons = {row.id: row.revoked_reason for row in db.execute_now(sa.select(Session.id, Session.revoked_reason))}
    assert reasons == {early: None, affected: "key_dropped", expired: None}


@SQLITE
def test_retirement_of_a_refresh_key_revokes_any_number_of_sessions(app: Flask) -> None:
    user, at = create_user(app), now()
    dropped = signer(app, "refresh", at)
    common = {"user_id": user, "generation": 0, "current_jti": "jti", "authenticated_at": at, "created_at": at}
    common |= {"expires_at": at + HOUR, "ends_at": at + HOUR}
    with app.app_context(), db.writing() as writer:
        writer.execute(sa.insert(Session), [common | {"id": f"s{place}"} for place in range(2100)])
    assert retire(app, dropped, at + SECOND) == 2100
    with app.app_context():
        assert db.execute_now(sa.select(sa.func.count()).where(Session.revoked_at.is_(None)))[0][0] == 0


@SQLITE
def test_retirement_of_an_access_key_revokes_no_session_and_counts_only_valid_tokens(app: Flask) -> None:
    create_user(app)
    began = now() - timedelta(hours=3)
    dropped = signer(app, "access", began)
    old, recent = sign_in(app), sign_in(app)
    with app.app_context():
        db.execute_now(sa.update(Session).where(Session.id == old.sid).values(created_at=now() - HOUR))
    assert retire(app, dropped, now()) == 1
    load(app, now())
    assert statuses(app, recent) == (403, 200)


@SQLITE
def test_key_can_be_used_only_once_even_after_its_retirement(app: Flask) -> None:
    alg, material = keys.read_pem(pem(ec.generate_private_key(ec.SECP256R1())))
    at = now()
    kid = rotate(app, "access", at, alg=alg, material=material).kid
    for _ in range(2):
        with pytest.raises(errors.KeyRejected) as error:
            rotate(app, "access", at, alg=alg, material=material)
        assert "is or was in use" in error.value.detail
        if states(app, now())[0] != "retired":
            retire(app, kid, at)


def _retire_as_text(app: Flask, kid: str, at: datetime) -> str:
    return str(retire(app, kid, at))
