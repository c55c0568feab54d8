"""Views protected by the guard accept what the service accepts."""

import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pytest
from flask import Flask

from tests.support.app import ROOT
from tests.support.client import sign_in
from tests.support.forge import issue
from tests.support.guarded import Shop, guard_of, issuer_of
from tests.support.server import Server
from tokenapp_guard import Guard


def test_view_gets_the_claims_of_the_token(service: Server) -> None:
    shop, token = Shop(guard_of(service)), sign_in(service.port).token
    for scheme in ("Bearer", "bearer"):
        assert shop.orders(token, scheme).json == {"for": "alice"}


def test_other_frameworks_do_not_import_flask() -> None:
    program = "import sys, tokenapp_guard.asgi, tokenapp_guard.django; print('flask' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("requirements", [{"role": ""}, {"scope": " "}, {"acr": "3"}, {"acr": ""}], ids=repr)
def test_requirement_that_cannot_be_met_is_an_error(requirements: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="must not be empty"):
        Guard("https://login.example.com", audience="tokenapp-api").required(**requirements)


@pytest.mark.parametrize("given", [{"client_id": "client-x"}, {"client_id": "", "client_secret": "x"}], ids=repr)
def test_half_of_the_credentials_is_an_error(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="belong together"):
        Guard("https://login.example.com", audience="tokenapp-api", **given)


def test_request_without_token_gets_401(service: Server) -> None:
    response = Shop(guard_of(service)).orders(None)
    assert (response.status_code, response.json and response.json["code"]) == (401, "access_token_missing")
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="tokenapp-api"'


def test_invalid_token_gets_403(service: Server) -> None:
    shop, client = Shop(guard_of(service)), sign_in(service.port)
    token = client.token or ""
    without_signature = token[: token.rindex(".")] + "."
    for bad in (client.cookie, token[:-2], token + "A", "x", "a.b.c", without_signature, "x" * 9000):
        response = shop.orders(bad)
        assert (response.status_code, response.json and response.json["code"]) == (403, "access_token_invalid"), bad
        assert 'error="invalid_token"' in response.headers["WWW-Authenticate"]


@pytest.mark.parametrize("options", [{"audience": "another"}, {"max_lifetime": 899}], ids=["audience", "lifetime"])
def test_token_of_another_audience_or_a_longer_lifetime_gets_403(service: Server, options: dict[str, Any]) -> None:
    assert Shop(guard_of(service, **options)).orders(sign_in(service.port).token).status_code == 403


def test_signed_token_with_invalid_claims_gets_403(app: Flask, service: Server) -> None:
    shop, issued = Shop(guard_of(service)), issue(app, "berta")
    now = int(datetime.now(UTC).timestamp())
    good = {"iss": issuer_of(service), "aud": "tokenapp-api"}
    assert shop.orders(issued.with_claims("access", **good)).status_code == 200
    for claims in ({"exp": now - 1}, {"type": "refresh"}, {"iat": now + 999, "exp": now + 1800}, {"iss": "http://x"}):
        assert shop.orders(issued.with_claims("access", **(good | claims))).status_code == 403, claims
