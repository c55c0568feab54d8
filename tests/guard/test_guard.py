"""The guard that other Flask applications use, against the real service."""

import http.server
import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from time import monotonic, sleep
from typing import Any

import jwt
import pytest
import sqlalchemy as sa
from flask import Flask
from werkzeug.test import TestResponse

from tests.conftest import Databases, Servers
from tests.support.app import ROOT, create_user, make_app
from tests.support.concurrency import wait_until
from tests.support.forge import issue
from tests.support.server import Server
from tokenapp import clients, db, keys, sessions
from tokenapp.models import Session
from tokenapp_guard import Guard
from tokenapp_guard.fetching import FetchError, fetch_json

INTERVAL = 0.2


class Shop:
    """Another application, whose one view asks the guard."""

    def __init__(self, guard: Guard) -> None:
        app = Flask("shop")

        @app.get("/orders")
        @guard.required
        def orders() -> dict[str, Any]:
            return {"for": guard.claims["username"]}

        self._http = app.test_client()

    def orders(self, token: str | None, scheme: str = "Bearer") -> TestResponse:
        """Call the view."""
        return self._http.get("/orders", headers={"Authorization": f"{scheme} {token}"} if token else {})


@pytest.fixture
def app(databases: Databases) -> Iterator[Flask]:
    """Give the service in this process, on the database that the server has."""
    app = make_app(databases("sqlite"))
    create_user(app)
    yield app
    with app.app_context():
        db.db.engine.dispose()


@pytest.fixture
def service(app: Flask, serve: Servers) -> Server:
    """Give the service under gunicorn; in development its issuer is its address on this machine."""
    return serve(app.config["TOKENAPP"].database_url.render_as_string(hide_password=False))


def issuer_of(server: Server) -> str:
    return f"http://localhost:{server.port}"


def following(app: Flask, server: Server, *, patience: float = 10, interval: float = INTERVAL) -> Guard:
    """Make a guard that follows the feed of ended sessions."""
    with app.app_context():
        client, secret = clients.create("shop", datetime.now(UTC))
    return Guard(
        issuer_of(server),
        audience="tokenapp-api",
        client_id=client.id,
        client_secret=secret,
        feed_interval=interval,
        feed_patience=patience,
    )


@contextmanager
def elsewhere(answer: tuple[int, dict[str, str], bytes]) -> Iterator[tuple[str, list[str]]]:
    """Run a server that gives everybody `answer`; yield its address, and the paths that it is asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(answer[0])
            for name, value in answer[1].items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer[2])

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


def test_a_view_knows_whose_token_it_is(service: Server) -> None:
    shop = Shop(Guard(issuer_of(service), audience="tokenapp-api"))
    token = service.client.login().json["accessToken"]
    for scheme in ("Bearer", "bearer"):
        assert shop.orders(token, scheme).json == {"for": "alice"}


def test_the_program_of_the_guide_works(service: Server) -> None:
    (program,) = re.findall(
        r"^```python\n(.*?)^```$", (ROOT / "docs/other-services.md").read_text(), re.MULTILINE | re.DOTALL
    )
    assert program.count("https://login.example.com") == 1
    names: dict[str, Any] = {"__name__": "guide"}
    exec(program.replace("https://login.example.com", issuer_of(service)), names)  # noqa: S102 -- our own guide
    client = names["app"].test_client()
    token = service.client.login().json["accessToken"]
    assert client.get("/orders", headers={"Authorization": f"Bearer {token}"}).json == {"for": "alice"}
    assert client.get("/orders").status_code == 401


def test_a_request_without_a_good_token_is_refused(service: Server) -> None:
    shop = Shop(Guard(issuer_of(service), audience="tokenapp-api"))
    reply = service.client.login()
    token = reply.json["accessToken"]
    assert shop.orders(None).status_code == 401
    for bad in (reply.cookie, token[:-2], token + "A", "x", "a.b.c", token[: token.rindex(".")] + ".", "x" * 9000):
        answer = shop.orders(bad)
        assert (answer.status_code, answer.json and answer.json["code"]) == (403, "access_token_invalid"), bad
        assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]


@pytest.mark.parametrize(
    "guard",
    [{"audience": "another"}, {"audience": "tokenapp-api", "max_lifetime": 899}],
)
def test_a_token_for_others_or_for_too_long_is_refused(service: Server, guard: dict[str, Any]) -> None:
    token = service.client.login().json["accessToken"]
    assert Shop(Guard(issuer_of(service), **guard)).orders(token).status_code == 403


def test_tokens_that_the_service_would_refuse_are_refused(app: Flask, service: Server) -> None:
    shop, forged = Shop(Guard(issuer_of(service), audience="tokenapp-api")), issue(app, "berta")
    now = int(datetime.now(UTC).timestamp())
    good = {"iss": issuer_of(service), "aud": "tokenapp-api"}
    assert shop.orders(forged.with_claims("access", **good)).status_code == 200
    for claims in ({"exp": now - 1}, {"type": "refresh"}, {"iat": now + 999, "exp": now + 1800}, {"iss": "http://x"}):
        assert shop.orders(forged.with_claims("access", **(good | claims))).status_code == 403, claims


def test_a_new_key_is_found_and_unknown_ones_are_looked_for_once_in_a_while(app: Flask, service: Server) -> None:
    with elsewhere((200, {}, b'{"keys": []}')) as (address, asked):
        shop = Shop(Guard(address, audience="tokenapp-api"))
        token = service.client.login().json["accessToken"]
        assert {shop.orders(token).status_code for _ in range(20)} == {403}
        assert asked == ["/.well-known/jwks.json"]
    shop = Shop(Guard(issuer_of(service), audience="tokenapp-api"))
    assert shop.orders(service.client.login().json["accessToken"]).status_code == 200
    with app.app_context():
        published = keys.lifecycle.rotate("access", datetime.now(UTC))
    assert published.state == "pending"
    kids = {jwk["kid"] for jwk in service.client.send("GET", "/.well-known/jwks.json").json["keys"]}
    wait_until(lambda: published.kid in {*kids, *kids_of(service)}, seconds=5, what="the new key in the set")


def kids_of(service: Server) -> set[str]:
    return {jwk["kid"] for jwk in service.client.send("GET", "/.well-known/jwks.json").json["keys"]}


def test_a_guard_knows_the_next_key_when_it_signs(
    databases: Databases, serve: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokenapp_guard.jwks.ASK_AGAIN_AFTER", 0.1)  # an amount: the true one is ten seconds
    settings = {"TOKENAPP_JWKS_LIFETIME": "1s", "TOKENAPP_REVOCATION_DELAY": "0.1"}
    app = make_app(databases("sqlite"), **settings)
    create_user(app)
    service = serve(app.config["TOKENAPP"].database_url.render_as_string(hide_password=False), **settings)
    shop = Shop(Guard(issuer_of(service), audience="tokenapp-api"))
    old = service.client.login().json["accessToken"]
    assert shop.orders(old).status_code == 200
    with app.app_context():
        successor = keys.lifecycle.rotate("access", datetime.now(UTC)).kid
        db.db.engine.dispose()

    def signed_by_the_successor() -> bool:
        token = service.client.login().json["accessToken"]
        assert shop.orders(token).status_code == 200
        return bool(jwt.get_unverified_header(token)["kid"] == successor)

    wait_until(signed_by_the_successor, seconds=10, what="the next key's turn")
    assert shop.orders(old).status_code == 200


def test_the_keys_are_asked_for_once_and_not_per_request(app: Flask, service: Server) -> None:
    published = service.client.send("GET", "/.well-known/jwks.json").body
    with elsewhere((200, {"Cache-Control": "public, max-age=300"}, published)) as (address, asked):
        shop = Shop(Guard(address, audience="tokenapp-api"))
        token = issue(app, "berta").with_claims("access", iss=address)
        assert {shop.orders(token).status_code for _ in range(50)} == {200}
    assert asked == ["/.well-known/jwks.json"]


def test_keys_are_kept_no_longer_than_the_service_allows(
    app: Flask, service: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokenapp_guard.jwks.ASK_AGAIN_AFTER", 0.0)
    published = service.client.send("GET", "/.well-known/jwks.json").body
    with elsewhere((200, {"Cache-Control": "public, max-age=0"}, published)) as (address, asked):
        shop = Shop(Guard(address, audience="tokenapp-api"))
        token = issue(app, "berta").with_claims("access", iss=address)
        assert {shop.orders(token).status_code for _ in range(3)} == {200}
    assert len(asked) == 3


def test_a_key_that_cannot_be_used_does_not_spoil_the_others(app: Flask, service: Server) -> None:
    published = service.client.send("GET", "/.well-known/jwks.json").json["keys"]
    odd = [7, {}, {"kid": "a"}, {"kid": "b", "alg": "ES256", "kty": "EC", "crv": "P-256", "x": "!", "y": "!"}]
    odd += [{**published[0], "kid": 7}, {"kid": "c", "alg": "HS256", "kty": "oct", "k": "AAAA"}]
    with elsewhere((200, {}, json.dumps({"keys": [*odd, *published]}).encode())) as (address, _):
        shop = Shop(Guard(address, audience="tokenapp-api"))
        assert shop.orders(issue(app, "berta").with_claims("access", iss=address)).status_code == 200


def test_while_the_keys_cannot_be_had_the_answer_is_503_and_then_service_again(service: Server) -> None:
    shop = Shop(Guard(issuer_of(service), audience="tokenapp-api"))
    token = service.client.login().json["accessToken"]
    service.__exit__()
    answer = shop.orders(token)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    service.__enter__()
    wait_until(lambda: shop.orders(token).status_code == 200, seconds=5, what="service again")
    service.__exit__()
    assert shop.orders(token).status_code == 200  # keys that are known need nobody's help
    service.__enter__()


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"",
        b"HTTP/1.1 500 Oh\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\n\r\nno json",
        b"HTTP/1.1 200 OK\r\n\r\n\xff",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 100_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
    ],
)
def test_an_answer_that_makes_no_sense_is_no_answer(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def reply() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=reply)
        thread.start()
        with pytest.raises(FetchError):
            fetch_json(f"http://127.0.0.1:{listener.getsockname()[1]}/")
        thread.join()


def test_redirects_are_not_followed() -> None:
    with (
        elsewhere((200, {}, b'{"keys": []}')) as (target, asked),
        elsewhere((302, {"Location": f"{target}/x"}, b"")) as (address, _),
        pytest.raises(FetchError),
    ):
        fetch_json(address)
    assert asked == []


@pytest.mark.parametrize("issuer", ["http://login.example.com", "ftp://127.0.0.1", "file:///etc/passwd", "login"])
def test_keys_are_fetched_over_https_or_from_this_machine_only(issuer: str) -> None:
    with pytest.raises(ValueError, match="https"):
        Guard(issuer, audience="tokenapp-api")


def test_an_ended_session_is_refused_within_two_intervals(app: Flask, service: Server) -> None:
    shop = Shop(following(app, service))
    reply = service.client.login()
    token, cookie = reply.json["accessToken"], reply.cookie
    assert shop.orders(token).status_code == 200
    service.client.logout(cookie)
    sleep(2 * INTERVAL)
    assert shop.orders(token).status_code == 403


def test_a_guard_that_starts_anew_knows_who_ended_before(app: Flask, service: Server) -> None:
    reply = service.client.login()
    service.client.logout(reply.cookie)
    assert Shop(following(app, service)).orders(reply.json["accessToken"]).status_code == 403


def test_a_restart_of_the_service_loses_no_end(app: Flask, service: Server) -> None:
    shop = Shop(following(app, service))
    reply = service.client.login()
    token = reply.json["accessToken"]
    assert shop.orders(token).status_code == 200
    service.__exit__()
    with app.app_context():
        sessions.revoke(issue_sid(token), "operator", datetime.now(UTC))
    service.__enter__()
    wait_until(lambda: shop.orders(token).status_code == 403, seconds=5, what="the end of the session")


def issue_sid(token: str) -> str:
    return str(jwt.decode(token, options={"verify_signature": False})["sid"])


def test_while_the_feed_cannot_be_read_for_long_the_answer_is_503(app: Flask, service: Server) -> None:
    shop = Shop(following(app, service, patience=0.5))
    token = service.client.login().json["accessToken"]
    assert shop.orders(token).status_code == 200
    service.__exit__()
    wait_until(lambda: shop.orders(token).status_code == 503, seconds=5, what="503")
    service.__enter__()
    wait_until(lambda: shop.orders(token).status_code == 200, seconds=5, what="service again")


def test_ten_thousand_ends_arrive_within_two_intervals(app: Flask, service: Server) -> None:
    guard = following(app, service, interval=1)  # as it is unless told otherwise
    shop = Shop(guard)
    token = service.client.login().json["accessToken"]
    assert shop.orders(token).status_code == 200
    now = datetime.now(UTC)
    with app.app_context(), db.writing() as writer:
        row = writer.scalars(sa.select(Session)).first()
        assert row is not None
        ended: list[dict[str, Any]] = [
            {
                "id": f"{number:012x}ended",
                "user_id": row.user_id,
                "current_jti": str(number),
                "generation": 0,
                "created_at": now,
                "authenticated_at": now,
                "expires_at": now + timedelta(days=1),
                "ends_at": now + timedelta(days=1),
                "revoked_at": now + timedelta(milliseconds=number % 500),
                "revoked_reason": "operator",
            }
            for number in range(10_001)
        ]
        writer.connection().execute(sa.insert(Session), ended)
    began = monotonic()
    feed = guard._feed
    assert feed is not None
    wait_until(lambda: all(feed.has_ended(session["id"]) for session in ended), seconds=5, what="ten thousand ends")
    assert monotonic() - began < 2
