"""What operators see of second factors, and how they help."""

import sqlalchemy as sa
from flask import Flask

from tests.support.authenticator import Authenticator, pending_of, second_step, stopped_clock
from tests.support.client import Client
from tests.support.commandline import can_sign_in, run, run_json
from tests.support.security_keys import BE, UP, UV, register, sign_in_with
from tests.support.security_keys import Authenticator as SecurityKey
from tokenapp.db import execute_now
from tokenapp.models import User


def test_reset_lets_the_password_sign_in_and_ends_the_sessions(
    app: Flask, alice: Client, authenticator: Authenticator
) -> None:
    del authenticator
    assert not can_sign_in(app)
    result = run(app, "users", "reset-factors", "alice", "--yes")
    assert result.stdout == "Removed the second factors of alice and revoked 1 session.\n"
    assert alice.refresh().status == 403
    assert can_sign_in(app)


def test_reset_says_that_a_user_has_no_password(app: Flask, alice: Client) -> None:
    register(alice, SecurityKey())
    with app.app_context():
        execute_now(sa.update(User).values(password_hash="", hash_kind=""))
    said = run(app, "users", "reset-factors", "alice", "--yes").stdout
    assert "alice has no password, and cannot sign in until `flask users set-password` sets one.\n" in said


def test_reset_asks_first(app: Flask, authenticator: Authenticator) -> None:
    del authenticator
    run(app, "users", "reset-factors", "alice", stdin="n\n", code=1)
    assert not can_sign_in(app)


def test_reset_ends_pending_sign_ins(app: Flask, authenticator: Authenticator) -> None:
    pending = pending_of(app)
    run(app, "users", "reset-factors", "alice", "--yes")
    assert second_step(Client(app), pending, authenticator.code()).code == "sign_in_expired"


def test_show_lists_the_factors(app: Flask, authenticator: Authenticator) -> None:
    second_step(Client(app), pending_of(app), authenticator.recovery_codes[3], "recovery_code")
    shown = run_json(app, "users", "show", "alice", "--json")
    assert (shown["secondFactors"], shown["recoveryCodesLeft"]) == (["totp"], 9)


def test_show_has_the_wait_after_wrong_codes(app: Flask, authenticator: Authenticator) -> None:
    pending = pending_of(app)
    for _ in range(5):
        second_step(Client(app), pending, authenticator.wrong)
    shown = run_json(app, "users", "show", "alice", "--json")
    assert (shown["failures"], shown["codeFailures"]) == (0, 5)
    assert shown["codesLockedUntil"] is not None


def test_why_says_why_a_passkey_alone_did_not_sign_in(app: Flask, alice: Client) -> None:
    device = SecurityKey(flags=UP | UV, counter=5)
    register(alice, device)
    assert sign_in_with(Client(app), device).code == "passkey_invalid"  # the counter is the same
    device.counter, device.flags = 6, UP | UV | BE
    assert sign_in_with(Client(app), device).code == "passkey_invalid"
    device.flags = UP | UV
    run(app, "users", "disable", "alice")
    assert [sign_in_with(Client(app), device).code for _ in range(2)] == ["passkey_invalid"] * 2
    said = run(app, "sessions", "why", "alice").stdout
    for cause in ("signature counter went back", "backup eligibility changed", "user disabled"):
        assert "alice could not sign in with a passkey" in said
        assert f": {cause}." in said
    assert "(the last of 2 times)" in said


def test_why_says_which_factor_failed_and_why(app: Flask, authenticator: Authenticator) -> None:
    code = authenticator.code()
    second_step(Client(app), pending_of(app), code)
    for wrong, method in ((code, "totp"), (authenticator.wrong, "totp"), ("aaaa-bbbb-cccc-dddd", "recovery_code")):
        assert second_step(Client(app), pending_of(app), wrong, method).code == "invalid_code"
    said = run(app, "sessions", "why", "alice").stdout
    assert "second step with an authenticator app" in said
    assert ": code used before." in said
    assert ": wrong code." in said
    assert "second step with a recovery code" in said
    assert ": unknown or used before." in said


def test_why_says_which_factor_failed_in_a_session(app: Flask, authenticator: Authenticator) -> None:
    client = Client(app)
    second_step(client, pending_of(app), authenticator.code())
    client.call("POST", "/api/reauthenticate", payload={"method": "totp", "code": authenticator.wrong})
    said = run(app, "sessions", "why", client.sid).stdout
    assert "The user did not pass the second step with an authenticator app" in said


def test_every_change_is_an_audit_event(app: Flask, authenticator: Authenticator) -> None:
    client = Client(app)
    second_step(client, pending_of(app), authenticator.code())
    assert client.call("POST", "/api/me/recovery-codes").status == 200
    assert client.call("DELETE", f"/api/me/factors/{authenticator.id}").status == 204
    run(app, "users", "reset-factors", "alice", "--yes")
    events = run_json(app, "events", "list", "--json")
    about = [event for event in events if "factor" in event["kind"] or "codes" in event["kind"]]
    assert sorted((event["kind"], event["reason"] or "") for event in about) == [
        ("factor_added", "totp"),
        ("factor_removed", "totp"),
        ("factors_reset", ""),
        ("recovery_codes_created", "first factor"),
        ("recovery_codes_created", "replaced"),
    ]


def test_unlock_ends_the_wait_after_wrong_codes(app: Flask, authenticator: Authenticator) -> None:
    pending = pending_of(app)
    with stopped_clock():
        statuses = [second_step(Client(app), pending, authenticator.wrong).status for _ in range(6)]
    assert statuses == [401] * 5 + [429]
    run(app, "users", "unlock", "alice")
    assert second_step(Client(app), pending, authenticator.code()).status == 200
