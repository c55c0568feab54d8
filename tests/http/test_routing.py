"""The methods and paths that exist, and the errors of all others."""

import re
from collections.abc import Mapping
from typing import Final

import pytest
from flask import Flask
from werkzeug.routing import Rule

from tests.support import stored
from tests.support.app import PASSWORD, make_app
from tests.support.client import Client
from tokenapp import api

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "PROPFIND", "FOO")
# Variables that only some values match.
VARIABLES: Final = {"name": api.docs.FILES[0], "file": next(iter(api.pages.FILES))}


def path_of(rule: Rule) -> str:
    """Return a path that matches `rule`."""
    return re.sub(r"<(?:[^<>]*:)?(\w+)>", lambda match: VARIABLES.get(match[1], "x"), rule.rule)


def methods_by_path(app: Flask) -> Mapping[str, set[str]]:
    """Return the methods that each path supports, unless it supports any."""
    paths: dict[str, set[str]] = {}
    any_method = {path_of(rule) for rule in app.url_map.iter_rules() if rule.methods is None}
    for rule in app.url_map.iter_rules():
        if path_of(rule) in any_method:
            continue  # tests/api/test_forward_auth.py tests these
        paths.setdefault(path_of(rule), set()).update(rule.methods or ())
    return paths


# Methods


def test_unsupported_method_gets_405_with_the_supported_ones(shared_app: Flask) -> None:
    for path, allowed in methods_by_path(shared_app).items():
        for method in set(METHODS) - allowed:
            response = Client(shared_app).send(method, path)
            assert response.status == 405
            assert set((response.header("Allow") or "").split(", ")) == allowed
            assert response.header("Content-Type") == "application/problem+json"
            if method != "HEAD":
                assert response.problem == (
                    405,
                    "method_not_allowed",
                    "The method is not allowed for this path.",
                )


def test_the_four_core_routes_exist() -> None:
    paths = methods_by_path(make_app("sqlite:////nonexistent/never-opened.db"))
    assert paths["/api/login"] == paths["/api/token"] == paths["/api/logout"] == {"POST", "OPTIONS"}
    assert paths["/api/protected"] == {"GET", "HEAD", "OPTIONS"}


def test_options_lists_the_methods_and_changes_nothing(shared_app: Flask, shared: Client) -> None:
    before = stored.sessions(shared_app)
    for path, allowed in methods_by_path(shared_app).items():
        response = shared.send("OPTIONS", path, cookie=shared.cookie, headers={"Origin": "https://evil.example"})
        assert response.status == 200
        assert set((response.header("Allow") or "").split(", ")) == allowed
        assert not response.body
        assert response.cookie is None
        assert not [name for name, _ in response.headers if name.startswith("Access-Control-")]
    assert stored.sessions(shared_app) == before


def test_head_gets_the_headers_of_get_without_the_body(shared: Client) -> None:
    for token, status in ((shared.token, 200), ("bad", 403)):
        headers = {"X-Request-ID": "same"}
        got = shared.send("GET", "/api/protected", bearer=token, headers=headers)
        head = shared.send("HEAD", "/api/protected", bearer=token, headers=headers)
        assert head.status == got.status == status
        assert head.headers == got.headers
        assert not head.body


OVERRIDES: Final = ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Http-Method-Override"]


@pytest.mark.parametrize("header", OVERRIDES)
def test_method_override_is_ignored(shared: Client, header: str) -> None:
    for query in ("", "?_method=GET", "?_method=POST"):
        assert shared.send("GET", "/api/token" + query, headers={header: "POST"}).status == 405
        assert shared.send("POST", "/api/protected" + query, headers={header: "GET"}).status == 405
        assert shared.send("POST", "/api/token" + query, headers={header: "DELETE"}).status == 401
    assert shared.send("POST", "/api/protected", form={"_method": "GET"}).status == 405


# Paths

UNKNOWN_PATHS: Final = [
    "/api",
    "/api/",
    "/api/login/",
    "/api/Login",
    "/API/login",
    "/api//login",
    "/api/./login",
    "/api/x/../login",
    "/api/%2e%2e/api/login",
    "/api/login%00",
    "/api/login%20",
    "/api/login%0d%0aX: y",
    "/api/login;x=1",
    "/api/login.json",
    "/api\\login",
    "/%ff%fe",
    "/.env",
    "/.git/config",
    "/wp-login.php",
    "/static/x.js",
    "/" + "a" * 3000,
    "/%3Cscript%3Ealert(1)%3C/script%3E",
]


@pytest.mark.parametrize("path", UNKNOWN_PATHS, ids=lambda path: path[:30])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_unknown_path_is_not_found_and_never_redirected(shared: Client, path: str, method: str) -> None:
    response = shared.send(method, path, headers={"Host": "evil.example"})
    assert response.problem == (404, "not_found", "The path does not exist.")
    assert response.header("Location") is None
    assert "script" not in response.text


@pytest.mark.parametrize("header", ["X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Prefix", "X-Script-Name"])
def test_path_in_a_header_is_ignored(shared: Client, header: str) -> None:
    assert shared.send("GET", "/nothing", headers={header: "/healthz"}).status == 404
    assert shared.send("GET", "/healthz", headers={header: "/nothing"}).status == 200


# Hosts

HOSTS: Final = [
    "evil.example",
    "evil.example:99999",
    "evil.example:x",
    "evil.example#",
    "evil.example?x",
    "user:pass@evil.example",
    "127.0.0.1\\evil.example",
    "a b",
    "a,b",
    "a/b",
    "[::1",
    "-",
    "",
    "\xff",
    "x" * 300,
    '"><script>',
]
REQUESTS: Final = (
    ("POST", "/api/login"),
    ("POST", "/api/token"),
    ("POST", "/api/logout"),
    ("GET", "/api/protected"),
    ("GET", "/nothing"),
    ("GET", "/api//token"),
    ("OPTIONS", "/api/login"),
)


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: repr(host[:30]))
def test_host_of_the_request_is_never_in_the_response(shared: Client, host: str) -> None:
    headers = {
        "Host": host,
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "https",
        "Forwarded": "host=evil.example;proto=https",
    }
    for method, path in REQUESTS:
        body = {"username": "alice", "password": PASSWORD}
        response = shared.send(method, path, payload=body, headers=headers)
        assert response.status < 500
        assert response.status // 100 != 3
        assert "evil" not in response.text + str(response.headers)
        assert "script" not in response.text + str(response.headers)
