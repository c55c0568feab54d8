"""The security headers of every response, in development and in production."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import pytest
from flask import Flask

from tests.conftest import Databases, Servers
from tests.support.app import ISSUER, PASSWORD, PRODUCTION, application, create_user, make_app
from tests.support.client import Client, Response
from tests.support.server import free_port

EXPECTED: Final = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Referrer-Policy": "no-referrer",
}
HSTS: Final = {"Strict-Transport-Security": "max-age=31536000"}
CREDENTIALS: Final = {"username": "alice", "password": PASSWORD}
WRONG: Final = {"username": "alice", "password": "not the password"}
JSON: Final = {"Content-Type": "application/json"}
REQUESTS: Final[list[tuple[int, str, str, Mapping[str, Any]]]] = [
    (200, "GET", "/healthz", {}),
    (200, "HEAD", "/healthz", {}),
    (200, "OPTIONS", "/api/login", {}),
    (200, "GET", "/openapi.json", {}),
    (200, "GET", "/docs/start.js", {}),
    (200, "POST", "/api/login", {"payload": CREDENTIALS}),
    (204, "POST", "/api/logout", {}),
    (304, "GET", "/openapi.json", {"headers": {"If-None-Match": "*"}}),
    (304, "GET", "/docs/start.js", {"headers": {"If-None-Match": "*"}}),
    (400, "POST", "/api/login", {"payload": {}}),
    (400, "GET", "/api/me", {"bearer": "one, Bearer two"}),
    (401, "POST", "/api/login", {"payload": WRONG}),
    (401, "GET", "/api/me", {}),
    (403, "GET", "/api/me", {"bearer": "nonsense"}),
    (403, "POST", "/api/login", {"payload": CREDENTIALS, "headers": {"Sec-Fetch-Site": "cross-site"}}),
    (404, "GET", "/nowhere", {}),
    (404, "GET", "/docs/..%2f..%2fconfig.py", {}),
    (404, "GET", "/%00%ff", {}),
    (405, "GET", "/api/login", {}),
    (405, "TRACE", "/healthz", {}),
    (405, "BREW", "/healthz", {}),
    (413, "POST", "/api/login", {"body": b"x" * 20000, "headers": JSON}),
    (413, "GET", "/nowhere", {"body": b"x" * 20000}),
    (415, "POST", "/api/login", {"body": b"{}", "headers": {"Content-Type": "text/plain"}}),
    (500, "GET", "/broken", {}),
]
every_request = pytest.mark.parametrize(("status", "method", "path", "sent"), REQUESTS)


@pytest.fixture(scope="module")
def development(databases: Databases) -> Iterator[Flask]:
    """Return the application in development, with a route that has a bug."""
    with application(databases("sqlite")) as app:
        yield with_broken_route(app)


@pytest.fixture(scope="module")
def production(databases: Databases) -> Iterator[Flask]:
    """Return the application in production, with a route that has a bug."""
    with application(databases("sqlite"), **PRODUCTION) as app:
        yield with_broken_route(app)


@pytest.fixture
def plain(databases: Databases) -> Client:
    """Return a client of an application without users."""
    return Client(make_app(databases("sqlite")))


def with_broken_route(app: Flask) -> Flask:
    app.add_url_rule("/broken", view_func=lambda: str(1 // 0))
    create_user(app)
    return app


def assert_headers(response: Response, **expected: str) -> None:
    """Check that the response has each security header once, and no header twice."""
    for name, value in (EXPECTED | expected).items():
        assert response.all(name) == [value], name
    names = [name.lower() for name, _ in response.headers]
    assert len(names) == len({*names}), names


@every_request
def test_every_response_has_the_security_headers(
    development: Flask, status: int, method: str, path: str, sent: Mapping[str, Any]
) -> None:
    response = Client(development).send(method, path, **sent)
    assert response.status == status
    assert_headers(response)
    assert response.header("Strict-Transport-Security") is None


@every_request
def test_every_response_in_production_also_requires_https(
    production: Flask, status: int, method: str, path: str, sent: Mapping[str, Any]
) -> None:
    host = {"HTTP_HOST": ISSUER.removeprefix("https://"), "wsgi.url_scheme": "https"}
    response = Client(production).send(method, path, environ=host, **sent)
    assert response.status == status
    assert_headers(response, **HSTS)


def test_response_to_too_many_attempts_has_the_security_headers(databases: Databases) -> None:
    app = make_app(databases("sqlite"))
    create_user(app)
    responses = [Client(app).login(password="not the password") for _ in range(6)]
    assert responses[-1].status == 429
    assert_headers(responses[-1])


@pytest.mark.parametrize("path", ["/readyz", "/api/protected", "/api/sessions"])
def test_response_without_a_database_has_the_security_headers(path: str) -> None:
    client = Client(make_app(f"postgresql://nobody@127.0.0.1:{free_port()}/nothing"))
    response = client.send("GET", path, bearer="e30.e30.e30")
    assert response.status == 503
    assert_headers(response)


@pytest.mark.parametrize("host", ["", "evil.example:99999", "a b", "evil.example/path", "[::1"])
def test_response_to_an_unusual_host_has_the_security_headers(plain: Client, host: str) -> None:
    response = plain.send("GET", "/healthz", headers={"Host": host})
    assert response.status in {200, 400}
    assert_headers(response)


def test_every_route_and_method_has_the_security_headers(databases: Databases) -> None:
    app = make_app(databases("sqlite"))
    for rule in app.url_map.iter_rules():
        for method in ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"):
            path = rule.rule.replace("<sid>", "unknown").partition("<")[0]
            response = Client(app).send(method, path)
            policy = response.header("Content-Security-Policy") or ""
            assert_headers(response, **{"Content-Security-Policy": policy})
            assert "frame-ancestors 'none'" in policy


@pytest.mark.parametrize(("status", "method", "path", "sent"), [row for row in REQUESTS if row[2].startswith("/api")])
def test_no_response_of_the_api_may_be_stored(
    development: Flask, status: int, method: str, path: str, sent: Mapping[str, Any]
) -> None:
    response = Client(development).send(method, path, **sent)
    assert (response.status, response.header("Cache-Control")) == (status, "no-store")


def test_page_of_the_document_loads_only_own_files(plain: Client) -> None:
    response = plain.send("GET", "/docs")
    policy = response.header("Content-Security-Policy") or ""
    assert dict(each.split(" ", 1) for each in policy.split("; ")) == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "connect-src": "'self'",
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert_headers(response, **{"Content-Security-Policy": policy})


def test_server_repeats_and_removes_no_header(databases: Databases, serve: Servers) -> None:
    client = serve(databases("sqlite")).client
    for method, path, body in (
        ("GET", "/healthz", None),
        ("GET", "/nowhere", None),
        ("PUT", "/api/login", None),
        ("POST", "/api/logout", None),
        ("POST", "/api/login", b"x" * 20000),
    ):
        assert_headers(client.send(method, path, body=body))
