"""Pages of other origins: exactly those that are listed may call us and read the answer; the others may do neither."""

import http.server
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from tests.conftest import Databases, Servers
from tests.support.app import PASSWORD, create_user, make_app
from tests.support.chromium import chromium
from tests.support.server import free_port
from tokenapp.db import db

LISTED = ["https://app.example.com", "https://[2001:db8::1]:8443", "http://localhost:5173"]
OTHERS = [
    "http://app.example.com",
    "https://app.example.com:8443",
    "https://app.example.com:443",
    "https://example.com",
    "https://evil.app.example.com",
    "https://evilapp.example.com",
    "https://app.example.com.evil.org",
    "https://app.example.comevil.org",
    "https://app.example.co",
    "https://appxexample.com",
    "https://app.example.com@evil.org",
    "https://evil.org/https://app.example.com",
    "https://app.example.com/",
    "https://app.example.com.",
    "https://app.example.com https://evil.org",
    "https://app.example.com,https://evil.org",
    "HTTPS://APP.EXAMPLE.COM",
    "https://App.example.com",
    "https://2:8443",
    "https://2001:8443",
    "http://localhost.evil.org",
    "http://localhost:51730",
    "http://127.0.0.1:5173",
    "file://",
    "null",
    "*",
    ".*",
    "",
]
CREDENTIALS = {"username": "alice", "password": PASSWORD}
EXPOSED = "RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, Retry-After, WWW-Authenticate, X-Request-ID"
REQUESTS: list[tuple[int, str, str, Mapping[str, Any]]] = [
    (200, "GET", "/healthz", {}),
    (200, "GET", "/openapi.json", {}),
    (304, "GET", "/openapi.json", {"headers": {"If-None-Match": "*"}}),
    (200, "POST", "/api/login", {"json": CREDENTIALS}),
    (204, "POST", "/api/logout", {}),
    (400, "POST", "/api/login", {"json": {}}),
    (401, "GET", "/api/me", {}),
    (403, "GET", "/api/me", {"headers": {"Authorization": "Bearer nonsense"}}),
    (404, "GET", "/nowhere", {}),
    (405, "GET", "/api/login", {}),
    (413, "POST", "/api/login", {"data": b"x" * 20000}),
    (415, "POST", "/api/login", {"data": b"{}"}),
    (500, "GET", "/broken", {}),
]


@pytest.fixture
def app(databases: Databases) -> Flask:
    """Give the application with some origins listed, a user, and a route that has a bug."""
    app = make_app(databases("sqlite"), TOKENAPP_ALLOWED_ORIGINS=",".join(LISTED))
    app.add_url_rule("/broken", view_func=lambda: str(1 // 0))
    create_user(app)
    return app


def of_cors(reply: TestResponse) -> dict[str, str]:
    return {name: value for name, value in reply.headers if name.startswith("Access-Control-")}


def preflight(
    app: Flask, origin: str, method: str = "POST", path: str = "/api/login", headers: str = ""
) -> TestResponse:
    asked = {"Origin": origin, "Access-Control-Request-Method": method, "Sec-Fetch-Site": "cross-site"}
    return app.test_client().options(
        path, headers=asked | ({"Access-Control-Request-Headers": headers} if headers else {})
    )


@pytest.mark.parametrize("origin", LISTED)
@pytest.mark.parametrize(("status", "method", "path", "sent"), REQUESTS)
def test_a_listed_origin_may_read_every_answer(
    app: Flask, status: int, method: str, path: str, sent: Mapping[str, Any], origin: str
) -> None:
    headers = {"Origin": origin, "Sec-Fetch-Site": "cross-site", **sent.get("headers", {})}
    reply = app.test_client().open(path, method=method, **{**sent, "headers": headers})
    assert reply.status_code == status
    assert of_cors(reply) == {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Credentials": "true",
        "Access-Control-Expose-Headers": EXPOSED,
    }
    assert reply.headers.getlist("Vary") == ["Origin"]


@pytest.mark.parametrize("origin", OTHERS)
@pytest.mark.parametrize(("method", "path"), [("GET", "/healthz"), ("GET", "/openapi.json"), ("GET", "/nowhere")])
def test_another_origin_may_read_nothing(app: Flask, origin: str, method: str, path: str) -> None:
    reply = app.test_client().open(path, method=method, headers={"Origin": origin})
    assert of_cors(reply) == {}
    assert reply.headers.getlist("Vary") == ["Origin"]


@pytest.mark.parametrize("origin", OTHERS)
@pytest.mark.parametrize("path", ["/api/login", "/api/token", "/api/logout"])
def test_another_origin_may_not_sign_in_or_use_the_cookie(app: Flask, origin: str, path: str) -> None:
    reply = app.test_client().post(path, json=CREDENTIALS, headers={"Origin": origin})
    assert (reply.status_code, reply.json and reply.json["code"]) == (403, "cross_site_request")
    assert of_cors(reply) == {}
    assert "Set-Cookie" not in reply.headers


@pytest.mark.parametrize("origin", LISTED)
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/api/login"), ("GET", "/api/me"), ("PUT", "/api/me/password"), ("DELETE", "/api/sessions/some")],
)
def test_a_listed_origin_is_told_what_it_may_send(app: Flask, origin: str, method: str, path: str) -> None:
    reply = preflight(app, origin, method, path, "authorization, content-type, x-request-id, x-evil")
    assert reply.status_code == 200
    assert of_cors(reply) == {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Credentials": "true",
        "Access-Control-Allow-Headers": "authorization, content-type, x-request-id",
        "Access-Control-Allow-Methods": "DELETE, GET, POST, PUT",
        "Access-Control-Expose-Headers": EXPOSED,
        "Access-Control-Max-Age": "3600",
    }
    assert reply.headers.getlist("Vary") == ["Origin"]


@pytest.mark.parametrize("origin", OTHERS)
def test_another_origin_is_told_nothing(app: Flask, origin: str) -> None:
    reply = preflight(app, origin, headers="authorization")
    assert (reply.status_code, of_cors(reply)) == (200, {})
    assert reply.headers.getlist("Vary") == ["Origin"]


@pytest.mark.parametrize("path", ["/api/login", "/api/token", "/api/logout"])
def test_a_preflight_is_not_refused_as_a_request_of_another_site(app: Flask, path: str) -> None:
    assert preflight(app, "https://evil.org", path=path).status_code == 200


def test_the_methods_allowed_are_those_that_the_api_has(app: Flask) -> None:
    document = app.test_client().get("/openapi.json").json
    assert document is not None
    methods = sorted({method.upper() for path in document["paths"].values() for method in path})
    assert preflight(app, LISTED[0]).headers["Access-Control-Allow-Methods"] == ", ".join(methods)


def test_a_method_that_we_do_not_have_is_not_allowed(app: Flask) -> None:
    assert "Access-Control-Allow-Methods" not in preflight(app, LISTED[0], "PATCH").headers


def test_no_origin_may_reach_us_from_the_public_network_into_a_private_one(app: Flask) -> None:
    headers = {"Origin": LISTED[0], "Access-Control-Request-Private-Network": "true"}
    reply = app.test_client().options("/api/login", headers=headers)
    assert reply.headers.get("Access-Control-Allow-Private-Network") in {None, "false"}


def test_an_answer_to_nobody_in_particular_varies_by_origin_too(app: Flask) -> None:
    reply = app.test_client().get("/openapi.json")
    assert (of_cors(reply), reply.headers.getlist("Vary")) == ({}, ["Origin"])


@pytest.mark.parametrize("origin", [*LISTED, *OTHERS, "http://localhost:3005", "http://localhost"])
def test_without_a_list_nobody_is_told_anything(databases: Databases, origin: str) -> None:
    app = make_app(databases("sqlite"))
    for reply in (
        preflight(app, origin, headers="authorization"),
        app.test_client().get("/healthz", headers={"Origin": origin}),
    ):
        assert of_cors(reply) == {}
        assert "Vary" not in reply.headers


def test_a_list_in_capitals_means_what_browsers_send(databases: Databases) -> None:
    app = make_app(databases("sqlite"), TOKENAPP_ALLOWED_ORIGINS="https://App.Example.com")
    reply = app.test_client().get("/healthz", headers={"Origin": "https://app.example.com"})
    assert reply.headers["Access-Control-Allow-Origin"] == "https://app.example.com"


# In a real browser.

SIGN_IN = """async ([url, username, password]) => {
    const post = (path, more) => fetch(url + path, {method: "POST", credentials: "include", ...more});
    try {
        const body = JSON.stringify({username, password});
        const login = await post("/api/login", {headers: {"Content-Type": "application/json"}, body});
        const refresh = await post("/api/token", {headers: {"X-Request-ID": "from-the-page"}});
        return [login.status, refresh.status, refresh.headers.get("X-Request-ID")];
    } catch (error) {
        return [error.name];
    }
}"""


@contextmanager
def other_site(port: int) -> Iterator[str]:
    """Serve empty pages on `port`; give their origin."""

    class Empty(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", port), Empty) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://localhost:{port}"
        server.shutdown()
        thread.join()


def test_a_browser_lets_pages_of_a_listed_origin_sign_in_and_no_others(databases: Databases, serve: Servers) -> None:
    url, ports = databases("sqlite"), [free_port(), free_port()]
    app = make_app(url)
    create_user(app)
    with app.app_context():
        db.engine.dispose()
    server = serve(url, TOKENAPP_ALLOWED_ORIGINS=f"http://localhost:{ports[0]}")
    results = []
    with chromium() as browser, other_site(ports[0]) as listed, other_site(ports[1]) as other:
        for origin in (listed, other):
            page = browser.new_page()
            page.goto(origin)
            results.append(page.evaluate(SIGN_IN, [f"http://localhost:{server.port}", "alice", PASSWORD]))
    assert results == [[200, 200, "from-the-page"], ["TypeError"]]
