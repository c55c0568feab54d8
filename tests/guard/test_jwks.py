"""The guard's cache of public keys."""

import json
import time
from datetime import UTC, datetime

import jwt
import pytest
from flask import Flask

from tests.conftest import Databases, Servers
from tests.support.app import create_user, make_app
from tests.support.client import sign_in
from tests.support.concurrency import wait_until
from tests.support.forge import issue
from tests.support.guarded import Shop, guard_of, stub_server
from tests.support.server import Server
from tokenapp import db, keys
from tokenapp_guard import Guard, cache, issuer
from tokenapp_guard.fetching import FetchError

JWKS = "/.well-known/jwks.json"


def test_unknown_key_is_looked_up_once_per_interval(service: Server) -> None:
    token = sign_in(service.port).token
    with stub_server(200, {}, b'{"keys": []}') as (address, requested):
        shop = Shop(Guard(address, audience="tokenapp-api", max_lifetime=900))
        assert {shop.orders(token).status_code for _ in range(20)} == {403}
    assert requested == [JWKS]


def test_pending_key_is_published(app: Flask, service: Server) -> None:
    sign_in(service.port)  # creates the first key
    with app.app_context():
        pending = keys.lifecycle.rotate("access", datetime.now(UTC))
    assert pending.state == "pending"

    def is_published() -> bool:
        return pending.kid in {jwk["kid"] for jwk in service.client.send("GET", JWKS).json["keys"]}

    wait_until(is_published, seconds=20, what="the new key in the key set")


def test_next_key_is_known_when_it_becomes_active(
    databases: Databases, serve: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokenapp_guard.cache.FETCH_INTERVAL", 0.1)
    settings = {"TOKENAPP_JWKS_LIFETIME": "1s", "TOKENAPP_REVOCATION_DELAY": "0.1"}
    app = make_app(databases("sqlite"), **settings)
    create_user(app)
    service = serve(app.config["TOKENAPP"].database_url.render_as_string(hide_password=False), **settings)
    shop, old = Shop(guard_of(service)), sign_in(service.port).token
    assert shop.orders(old).status_code == 200
    with app.app_context():
        successor = keys.lifecycle.rotate("access", datetime.now(UTC)).kid
        db.db.engine.dispose()

    def is_active() -> bool:
        token = sign_in(service.port).token
        assert token is not None
        assert shop.orders(token).status_code == 200
        return bool(jwt.get_unverified_header(token)["kid"] == successor)

    wait_until(is_active, seconds=30, what="the next key active")
    assert shop.orders(old).status_code == 200


def test_keys_are_fetched_once_for_many_requests(app: Flask, service: Server) -> None:
    published = service.client.send("GET", JWKS).body
    with stub_server(200, {"Cache-Control": "public, max-age=300"}, published) as (address, requested):
        shop = Shop(Guard(address, audience="tokenapp-api", max_lifetime=900))
        token = issue(app, "berta").with_claims("access", iss=address)
        assert {shop.orders(token).status_code for _ in range(50)} == {200}
    assert requested == [JWKS]


def test_keys_are_cached_no_longer_than_max_age(app: Flask, service: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokenapp_guard.cache.FETCH_INTERVAL", 0.0)
    published = service.client.send("GET", JWKS).body
    with stub_server(200, {"Cache-Control": "public, max-age=0"}, published) as (address, requested):
        shop = Shop(Guard(address, audience="tokenapp-api", max_lifetime=900))
        token = issue(app, "berta").with_claims("access", iss=address)
        assert {shop.orders(token).status_code for _ in range(3)} == {200}
    assert len(requested) == 3


def test_unusable_key_does_not_affect_the_others(app: Flask, service: Server) -> None:
    published = service.client.send("GET", JWKS).json["keys"]
    unusable = [7, {}, {"kid": "a"}, {"kid": "b", "alg": "ES256", "kty": "EC", "crv": "P-256", "x": "!", "y": "!"}]
    unusable += [{**published[0], "kid": 7}, {"kid": "c", "alg": "HS256", "kty": "oct", "k": "AAAA"}]
    with stub_server(200, {}, json.dumps({"keys": [*unusable, *published]}).encode()) as (address, _):
        shop = Shop(Guard(address, audience="tokenapp-api", max_lifetime=900))
        assert shop.orders(issue(app, "berta").with_claims("access", iss=address)).status_code == 200


def test_request_gets_503_until_the_keys_can_be_fetched(service: Server) -> None:
    shop, token = Shop(guard_of(service)), sign_in(service.port).token
    service.kill()
    response = shop.orders(token)
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
    service.__enter__()
    wait_until(lambda: shop.orders(token).status_code == 200, seconds=20, what="an accepted token")


def test_cached_keys_work_while_the_service_is_unavailable(service: Server) -> None:
    shop, token = Shop(guard_of(service)), sign_in(service.port).token
    assert shop.orders(token).status_code == 200
    service.kill()
    assert shop.orders(token).status_code == 200


def test_keys_are_accepted_for_a_day_without_the_issuer(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    clock = [now]
    monkeypatch.setattr(cache, "monotonic", lambda: clock[0])
    document = json.dumps({"keys": [public_jwk("a-key-of-the-issuer")]}).encode()
    with stub_server(200, {}, document) as (address, _):
        keys_of_issuer = issuer.JWKS(address)
        assert keys_of_issuer.find("a-key-of-the-issuer") is not None
    clock[0] = now + cache.MAX_STALE - 60
    assert keys_of_issuer.find("a-key-of-the-issuer") is not None
    clock[0] = now + cache.MAX_STALE + 60
    with pytest.raises(FetchError):
        keys_of_issuer.find("a-key-of-the-issuer")


def public_jwk(kid: str) -> dict[str, str]:
    material = keys.material.generate("ES256")
    public = keys.material.open_key(kid, "access", "ES256", material).jwk()
    assert public is not None
    return public
