"""A new password or a re-authentication starts a new session (promise S14)."""

from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from tests.support.app import PASSWORD, create_user
from tests.support.client import Client, Response, claims_of, sign_in
from tests.support.concurrency import at_once
from tokenapp import db
from tokenapp.models import AuditEvent

NEW_PASSWORD = "purple monkey dishwasher"
PROOFS = {"reauthenticated": "reauthenticate", "password_changed": "password"}


def prove(client: Client, proof: str, password: str = PASSWORD, **more: Any) -> Response:
    """Prove the identity of a signed-in client."""
    if proof == "reauthenticate":
        return client.call("POST", "/api/reauthenticate", payload={"password": password}, **more)
    body = {"currentPassword": password, "newPassword": NEW_PASSWORD}
    return client.call("PUT", "/api/me/password", payload=body, **more)


@pytest.mark.parametrize("proof", PROOFS.values())
def test_copied_cookie_is_revoked_by_a_proof_of_identity(app: Flask, proof: str) -> None:
    create_user(app)
    client = sign_in(app)
    thief = Client(app)
    thief.cookie = client.cookie
    assert prove(client, proof).status in {200, 204}
    assert thief.refresh().code == "refresh_token_revoked"
    assert client.refresh().status == 200


@pytest.mark.parametrize("proof", PROOFS.values())
def test_proof_of_identity_opens_a_fresh_session(app: Flask, proof: str) -> None:
    create_user(app)
    client = sign_in(app)
    before = claims_of(str(client.token))["sid"]
    prove(client, proof)
    assert client.refresh().status == 200
    assert claims_of(str(client.token))["sid"] != before
    assert client.call("DELETE", "/api/sessions?keep=current").status == 204


@pytest.mark.parametrize(("reason", "proof"), PROOFS.items())
def test_old_session_and_its_reason_are_in_the_audit_log(app: Flask, reason: str, proof: str) -> None:
    create_user(app)
    client = sign_in(app)
    sid = claims_of(str(client.token))["sid"]
    prove(client, proof)
    with app.app_context():
        ended = sa.select(AuditEvent.sid, AuditEvent.reason).where(AuditEvent.kind == "session_ended")
        assert [tuple(row) for row in db.execute_now(ended)] == [(sid, reason)]


def test_new_password_revokes_all_other_sessions(app: Flask) -> None:
    create_user(app)
    client, other = sign_in(app), sign_in(app)
    assert prove(client, "password").status == 204
    assert other.refresh().code == "refresh_token_revoked"
    assert Client(app).login().code == "invalid_credentials"
    assert Client(app).login(password=NEW_PASSWORD).status == 200


def test_new_password_must_differ(app: Flask) -> None:
    create_user(app)
    client = sign_in(app)
    body = {"currentPassword": PASSWORD, "newPassword": PASSWORD}
    response = client.call("PUT", "/api/me/password", payload=body)
    assert (response.status, response.code) == (400, "password_rejected")
    assert response.cookie is None
    assert client.refresh().status == 200


@pytest.mark.parametrize("proof", PROOFS.values())
def test_page_of_another_site_cannot_use_these_routes(app: Flask, proof: str) -> None:
    create_user(app)
    client = sign_in(app)
    response = prove(client, proof, headers={"Sec-Fetch-Site": "cross-site"})
    assert (response.status, response.code) == (403, "cross_site_request")
    assert client.refresh().status == 200


def test_refresh_that_races_a_new_password_harms_nobody(app: Flask) -> None:
    create_user(app)
    for round_number in range(4):
        password = (PASSWORD, NEW_PASSWORD)[round_number % 2]
        client = sign_in(app, password=password)
        old = client.cookie
        body = {"currentPassword": password, "newPassword": (NEW_PASSWORD, PASSWORD)[round_number % 2]}
        token = client.token
        racing = Client(app)
        changed, refreshed = at_once(
            lambda: client.send("PUT", "/api/me/password", payload=body, bearer=token),  # noqa: B023 -- called at once
            lambda: racing.refresh(old),  # noqa: B023 -- called at once
        )
        assert changed.status == 204
        assert refreshed.status in {200, 403}
        assert Client(app).refresh(old).code == "refresh_token_revoked"
        assert Client(app).refresh(changed.cookie).status == 200


def test_revoked_session_proves_nothing(app: Flask) -> None:
    create_user(app)
    client = sign_in(app)
    other = sign_in(app)
    assert other.call("DELETE", "/api/sessions?keep=current").status == 204
    for proof in PROOFS.values():
        response = prove(client, proof)
        assert response.code == "access_token_invalid"
        assert response.cookie is None
