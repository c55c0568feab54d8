"""What the guard logs about rejected requests."""

import logging
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from flask import Flask

from tests.support.client import sign_in
from tests.support.forge import issue
from tests.support.guarded import Shop, guard_of, issuer_of
from tests.support.server import Server
from tokenapp import clients
from tokenapp_guard import core


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "tokenapp_guard"]


def test_each_reason_is_logged_once_a_minute(
    service: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, token = Shop(guard_of(service)), sign_in(service.port).token or ""
    for bad in (token[:-8] + "A" * 8, "x") * 5:
        assert shop.orders(bad).status_code == 403
    expected = ["request rejected: the signature is invalid", "request rejected: the token is malformed"]
    assert messages(caplog) == expected
    monkeypatch.setattr(core, "LOG_INTERVAL", 0.0)
    assert shop.orders("x").status_code == 403
    assert messages(caplog) == [*expected, expected[1]]
    assert {record.levelno for record in caplog.records if record.name == "tokenapp_guard"} == {logging.WARNING}


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"exp": -1, "iat": -100}, "has expired"),
        ({"aud": "another"}, "another audience"),
        ({"iss": "https://other.example"}, "another issuer"),
        ({"exp": 999}, "lives longer than max_lifetime"),
        ({"iat": 300, "exp": 900}, "issued in the future"),
        ({"type": "refresh"}, "not an access token"),
    ],
)
def test_reason_is_named(
    app: Flask, service: Server, caplog: pytest.LogCaptureFixture, claims: dict[str, Any], reason: str
) -> None:
    now = int(time.time())
    changed = {name: now + value if isinstance(value, int) else value for name, value in claims.items()}
    all_claims = {"iss": issuer_of(service), "aud": "tokenapp-api", "iat": now, "exp": now + 600, **changed}
    token = issue(app, "berta").with_claims("access", **all_claims)
    assert Shop(guard_of(service)).orders(token).status_code == 403
    (message,) = messages(caplog)
    assert reason in message


def test_accepted_and_anonymous_requests_are_not_logged(service: Server, caplog: pytest.LogCaptureFixture) -> None:
    shop = Shop(guard_of(service))
    assert shop.orders(sign_in(service.port).token).status_code == 200
    assert shop.orders(None).status_code == 401
    assert messages(caplog) == []


def test_failure_to_fetch_is_logged_with_its_cause(service: Server, caplog: pytest.LogCaptureFixture) -> None:
    shop, token = Shop(guard_of(service)), sign_in(service.port).token
    service.kill()
    for _ in range(3):
        assert shop.orders(token).status_code == 503
    (message,) = messages(caplog)
    assert message.startswith("request rejected: Keys cannot be fetched at the moment. (")
    assert "[Errno" in message


def test_rejected_credentials_of_the_feed_are_logged(
    app: Flask, service: Server, caplog: pytest.LogCaptureFixture
) -> None:
    with app.app_context():
        client, _ = clients.create("shop", ["feed"], datetime.now(UTC))
    shop = Shop(guard_of(service, client_id=client.id, client_secret="wrong"))
    assert shop.orders(sign_in(service.port).token).status_code == 503
    (message,) = messages(caplog)
    assert "Revoked sessions cannot be fetched" in message
    assert "returned 401" in message
