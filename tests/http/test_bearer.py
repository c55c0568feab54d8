"""The `Authorization` header: schemes, malformed tokens and several credentials."""

from typing import Final

import pytest
from flask import Flask

from tests.conftest import Databases
from tests.support import stored
from tests.support.app import make_app
from tests.support.client import Client, Response

MISSING: Final = (401, "access_token_missing", "Access token required.")


def protected(client: Client, header: str) -> Response:
    """Call the protected route with this `Authorization` header."""
    return client.send("GET", "/api/protected", headers={"Authorization": header})


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEARER", "Bearer ", "Bearer    ", " Bearer"])
def test_scheme_is_case_insensitive_and_spaces_are_allowed(shared: Client, scheme: str) -> None:
    for trailing in ("", " ", "   ", "\t"):
        assert protected(shared, f"{scheme} {shared.token}{trailing}").status == 200


NO_BEARER: Final = [
    "",
    " ",
    ",",
    ", ,",
    " , , ",
    "Bearer",
    "bearer ",
    "Bearer  ",
    "Basic YWxpY2U6eA==",
    "Basic",
    "Digest username=x, realm=y, nonce=z",
    "Negotiate TOKEN",
    "Token TOKEN",
    "JWT TOKEN",
    "DPoP TOKEN",
    "Bearer: TOKEN",
    "BearerTOKEN",
    "Bearer\tTOKEN",
    "Bearer\xa0TOKEN",
    "\xa0Bearer TOKEN",
    "TOKEN",
    ",Bearer TOKEN",
    "x=y, Bearer TOKEN",
    '"Bearer" TOKEN',
    "Bearer=TOKEN",
    "\x00",
    "\xff",
]


@pytest.mark.parametrize("header", NO_BEARER, ids=repr)
def test_other_scheme_counts_as_a_missing_token(shared: Client, header: str) -> None:
    response = protected(shared, header.replace("TOKEN", shared.token or ""))
    assert response.problem == MISSING
    assert response.header("WWW-Authenticate") == 'Bearer realm="tokenapp-api"'


MALFORMED: Final = [
    "Bearer null",
    "Bearer undefined",
    "Bearer TOKEN,",
    "Bearer TOKEN x",
    "Bearer TOKEN;",
    "Bearer TOKEN\xa0",
    "Bearer TOKEN\x85",
    "Bearer TOKEN\x0b",
    "Bearer \x0bTOKEN",
    "Bearer \x00",
    "Bearer \xff",
    'Bearer "TOKEN"',
    "Bearer <TOKEN>",
    "Bearer token=TOKEN",
    "Bearer Bearer TOKEN",
    "Bearer ,",
    "Bearer =",
    "Bearer ..",
    "Bearer Basic",
]


@pytest.mark.parametrize("header", MALFORMED, ids=repr)
def test_malformed_bearer_token_is_invalid(shared: Client, header: str) -> None:
    response = protected(shared, header.replace("TOKEN", shared.token or ""))
    assert response.problem == (403, "access_token_invalid", "Access token invalid or expired.")
    assert response.header("WWW-Authenticate") == 'Bearer realm="tokenapp-api", error="invalid_token"'


TWO_CREDENTIALS: Final = [
    "Bearer TOKEN, Bearer TOKEN",
    "Bearer TOKEN,Bearer x",
    "Bearer x, bearer TOKEN",
    "Basic YWxpY2U6eA==, Bearer TOKEN",
    "Bearer TOKEN, Basic YWxpY2U6eA==",
    "Bearer TOKEN, Digest username=x",
    "Bearer a, Bearer b, Bearer c",
]


@pytest.mark.parametrize("header", TWO_CREDENTIALS)
def test_two_credentials_are_an_invalid_request(shared: Client, header: str) -> None:
    response = protected(shared, header.replace("TOKEN", shared.token or ""))
    assert (response.status, response.code) == (400, "invalid_request")


@pytest.mark.parametrize("header", [*NO_BEARER, *MALFORMED, *TWO_CREDENTIALS], ids=repr)
def test_logout_with_bad_credentials_is_204_and_revokes_nothing(shared_app: Flask, shared: Client, header: str) -> None:
    before = stored.sessions(shared_app)
    header = header.replace("TOKEN", shared.token or "")
    assert shared.send("POST", "/api/logout", headers={"Authorization": header}).status == 204
    assert stored.sessions(shared_app) == before


def test_access_token_is_read_from_the_header_alone(shared: Client) -> None:
    token = shared.token or ""
    fields = dict.fromkeys(
        ("access_token", "accessToken", "access_token_cookie", "jwt", "token", "refreshToken"), token
    )
    query = "&".join(f"{name}={value}" for name, value in fields.items())
    cookies = "; ".join(f"{name}={value}" for name, value in fields.items())
    assert shared.send("GET", f"/api/protected?{query}").problem == MISSING
    assert shared.send("GET", "/api/protected", headers={"Cookie": cookies}).problem == MISSING
    assert shared.send("GET", "/api/protected", payload=fields).problem == MISSING
    assert shared.send("GET", "/api/protected", form=fields).problem == MISSING
    assert shared.send("GET", "/api/protected", headers={"X-Access-Token": token}).problem == MISSING


def test_status_of_an_invalid_token_can_be_401_as_in_rfc_6750(databases: Databases) -> None:
    app = make_app(databases("sqlite"), TOKENAPP_INVALID_TOKEN_STATUS="401")
    response = protected(Client(app), "Bearer bad")
    assert response.problem == (401, "access_token_invalid", "Access token invalid or expired.")
    assert response.header("WWW-Authenticate") == 'Bearer realm="tokenapp-api", error="invalid_token"'
