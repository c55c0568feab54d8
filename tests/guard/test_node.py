"""The npm package: what it fetches from the service, and when."""

import json
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from tests.guard.test_stacks import serve_node
from tests.support.client import Client
from tests.support.forge import b64, compact, issue
from tests.support.guarded import stub_server
from tests.support.programs import find_program

CREDENTIALS = {"clientId": "client-x", "clientSecret": "x"}
TOKEN = b".".join((b64(compact({"alg": "ES256", "kid": "k", "typ": "at+jwt"})), b64(b"{}"), b64(bytes(64)))).decode()


def verify(folder: Path, issuer: str, *tokens: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Let a guard with these options verify tokens at the same time."""
    options = {"issuer": issuer, "audience": "tokenapp-api", **more}
    question = json.dumps({"options": options, "tokens": dict(enumerate(tokens))})
    command = [find_program("node"), "verdicts.mjs"]
    return subprocess.run(command, cwd=folder, input=question, capture_output=True, text=True, timeout=60, check=False)


def verdicts(folder: Path, issuer: str, *tokens: str, **more: str) -> list[str | int]:
    """Return the verdicts on tokens: user ids and statuses."""
    done = verify(folder, issuer, *tokens, **more)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout).values())


def run(folder: Path, *arguments: str) -> list[str]:
    """Run a program that uses the guard; return the lines that it prints."""
    command = [find_program("node"), *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.splitlines()


def document(app: Flask) -> dict[str, Any]:
    """Return key set and metadata in one, to which the issuer must be added."""
    return {**app.test_client().get("/.well-known/jwks.json").get_json(), "tokenapp_access_token_lifetime": 900}


@pytest.mark.parametrize("issuer", ["http://login.example.com", "ftp://127.0.0.1", "login"])
def test_issuer_must_be_https_or_loopback(node_guard: Path, issuer: str) -> None:
    done = verify(node_guard, issuer)
    assert done.returncode != 0
    assert "the issuer must be https, or http on loopback" in done.stderr


def test_half_of_the_credentials_is_an_error(node_guard: Path) -> None:
    done = verify(node_guard, "https://login.example.com", clientId="client-x")
    assert "clientId and clientSecret belong together" in done.stderr


def test_first_requests_share_what_is_fetched_and_the_feed_lets_the_process_end(app: Flask, node_guard: Path) -> None:
    issued, published = issue(app, "berta"), {**document(app), "items": [], "cursor": "0~", "more": False}
    with stub_server(200, {}, published) as (address, requested):
        published["issuer"] = address
        tokens = [issued.with_claims("access", iss=address)] * 20
        found = verdicts(node_guard, address, *tokens, **CREDENTIALS)
        assert set(found) == {issued.claims("access")["sub"]}
    paths = "/.well-known/jwks.json", "/.well-known/oauth-authorization-server", "/api/revocations"
    assert [requested.count(path) for path in paths] == [1, 1, 1]


@pytest.mark.parametrize(
    "page", [{"more": True}, {"more": 1}, {"cursor": "\ud800"}, {"items": [{"sid": None}]}], ids=repr
)
def test_malformed_feed_is_not_used(app: Flask, node_guard: Path, page: dict[str, Any]) -> None:
    published = {**document(app), "items": [], "cursor": "0~", "more": False, **page}
    with stub_server(200, {}, published) as (address, _):
        published["issuer"] = address
        token = issue(app, "berta").with_claims("access", iss=address)
        assert verdicts(node_guard, address, token, **CREDENTIALS) == [503]


def test_feed_forgets_an_id_when_its_last_token_has_expired(node_guard: Path) -> None:
    with stub_server(200, {}, {"items": [{"sid": "ended"}], "cursor": "0~", "more": False}) as (address, _):
        assert [run(node_guard, "feed.mjs", address, "ended", seconds) for seconds in ("60", "-1")] == [
            ["true"],
            ["false"],
        ]


def test_document_is_used_for_a_day_without_the_issuer(node_guard: Path) -> None:
    assert run(node_guard, "outage.mjs") == ["known", "The document cannot be fetched at the moment."]


def test_response_of_an_earlier_time_limit_is_not_sent_twice_by_express(node_guard: Path) -> None:
    assert sorted(run(node_guard, "late.mjs", "http://127.0.0.1:1")) == ["504", "access_token_missing"]


def test_redirect_is_not_followed(node_guard: Path) -> None:
    with (
        stub_server(200, {}, b'{"keys": []}') as (target, requested),
        stub_server(302, {"Location": f"{target}/x"}, b"") as (address, _),
    ):
        assert verdicts(node_guard, address, TOKEN) == [503]
    assert requested == []


@pytest.mark.parametrize("body", [b"[]", b"no json", b"\xff", b'{"keys": 1}', b'{"no": "keys"}'], ids=repr)
def test_malformed_key_set_is_not_used(node_guard: Path, body: bytes) -> None:
    with stub_server(200, {}, body) as (address, _):
        assert verdicts(node_guard, address, TOKEN) == [503]


def test_unknown_keys_are_looked_up_once(node_guard: Path) -> None:
    with stub_server(200, {}, b'{"keys": []}') as (address, requested):
        began = time.monotonic()
        done = verify(node_guard, address, *[TOKEN] * 50)
        assert set(json.loads(done.stdout).values()) == {403}
        assert len(requested) <= 1 + (time.monotonic() - began) / 10
    assert done.stderr.count("request rejected: the issuer does not have the key of the token") == 1


def test_unusable_key_does_not_affect_the_others(app: Flask, node_guard: Path) -> None:
    issued = issue(app, "berta")
    good = document(app)
    unusable = [
        7,
        None,
        {},
        {"kid": "a"},
        {"kid": "b", "alg": "ES256", "kty": "EC", "crv": "P-256", "x": "!", "y": "!"},
        {"kid": "c", "alg": "HS256", "kty": "oct", "k": "AAAA"},
        {**good["keys"][0], "kid": 7},
    ]
    published = {**good, "keys": [*unusable, *good["keys"]]}
    with stub_server(200, {}, published) as (address, _):
        published["issuer"] = address
        token = issued.with_claims("access", iss=address)
        assert verdicts(node_guard, address, token) == [issued.claims("access")["sub"]]


def test_cached_keys_work_while_the_service_is_unavailable(app: Flask, node_guard: Path) -> None:
    issued, published = issue(app, "berta"), document(app)
    with ExitStack() as stack:
        with stub_server(200, {}, published) as (address, requested):
            published["issuer"] = address
            token = issued.with_claims("access", iss=address)
            options = {"issuer": address, "audience": "tokenapp-api"}
            shop = Client(stack.enter_context(serve_node(node_guard, "express", options)))
            assert {shop.send("GET", "/orders", bearer=token).status for _ in range(20)} == {200}
            assert len(requested) == 2, "the key set and the metadata"
        assert shop.send("GET", "/orders", bearer=token).status == 200


def test_metadata_of_another_issuer_are_not_used(app: Flask, node_guard: Path) -> None:
    issued = issue(app, "berta")
    with stub_server(200, {}, {**document(app), "issuer": "https://other.example.com"}) as (address, _):
        assert verdicts(node_guard, address, issued.with_claims("access", iss=address)) == [503]
