"""The lifetime that the guard accepts, from the metadata of the service."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from flask import Flask

from tests.conftest import Servers
from tests.support.client import sign_in
from tests.support.forge import issue
from tests.support.guarded import Shop, guard_of, stub_server
from tests.support.server import Server
from tokenapp_guard import cache
from tokenapp_guard.feed import Feed
from tokenapp_guard.fetching import FetchError
from tokenapp_guard.issuer import Lifetime

METADATA = "/.well-known/oauth-authorization-server"


@contextmanager
def published(lifetime: object, issuer: str | None = None) -> Iterator[tuple[Lifetime, list[str]]]:
    """Serve metadata; yield what a guard knows of it, and the requested paths."""
    body = {"tokenapp_access_token_lifetime": lifetime} if lifetime is not None else {}
    document: dict[str, object] = {}
    with stub_server(200, {}, document) as (address, requested):
        document.update({"issuer": issuer or address, **body})
        yield Lifetime(address), requested


def test_tokens_of_a_service_with_a_longer_lifetime_are_accepted(app: Flask, serve: Servers) -> None:
    url = app.config["TOKENAPP"].database_url.render_as_string(hide_password=False)
    server = serve(url, TOKENAPP_ACCESS_LIFETIME="1h")
    token = sign_in(server.port).token
    assert Shop(guard_of(server)).orders(token).status_code == 200
    assert Shop(guard_of(server, max_lifetime=3599)).orders(token).status_code == 403


def test_longer_lifetime_than_published_is_rejected(app: Flask, service: Server) -> None:
    shop, issued, now = Shop(guard_of(service)), issue(app, "berta"), int(time.time())
    mine = {"iss": f"http://localhost:{service.port}", "aud": "tokenapp-api", "iat": now}
    assert shop.orders(issued.with_claims("access", **mine, exp=now + 900)).status_code == 200
    assert shop.orders(issued.with_claims("access", **mine, exp=now + 901)).status_code == 403


def test_metadata_are_fetched_once_for_many_requests() -> None:
    with published(3600) as (lifetime, requested):
        assert {lifetime.get(900) for _ in range(20)} == {3600}
    assert requested == [METADATA]


def test_grown_lifetime_is_noticed_when_a_token_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "FETCH_INTERVAL", 0.0)
    document: dict[str, object] = {}
    with stub_server(200, {}, document) as (address, requested):
        document.update({"issuer": address, "tokenapp_access_token_lifetime": 900})
        lifetime = Lifetime(address)
        assert [lifetime.get(900), lifetime.get(900)] == [900, 900]
        document["tokenapp_access_token_lifetime"] = 3600
        assert [lifetime.get(900), lifetime.get(3600)] == [900, 3600]
    assert len(requested) == 2


def test_service_that_does_not_publish_its_lifetime_has_the_default() -> None:
    with published(None) as (lifetime, _):
        assert lifetime.get() == 900


@pytest.mark.parametrize("value", ["3600", True, 3600.5, {}], ids=repr)
def test_malformed_lifetime_is_not_used(value: object) -> None:
    with published(value) as (lifetime, _), pytest.raises(FetchError):
        lifetime.get()


def test_metadata_of_another_issuer_are_not_used() -> None:
    with published(3600, "https://other.example.com") as (lifetime, _), pytest.raises(FetchError):
        lifetime.get()


def test_request_gets_503_while_the_lifetime_is_unknown(service: Server) -> None:
    token = sign_in(service.port).token
    guard = guard_of(service)
    assert Shop(guard).orders(token).status_code == 200
    guard._published = Lifetime("http://127.0.0.1:1")
    assert Shop(guard).orders(token).status_code == 503


def test_feed_forgets_no_session_while_the_lifetime_is_unknown() -> None:
    page = {"items": [{"sid": "ended"}], "cursor": "0~", "more": False}
    with stub_server(200, {}, page) as (address, _):
        feed = Feed(address, "id", "secret", interval=60, patience=60, keep=Lifetime("http://127.0.0.1:1").get)
        assert feed.is_revoked("ended")
        page["items"] = []
        feed._read()
        assert feed.is_revoked("ended")
        feed._keep = lambda: -1
        feed._read()
        assert not feed.is_revoked("ended")
