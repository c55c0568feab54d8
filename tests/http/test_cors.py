"""CORS: which origins may send requests and read the responses."""

import http.server
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from flask import Flask

from tests.conftest import Databases, Servers
from tests.support.app import PASSWORD, application, create_user, make_app
from tests.support.chromium import chromium
from tests.support.client import Client, Response
from tests.support.server import free_port

ALLOWED = ["https://app.example.com", "https://[2001:db8::1]:8443", "http://localhost:5173"]
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
    (200, "POST", "/api/login", {"payload": CREDENTIALS}),
    (204, "POST", "/api/logout", {}),
    (400, "POST", "/api/login", {"payload": {}}),
    (401, "GET", "/api/me", {}),
    (403, "GET", "/api/me", {"bearer": "nonsense"}),
    (404, "GET", "/nowhere", {}),
    (405, "GET", "/api/login", {}),
    (413, "POST", "/api/login", {"body": b"x" * 20000}),
    (415, "POST", "/api/login", {"body": b"{}"}),
    (500, "GET", "/broken", {}),
]
COOKIE_ROUTES = ["/api/login", "/api/token", "/api/logout"]
every_allowed_origin = pytest.mark.parametrize("origin", ALLOWED)
every_other_origin = pytest.mark.parametrize("origin", OTHERS)


@pytest.fixture(scope="module")
def app(databases: Databases) -> Iterator[Flask]:
    """Return the application with allowed origins and a route that has a bug."""
    with application(databases("sqlite"), TOKENAPP_ALLOWED_ORIGINS=",".join(ALLOWED)) as app:
        app.add_url_rule("/broken", view_func=lambda: str(1 // 0))
        create_user(app)
        yield app


@pytest.fixture(scope="module")
def client(app: Flask) -> Client:
    """Return a client of that application."""
    return Client(app)


def cors_headers(response: Response) -> dict[str, str]:
    """Return the CORS headers of a response."""
    return {name: value for name, value in response.headers if name.startswith("Access-Control-")}


def preflight(
    client: Client, origin: str, method: str = "POST", path: str = "/api/login", headers: str = ""
) -> Response:
    """Send the preflight request for a request with `method` and `headers`."""
    sent = {"Origin": origin, "Access-Control-Request-Method": method, "Sec-Fetch-Site": "cross-site"}
    if headers:
        sent["Access-Control-Request-Headers"] = headers
    return client.send("OPTIONS", path, headers=sent)


# Requests


@every_allowed_origin
@pytest.mark.parametrize(("status", "method", "path", "sent"), REQUESTS)
def test_allowed_origin_may_read_every_response(
    client: Client, status: int, method: str, path: str, sent: Mapping[str, Any], origin: str
) -> None:
    headers = {"Origin": origin, "Sec-Fetch-Site": "cross-site", **sent.get("headers", {})}
    response = client.send(method, path, **{**sent, "headers": headers})
    assert response.status == status
    assert cors_headers(response) == {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Credentials": "true",
        "Access-Control-Expose-Headers": EXPOSED,
    }
    assert response.all("Vary") == ["Origin"]


@every_other_origin
@pytest.mark.parametrize(("method", "path"), [("GET", "/healthz"), ("GET", "/openapi.json"), ("GET", "/nowhere")])
def test_other_origin_may_read_no_response(client: Client, origin: str, method: str, path: str) -> None:
    response = client.send(method, path, headers={"Origin": origin})
    assert cors_headers(response) == {}
    assert response.all("Vary") == ["Origin"]


@every_other_origin
@pytest.mark.parametrize("path", COOKIE_ROUTES)
def test_other_origin_may_not_sign_in_or_use_the_cookie(client: Client, origin: str, path: str) -> None:
    response = client.send("POST", path, payload=CREDENTIALS, headers={"Origin": origin})
    assert (response.status, response.code) == (403, "cross_site_request")
    assert cors_headers(response) == {}
    assert response.all("Set-Cookie") == []


def test_response_without_an_origin_varies_by_origin(client: Client) -> None:
    response = client.send("GET", "/openapi.json")
    assert cors_headers(response) == {}
    assert response.all("Vary") == ["Origin"]


# Preflight requests


@every_allowed_origin
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/api/login"), ("GET", "/api/me"), ("PUT", "/api/me/password"), ("DELETE", "/api/sessions/some")],
)
def test_preflight_of_an_allowed_origin_lists_methods_and_headers(
    client: Client, origin: str, method: str, path: str
) -> None:
    response = preflight(client, origin, method, path, "authorization, content-type, x-request-id, x-evil")
    assert response.status == 200
    assert cors_headers(response) == {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Credentials": "true",
        "Access-Control-Allow-Headers": "authorization, content-type, x-request-id",
        "Access-Control-Allow-Methods": "DELETE, GET, PATCH, POST, PUT",
        "Access-Control-Expose-Headers": EXPOSED,
        "Access-Control-Max-Age": "3600",
    }
    assert response.all("Vary") == ["Origin"]


@every_other_origin
def test_preflight_of_another_origin_has_no_cors_headers(client: Client, origin: str) -> None:
    response = preflight(client, origin, headers="authorization")
    assert (response.status, cors_headers(response)) == (200, {})
    assert response.all("Vary") == ["Origin"]


@pytest.mark.parametrize("path", COOKIE_ROUTES)
def test_preflight_is_not_rejected_as_a_cross_site_request(client: Client, path: str) -> None:
    assert preflight(client, "https://evil.org", path=path).status == 200


def test_allowed_methods_are_those_of_the_api(client: Client) -> None:
    document = client.send("GET", "/openapi.json").json
    methods = sorted({method.upper() for path in document["paths"].values() for method in path})
    assert preflight(client, ALLOWED[0]).header("Access-Control-Allow-Methods") == ", ".join(methods)


def test_method_that_no_route_supports_is_not_allowed(client: Client) -> None:
    assert preflight(client, ALLOWED[0], "TRACE").header("Access-Control-Allow-Methods") is None


def test_access_from_the_public_to_a_private_network_is_not_allowed(client: Client) -> None:
    headers = {"Origin": ALLOWED[0], "Access-Control-Request-Private-Network": "true"}
    response = client.send("OPTIONS", "/api/login", headers=headers)
    assert response.header("Access-Control-Allow-Private-Network") in {None, "false"}


# The setting


@pytest.mark.parametrize("origin", [*ALLOWED, *OTHERS, "http://localhost:3005", "http://localhost"])
def test_without_allowed_origins_there_are_no_cors_headers(databases: Databases, origin: str) -> None:
    client = Client(make_app(databases("sqlite")))
    for response in (
        preflight(client, origin, headers="authorization"),
        client.send("GET", "/healthz", headers={"Origin": origin}),
    ):
        assert cors_headers(response) == {}
        assert response.header("Vary") is None


def test_allowed_origin_in_capitals_matches_what_browsers_send(databases: Databases) -> None:
    client = Client(make_app(databases("sqlite"), TOKENAPP_ALLOWED_ORIGINS="https://App.Example.com"))
    response = client.send("GET", "/healthz", headers={"Origin": "https://app.example.com"})
    assert response.header("Access-Control-Allow-Origin") == "https://app.example.com"


# A real browser

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
    """Serve empty pages on `port` and return their origin."""

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


def test_browser_lets_only_pages_of_an_allowed_origin_sign_in(databases: Databases, serve: Servers) -> None:
    url, ports = databases("sqlite"), [free_port(), free_port()]
    with application(url) as app:
        create_user(app)
    server = serve(url, TOKENAPP_ALLOWED_ORIGINS=f"http://localhost:{ports[0]}")
    results = []
    with chromium() as browser, other_site(ports[0]) as allowed, other_site(ports[1]) as other:
        for origin in (allowed, other):
            page = browser.new_page()
            page.goto(origin)
            results.append(page.evaluate(SIGN_IN, [f"http://localhost:{server.port}", "alice", PASSWORD]))
    assert results == [[200, 200, "from-the-page"], ["TypeError"]]
