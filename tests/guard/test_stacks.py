"""The guards of all stacks beside each other, with one service."""

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final, Literal

import jwt
import pytest
from flask import Flask

from tests.conftest import Databases
from tests.guard.stacks import serve_django, serve_fastapi, serve_flask
from tests.support.access_keys import create_key, exchange
from tests.support.app import create_user, make_app
from tests.support.client import Client, Response, sign_in
from tests.support.concurrency import wait_until
from tests.support.forge import Issued, issue
from tests.support.guarded import issuer_of
from tests.support.programs import find_program
from tests.support.server import Server
from tokenapp import access_keys, accounts, clients, db, keys

STACKS: Final = ("Flask", "Django", "FastAPI", "Express", "Fastify")
QUICK: Final = {"TOKENAPP_JWKS_LIFETIME": "1s", "TOKENAPP_REVOCATION_DELAY": "0.1"}


@contextmanager
def serve_node(folder: Path, kind: str, options: Mapping[str, Any]) -> Iterator[int]:
    """Run an application of the npm package; yield its port."""
    names = {"client_id": "clientId", "client_secret": "clientSecret", "feed_patience": "feedPatience"}
    renamed = json.dumps({names.get(name, name): value for name, value in options.items()})
    command = [find_program("node"), "shop.mjs", kind, renamed]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


class Shops:
    """The same application in each stack, and the service whose tokens it accepts.

    The service runs on two hosts, each with two workers. The guards know the first one.
    """

    def __init__(self, app: Flask, server: Server, other: Server, ports: Mapping[str, int]) -> None:
        self.app, self.server, self.other, self.ports = app, server, other, ports

    def call(self, stack: str, token: str | None, path: str = "/orders", method: str = "GET") -> Response:
        """Call a view once."""
        return Client(self.ports[stack]).send(method, path, bearer=token)

    def get(self, stack: str, token: str | None, path: str = "/orders", method: str = "GET") -> Response:
        """Call a view until the response is not 503.

        On a busy machine the feed can have been read too long ago.
        """
        responses: list[Response] = []

        def is_verdict() -> bool:
            responses.append(self.call(stack, token, path, method))
            return responses[-1].status != 503

        wait_until(is_verdict, seconds=30, what="a read of the feed")
        return responses[-1]

    def statuses(self, token: str | None, path: str = "/orders") -> set[int]:
        """Return the statuses of all stacks."""
        return {self.get(stack, token, path).status for stack in STACKS}

    def wait_for(self, status: int, token: str, what: str) -> None:
        """Wait until all stacks respond with `status`."""
        wait_until(lambda: {self.call(stack, token).status for stack in STACKS} == {status}, seconds=30, what=what)


@pytest.fixture(scope="module")
def shops(databases: Databases, node_guard: Path) -> Iterator[Shops]:
    """Run the service and the five applications, whose guards follow the feed."""
    url = databases("sqlite")
    app = make_app(url, **QUICK)
    create_user(app)
    with app.app_context():
        client, secret = clients.create("shops", ["feed"], datetime.now(UTC))
    with ExitStack() as stack:
        server = stack.enter_context(Server(url, QUICK))
        other = stack.enter_context(Server(url, {**QUICK, "TOKENAPP_ISSUER": issuer_of(server)}))
        options = {"issuer": issuer_of(server), "audience": "tokenapp-api", "feed_patience": 3}
        options |= {"client_id": client.id, "client_secret": secret}
        ports = {
            "Flask": stack.enter_context(serve_flask(options)),
            "Django": stack.enter_context(serve_django(options)),
            "FastAPI": stack.enter_context(serve_fastapi(options)),
            "Express": stack.enter_context(serve_node(node_guard, "express", options)),
            "Fastify": stack.enter_context(serve_node(node_guard, "fastify", options)),
        }
        yield Shops(app, server, other, ports)
    with app.app_context():
        db.db.engine.dispose()


@pytest.fixture(scope="module")
def issued(shops: Shops) -> Issued:
    """Provide a session whose tokens the applications accept, to make others from."""
    original = issue(shops.app, "berta")
    access = original.with_claims("access", iss=issuer_of(shops.server))
    return Issued(shops.app, {**original.good, "access": access}, original.keys)


@pytest.mark.parametrize("stack", STACKS)
def test_valid_token_is_accepted_and_others_get_their_errors(shops: Shops, issued: Issued, stack: str) -> None:
    assert shops.get(stack, issued.good["access"]).json == {"for": "berta"}
    missing, invalid = shops.get(stack, None), shops.get(stack, issued.good["refresh"])
    assert (missing.status, missing.code) == (401, "access_token_missing")
    assert missing.header("WWW-Authenticate") == 'Bearer realm="tokenapp-api"'
    assert (invalid.status, invalid.code) == (403, "access_token_invalid")
    assert invalid.header("WWW-Authenticate") == 'Bearer realm="tokenapp-api", error="invalid_token"'
    assert all(
        (each.header("Content-Type") or "").startswith("application/problem+json") for each in (missing, invalid)
    )


REQUIREMENTS: Final[Mapping[str, tuple[dict[str, Any], dict[str, Any], str]]] = {
    "/admin": ({"roles": ["admin", "other"]}, {"roles": ["administrator"]}, 'error="insufficient_scope"'),
    "/export": (
        {"scope": "orders:export orders:read"},
        {"scope": "orders:read"},
        'error="insufficient_scope", scope="orders:read orders:export"',
    ),
    "/payment": ({"acr": "2"}, {"acr": "1"}, 'error="insufficient_user_authentication", acr_values="2"'),
}


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("path", REQUIREMENTS)
def test_view_requires_a_role_scope_or_level(shops: Shops, issued: Issued, stack: str, path: str) -> None:
    enough, too_little, challenge = REQUIREMENTS[path]
    assert shops.get(stack, issued.with_claims("access", **enough), path).status == 200
    status, code = (401, "insufficient_user_authentication") if path == "/payment" else (403, "insufficient_scope")
    for claims in (too_little, {}):
        response = shops.get(stack, issued.with_claims("access", **claims), path)
        assert (response.status, response.code) == (status, code)
        assert response.header("WWW-Authenticate") == f'Bearer realm="tokenapp-api", {challenge}'


@pytest.mark.parametrize(
    ("stack", "path"), [("Flask", "/async"), ("Django", "/async"), ("Django", "/class"), ("Django", "/decorated")]
)
def test_async_view_is_protected(shops: Shops, issued: Issued, stack: str, path: str) -> None:
    assert shops.get(stack, issued.good["access"], path).json == {"for": "berta"}
    assert shops.get(stack, None, path).code == "access_token_missing"


def test_post_without_csrf_token_works_in_django(shops: Shops, issued: Issued) -> None:
    assert shops.get("Django", issued.good["access"], method="POST").status == 200


@pytest.mark.parametrize("stack", STACKS)
def test_two_authorization_headers_are_rejected(shops: Shops, issued: Issued, stack: str) -> None:
    for other in (issued.good["access"], "x"):
        connection = HTTPConnection("127.0.0.1", shops.ports[stack], timeout=30)
        connection.putrequest("GET", "/orders")
        for token in (issued.good["access"], other):
            connection.putheader("Authorization", f"Bearer {token}")
        connection.endheaders()
        assert connection.getresponse().status == 403
        connection.close()


def test_revoked_session_is_rejected_in_all_stacks(shops: Shops) -> None:
    client, other = sign_in(shops.server.port), sign_in(shops.server.port)
    assert client.token is not None
    assert shops.statuses(client.token) == shops.statuses(other.token) == {200}
    Client(shops.other.port).logout(client.cookie)
    shops.wait_for(403, client.token, "the revocation")
    assert shops.statuses(other.token) == {200}


def test_revoked_access_key_is_rejected_in_all_stacks(shops: Shops) -> None:
    client = sign_in(shops.server.port)
    created = create_key(client)
    token = exchange(shops.server.port, created["key"])
    assert shops.statuses(token) == {200}
    with shops.app.app_context():
        access_keys.revoke(created["id"], "operator", datetime.now(UTC))
    shops.wait_for(403, token, "the revocation")
    assert shops.statuses(client.token) == {200}


def test_removed_role_is_rejected_in_all_stacks(shops: Shops) -> None:
    client = sign_in(shops.server.port)
    change_role(shops.app, "add")
    client.refresh()
    assert client.token is not None
    assert shops.statuses(client.token, "/admin") == {200}
    change_role(shops.app, "remove")
    shops.wait_for(403, client.token, "the removal")
    client.refresh()
    assert shops.statuses(client.token) == {200}
    assert shops.statuses(client.token, "/admin") == {403}


def change_role(app: Flask, action: Literal["add", "remove"]) -> None:
    """Give alice the role admin, or take it from her."""
    change = accounts.add_role if action == "add" else accounts.remove_role
    with app.app_context():
        change(accounts.find("alice"), "admin", datetime.now(UTC))


def test_requests_get_503_while_the_feed_cannot_be_read(shops: Shops, issued: Issued) -> None:
    token = issued.good["access"]
    shops.wait_for(200, token, "accepted tokens")
    shops.server.kill()
    shops.wait_for(503, token, "503")
    assert {shops.call(stack, token).header("Retry-After") for stack in STACKS} == {"1"}
    shops.server.__enter__()
    shops.wait_for(200, token, "accepted tokens")


def test_tokens_of_the_next_key_are_accepted(shops: Shops) -> None:
    old = sign_in(shops.server.port).token or ""
    with shops.app.app_context():
        successor = keys.lifecycle.rotate("access", datetime.now(UTC)).kid
    tokens = [old]

    def is_active() -> bool:
        tokens.append(sign_in(shops.server.port).token or "")
        return bool(jwt.get_unverified_header(tokens[-1])["kid"] == successor)

    wait_until(is_active, seconds=30, what="the next key active")
    shops.wait_for(200, tokens[-1], "accepted tokens of the next key")
    assert shops.statuses(old) == {200}
