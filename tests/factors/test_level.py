"""What a session from before the first factor, or a revoked one, can not do."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from tests.support.app import PASSWORD, application
from tests.support.authenticator import Authenticator, pending_of, second_step
from tests.support.client import Client, sign_in
from tests.support.commandline import NEW_PASSWORD
from tests.support.security_keys import Authenticator as SecurityKey
from tests.support.security_keys import register, sign_in_with
from tokenapp import access_keys, accounts, address_change, errors, sessions
from tokenapp.db import execute_now
from tokenapp.factors import enrolment, passkeys
from tokenapp.http.endpoint import described
from tokenapp.models import Device, Session, User

PROTECTED: dict[str, Any] = {
    "POST /api/me/email": {"email": "new@example.com"},
    "DELETE /api/me": None,
    "POST /api/me/access-keys": {"name": "nightly build"},
    "PUT /api/me/password": {"currentPassword": PASSWORD, "newPassword": NEW_PASSWORD},
    "POST /api/me/factors/totp": None,
    "POST /api/me/factors/totp/unknown/confirm": {"code": "123456"},
    "DELETE /api/me/factors/unknown": None,
    "POST /api/me/recovery-codes": None,
    "POST /api/me/passkeys/options": None,
    "POST /api/me/passkeys": {"credential": {}, "name": "A phone"},
    "DELETE /api/me/passkeys/unknown": None,
}
# They need a recent sign-in of any level: whoever is worried can sign devices out at once.
OF_ANY_LEVEL: dict[str, Any] = {"DELETE /api/sessions": None, "DELETE /api/sessions/unknown": None}
OF_FIFTEEN_MINUTES = ("POST /api/me/email", "POST /api/me/access-keys", "DELETE /api/me")


@pytest.fixture
def app(database_url: str) -> Iterator[Flask]:
    """Return an application with all routes, and an old list of revoked sessions."""
    settings = {"TOKENAPP_SMTP_URL": "smtp://127.0.0.1:1", "TOKENAPP_REVOCATION_DELAY": "60s"}
    with application(database_url, **settings) as app:
        yield app


def change(client: Client, what: str) -> Any:
    """Request a change, and return the response."""
    return client.call(*what.split(), payload=(PROTECTED | OF_ANY_LEVEL)[what])


def changes(alice: Client) -> dict[str, Callable[[], object]]:
    """Return what the routes do once they have checked the access token."""
    assert alice.token is not None
    now, sid, user = datetime.now(UTC), alice.sid, accounts.find("alice")
    author = enrolment.Author(user.id, sid)
    key = access_keys.NewKey("nightly build", (), timedelta(days=1))
    change = partial(accounts.change_password, user, sid, NEW_PASSWORD, now, Device(), amr=("pwd",))
    return {
        "address": lambda: address_change.request(user.id, sid, "new@example.com", "client", now),
        "deletion": lambda: accounts.delete(user, now, sid=sid),
        "access key": lambda: access_keys.create(user.id, sid, key, now),
        "password": change,
        "new app": lambda: enrolment.start_totp(author, now),
        "confirmation": lambda: enrolment.confirm_totp(author, "unknown", "123456", now),
        "removal": lambda: enrolment.remove_totp(author, "unknown", now),
        "recovery codes": lambda: enrolment.new_recovery_codes(author, now),
        "passkey removal": lambda: passkeys.delete(author, "unknown", now),
        "one device": lambda: sessions.revoke_own(user.id, "unknown", now, by=sid),
        "all devices": lambda: sessions.revoke_all_of(user.id, "signed_out_everywhere", now, by=sid),
    }


def revoke_unnoticed(app: Flask, client: Client) -> None:
    """Revoke the session of a client; this process does not notice it yet."""
    with app.app_context():
        execute_now(sa.update(Session).where(Session.id == client.sid).values(revoked_at=datetime.now(UTC)))


def test_every_route_for_recent_sign_ins_is_tested(app: Flask) -> None:
    facts = {name: described(view) for name, view in app.view_functions.items()}
    recent = {name for name, each in facts.items() if each and (each.credential or "").startswith(("fresh", "recent"))}
    adapter = app.url_map.bind("localhost")
    tested = {adapter.match(path, method=method)[0] for method, path in map(str.split, PROTECTED | OF_ANY_LEVEL)}
    assert recent <= tested


def test_revoked_session_is_rejected_before_the_process_notices(app: Flask, alice: Client) -> None:
    assert alice.protected().status == 200  # this reads the list of revoked sessions, which then holds for a minute
    revoke_unnoticed(app, alice)
    for what in PROTECTED | OF_ANY_LEVEL:
        assert change(alice, what).code == "access_token_invalid", what


@pytest.mark.parametrize("ended", ["revoked_at", "expires_at"])
def test_ended_session_learns_nothing_about_passwords_and_codes(app: Flask, alice: Client, ended: str) -> None:
    assert alice.protected().status == 200
    with app.app_context():
        execute_now(sa.update(Session).where(Session.id == alice.sid).values({ended: datetime.now(UTC)}))
    for password in (PASSWORD, NEW_PASSWORD):
        change = {"currentPassword": password, "newPassword": PASSWORD}
        assert alice.call("PUT", "/api/me/password", payload=change).code == "access_token_invalid"
        again = {"password": password}
        assert alice.call("POST", "/api/reauthenticate", payload=again).code == "access_token_invalid"
    code = {"method": "recovery_code", "code": "a" * 16}
    assert alice.call("POST", "/api/reauthenticate", payload=code).code == "access_token_invalid"


def test_transaction_of_each_change_rejects_a_revoked_session(app: Flask, alice: Client) -> None:
    revoke_unnoticed(app, alice)
    with app.app_context():
        for attempt in changes(alice).values():
            with pytest.raises(errors.AccessTokenInvalid):
                attempt()


def test_transaction_of_each_change_rejects_a_session_below_the_level(app: Flask, alice: Client) -> None:
    with app.app_context():
        attempts = changes(alice)
        execute_now(sa.update(User).values(second_factor=True))  # between the check of the token and the change
        for name, attempt in attempts.items():
            if "device" not in name:
                with pytest.raises(errors.ReauthenticationRequired):
                    attempt()


def test_session_of_before_the_app_is_challenged(alice: Client, authenticator: Authenticator) -> None:
    del authenticator
    for what in PROTECTED:
        response = change(alice, what)
        assert (response.status, response.code) == (401, "reauthentication_required"), what
        challenge = response.header("WWW-Authenticate") or ""
        assert 'error="insufficient_user_authentication", acr_values="2"' in challenge


@pytest.mark.parametrize("what", OF_FIFTEEN_MINUTES)
def test_factor_added_to_the_session_is_enough(alice: Client, authenticator: Authenticator, what: str) -> None:
    alice.call("POST", "/api/reauthenticate", payload={"method": "totp", "code": authenticator.code()})
    assert change(alice, what).status in {200, 202, 204}


@pytest.mark.parametrize("what", OF_FIFTEEN_MINUTES)
def test_password_is_enough_without_a_factor(alice: Client, what: str) -> None:
    assert change(alice, what).status in {200, 202, 204}


@pytest.mark.parametrize("what", OF_FIFTEEN_MINUTES)
def test_session_of_before_the_passkey_is_challenged(app: Flask, alice: Client, what: str) -> None:
    weaker = sign_in(app)
    key = SecurityKey()
    assert register(alice, key).status == 200
    assert change(weaker, what).code == "reauthentication_required"
    assert sign_in_with(weaker, key).status == 200
    assert change(weaker, what).status in {200, 202, 204}


def test_session_of_before_the_app_signs_out_devices(app: Flask, alice: Client, authenticator: Authenticator) -> None:
    other = Client(app)
    assert second_step(other, pending_of(app), authenticator.code()).status == 200
    assert alice.call("DELETE", f"/api/sessions/{other.sid}").status == 204
    assert other.refresh().code == "refresh_token_revoked"
