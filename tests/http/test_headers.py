"""Security header fields: on every status of every route, in development and in production."""

import secrets
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from tests.conftest import Databases, Servers
from tests.support.app import PASSWORD, create_user, make_app
from tests.support.server import free_port

POLICY = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
EXPECTED = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
}
HSTS = "max-age=31536000"
CREDENTIALS = {"username": "alice", "password": PASSWORD}
ISSUER = "https://auth.example.com"
PRODUCTION = {
    "TOKENAPP_ENV": "production",
    "TOKENAPP_ISSUER": ISSUER,
    "SECRET_KEY": secrets.token_urlsafe(48),
    "TOKENAPP_PASSWORD_MEMORY": "19456",
    "TOKENAPP_PASSWORD_PASSES": "2",
}
REQUESTS: list[tuple[int, str, str, Mapping[str, Any]]] = [
    (200, "GET", "/healthz", {}),
    (200, "HEAD", "/healthz", {}),
    (200, "OPTIONS", "/api/login", {}),
    (200, "GET", "/openapi.json", {}),
    (200, "GET", "/docs/start.js", {}),
    (200, "POST", "/api/login", {"json": CREDENTIALS}),
    (204, "POST", "/api/logout", {}),
    (304, "GET", "/openapi.json", {"headers": {"If-None-Match": "*"}}),
    (400, "POST", "/api/login", {"json": {}}),
    (400, "GET", "/api/me", {"headers": {"Authorization": "Bearer one, Bearer two"}}),
    (401, "POST", "/api/login", {"json": CREDENTIALS | {"password": "not the password"}}),
    (401, "GET", "/api/me", {}),
    (403, "GET", "/api/me", {"headers": {"Authorization": "Bearer nonsense"}}),
    (403, "POST", "/api/login", {"json": CREDENTIALS, "headers": {"Sec-Fetch-Site": "cross-site"}}),
    (404, "GET", "/nowhere", {}),
    (404, "GET", "/docs/..%2f..%2fconfig.py", {}),
    (404, "GET", "/%00%ff", {}),
    (405, "GET", "/api/login", {}),
    (405, "TRACE", "/healthz", {}),
    (405, "BREW", "/healthz", {}),
    (413, "POST", "/api/login", {"data": b"x" * 20000, "content_type": "application/json"}),
    (413, "GET", "/nowhere", {"data": b"x" * 20000}),
    (415, "POST", "/api/login", {"data": b"{}", "content_type": "text/plain"}),
    (500, "GET", "/broken", {}),
]


def check(reply: TestResponse, **expected: str) -> None:
    for name, value in (EXPECTED | expected).items():
        assert reply.headers.getlist(name) == [value], name
    for name in {*reply.headers.keys()}:
        assert len(reply.headers.getlist(name)) == 1, f"{name} is there twice"


def make_broken(databases: Databases, **settings: str) -> Flask:
    """Make the application with one route more, which has a bug."""
    app = make_app(databases("sqlite"), **settings)
    app.add_url_rule("/broken", view_func=lambda: str(1 // 0))
    create_user(app)
    return app


@pytest.mark.parametrize(("status", "method", "path", "sent"), REQUESTS)
def test_every_answer_carries_the_security_headers(
    databases: Databases, status: int, method: str, path: str, sent: Mapping[str, Any]
) -> None:
    reply = make_broken(databases).test_client().open(path, method=method, **sent)
    assert reply.status_code == status
    check(reply)
    assert "Strict-Transport-Security" not in reply.headers


@pytest.mark.parametrize(("status", "method", "path", "sent"), REQUESTS)
def test_in_production_every_answer_asks_for_https_too(
    databases: Databases, status: int, method: str, path: str, sent: Mapping[str, Any]
) -> None:
    reply = make_broken(databases, **PRODUCTION).test_client().open(path, method=method, base_url=ISSUER, **sent)
    assert reply.status_code == status
    check(reply, **{"Strict-Transport-Security": HSTS})


def test_too_many_attempts_carry_the_security_headers(databases: Databases) -> None:
    client = make_broken(databases).test_client()
    replies = [client.post("/api/login", json=CREDENTIALS | {"password": "not the password"}) for _ in range(6)]
    assert replies[-1].status_code == 429
    check(replies[-1])


@pytest.mark.parametrize("path", ["/readyz", "/api/protected", "/api/sessions"])
def test_an_answer_without_a_database_carries_the_security_headers(path: str) -> None:
    app = make_app(f"postgresql://nobody@127.0.0.1:{free_port()}/nothing")
    reply = app.test_client().get(path, headers={"Authorization": "Bearer e30.e30.e30"})
    assert reply.status_code == 503
    check(reply)


@pytest.mark.parametrize("host", ["", "evil.example:99999", "a b", "evil.example/path", "[::1"])
def test_an_answer_to_a_strange_host_carries_the_security_headers(databases: Databases, host: str) -> None:
    reply = make_app(databases("sqlite")).test_client().get("/healthz", headers={"Host": host})
    assert reply.status_code in {200, 400}
    check(reply)


def test_every_route_carries_the_security_headers_whatever_the_method(databases: Databases) -> None:
    app = make_app(databases("sqlite"))
    for rule in app.url_map.iter_rules():
        for method in ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"):
            path = rule.rule.replace("<sid>", "unknown").partition("<")[0]
            reply = app.test_client().open(path, method=method)
            check(reply, **{"Content-Security-Policy": reply.headers["Content-Security-Policy"]})
            assert "frame-ancestors 'none'" in reply.headers["Content-Security-Policy"]


@pytest.mark.parametrize(("status", "method", "path", "sent"), [row for row in REQUESTS if row[2].startswith("/api")])
def test_no_answer_of_the_api_is_to_be_stored(
    databases: Databases, status: int, method: str, path: str, sent: Mapping[str, Any]
) -> None:
    reply = make_broken(databases).test_client().open(path, method=method, **sent)
    assert (reply.status_code, reply.headers["Cache-Control"]) == (status, "no-store")


def test_the_page_of_the_docs_loads_only_files_of_ours(databases: Databases) -> None:
    reply = make_app(databases("sqlite")).test_client().get("/docs")
    policy = dict(each.split(" ", 1) for each in reply.headers["Content-Security-Policy"].split("; "))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "connect-src": "'self'",
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    check(reply, **{"Content-Security-Policy": reply.headers["Content-Security-Policy"]})


@pytest.mark.parametrize(
    ("sent", "is_kept"),
    [
        ("a-Request.1", True),
        ("x" * 128, True),
        ("x" * 129, False),
        ("", False),
        ("two words", False),
        ("<script>", False),
        ('a"b', False),
        ("ä", False),
    ],
)
def test_a_good_request_id_is_echoed_and_another_is_replaced(databases: Databases, sent: str, *, is_kept: bool) -> None:
    reply = make_app(databases("sqlite")).test_client().get("/nowhere", headers={"X-Request-ID": sent})
    assert (reply.headers["X-Request-ID"] == sent) == is_kept
    assert reply.json is not None
    assert reply.json["requestId"] == reply.headers["X-Request-ID"] != ""


def test_the_server_adds_nothing_twice_and_takes_nothing_away(databases: Databases, serve: Servers) -> None:
    client = serve(databases("sqlite")).client
    send: list[Callable[[], Any]] = [
        lambda: client.send("GET", "/healthz"),
        lambda: client.send("GET", "/nowhere"),
        lambda: client.send("PUT", "/api/login"),
        lambda: client.send("POST", "/api/logout"),
        lambda: client.send("POST", "/api/login", body=b"x" * 20000),
    ]
    for reply in (call() for call in send):
        names = [name.lower() for name, _ in reply.headers]
        assert len(names) == len({*names})
        assert {name: reply.header(name) for name in EXPECTED} == EXPECTED
