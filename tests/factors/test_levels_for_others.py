"""What other services learn of the factors of a sign-in."""

import pytest
from flask import Flask

from tests.support.authenticator import Authenticator, pending_of, second_step
from tests.support.client import Client, claims_of, sign_in
from tests.support.security_keys import Authenticator as SecurityKey
from tests.support.security_keys import register, sign_in_with
from tests.support.service_clients import register as register_service

LEVELS = {
    "password": (["pwd"], "1"),
    "app": (["pwd", "otp", "mfa"], "2"),
    "recovery code": (["pwd", "otp", "mfa"], "2"),
    "passkey": (["swk", "user", "mfa"], "2"),
}


def client_with(app: Flask, alice: Client, authenticator: Authenticator, how: str) -> Client:
    """Return a client of alice that has signed in in a way."""
    client = Client(app)
    if how == "password":
        return alice
    if how == "recovery code":
        second_step(client, pending_of(app), authenticator.recovery_codes[0], "recovery_code")
        return client
    second_step(client, pending_of(app), authenticator.code())
    if how == "passkey":
        key = SecurityKey()
        register(client, key)
        sign_in_with(client, key)
    return client


@pytest.mark.parametrize("how", LEVELS)
def test_token_introspection_and_proxy_agree_before_and_after_a_refresh(
    app: Flask, alice: Client, authenticator: Authenticator, how: str
) -> None:
    client, service = client_with(app, alice, authenticator, how), register_service(app)
    for _ in range(2):
        token = client.token or ""
        claims, state = claims_of(token), service.post("/api/introspect", token=token).json
        verified = client.call("GET", "/api/verify")
        assert (claims["amr"], claims["acr"]) == LEVELS[how]
        assert (state["amr"], state["acr"]) == LEVELS[how]
        assert (verified.header("X-Auth-AMR"), verified.header("X-Auth-ACR")) == (
            " ".join(LEVELS[how][0]),
            LEVELS[how][1],
        )
        assert client.refresh().status == 200


def test_metadata_name_the_levels(app: Flask) -> None:
    metadata = Client(app).send("GET", "/.well-known/oauth-authorization-server").json
    assert metadata["acr_values_supported"] == ["1", "2"]


def test_headers_of_a_client_do_not_raise_its_level(app: Flask, alice: Client) -> None:
    del alice
    forged = {"X-Auth-AMR": "pwd otp mfa", "X-Auth-ACR": "2"}
    verified = sign_in(app).call("GET", "/api/verify", headers=forged)
    assert (verified.header("X-Auth-AMR"), verified.header("X-Auth-ACR")) == ("pwd", "1")
