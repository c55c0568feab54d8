"""The OpenAPI document: valid, whole, and true of every answer."""

import mimetypes
import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from openapi_schema_validator import OAS31Validator, oas31_format_checker
from openapi_spec_validator import OpenAPIV31SpecValidator
from werkzeug.test import TestResponse

from tests.conftest import Databases
from tests.http.test_headers import PRODUCTION
from tests.support.app import PASSWORD, create_user, make_app
from tests.support.server import free_port
from tokenapp import clients, sessions
from tokenapp.api import docs
from tokenapp.db import execute_now
from tokenapp.models import Session

Answer = tuple[str, str, TestResponse]
Known = tuple[str, str, int, str]

OF_HTTP_ITSELF = {"Content-Type", "Content-Length", "Date"}
TOO_LARGE = b"x" * (16 * 1024 + 1)
NETWORKS = count(1)
IMPLIED = {"HEAD", "OPTIONS"}


def document_of(app: Flask) -> dict[str, Any]:
    reply = app.test_client().get("/openapi.json")
    assert reply.status_code == 200
    assert isinstance(reply.json, dict)
    return reply.json


def operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


@pytest.fixture
def plain(databases: Databases) -> Flask:
    """Give the application on a database of one kind: what is asked of it does not depend on the kind."""
    return make_app(databases("sqlite"))


def test_the_document_is_valid_openapi_3_1(plain: Flask) -> None:
    document = document_of(plain)
    assert document["openapi"] == "3.1.0"
    assert not list(OpenAPIV31SpecValidator(document).iter_errors())


def test_every_route_and_method_is_described_and_nothing_else(plain: Flask) -> None:
    routes = {
        (method, re.sub(r"<(?:[^<>]*:)?(\w+)>", r"{\1}", rule.rule))
        for rule in plain.url_map.iter_rules()
        for method in (rule.methods or set()) - IMPLIED
    }
    assert {(method, path) for method, path, _ in operations(document_of(plain))} == routes


def test_a_route_that_is_not_described_is_found_out(plain: Flask) -> None:
    plain.add_url_rule("/new", view_func=lambda: "")
    with pytest.raises(AssertionError, match="/new"):
        test_every_route_and_method_is_described_and_nothing_else(plain)


def test_every_variable_of_a_path_is_described(plain: Flask) -> None:
    for _method, path, operation in operations(document_of(plain)):
        described = {each["name"] for each in operation["parameters"] if each.get("in") == "path"}
        assert described == set(re.findall(r"{(\w+)}", path))


def test_the_document_is_not_built_before_it_is_asked_for(plain: Flask) -> None:
    plain.add_url_rule("/late", view_func=docs.page, endpoint="late")
    assert "/late" in document_of(plain)["paths"]


def test_the_document_is_the_same_in_every_process(databases: Databases) -> None:
    one, other = (make_app(databases("sqlite")).test_client().get("/openapi.json") for _ in range(2))
    assert one.headers["ETag"] == other.headers["ETag"]


def test_the_document_may_be_kept_but_is_asked_about_each_time(plain: Flask) -> None:
    first = plain.test_client().get("/openapi.json")
    assert first.headers["Cache-Control"] == "public, no-cache"
    again = plain.test_client().get("/openapi.json", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")


def test_the_status_of_a_bad_access_token_is_documented_as_it_is_set(databases: Databases) -> None:
    app = make_app(databases("sqlite"), TOKENAPP_INVALID_TOKEN_STATUS="401")
    answer = app.test_client().get("/api/me", headers={"Authorization": "Bearer nonsense"})
    assert answer.status_code == 401
    check(document_of(app), ("GET", "/api/me", answer))


def test_the_document_of_production_names_its_cookie_and_hsts(databases: Databases) -> None:
    document = document_of(make_app(databases("sqlite"), **PRODUCTION))
    assert document["components"]["securitySchemes"]["refreshCookie"]["name"] == "__Host-refreshToken"
    for _method, _path, operation in operations(document):
        for response in operation["responses"].values():
            assert "Strict-Transport-Security" in response["headers"]


def test_the_answers_of_production_are_as_documented(databases: Databases) -> None:
    app = make_app(databases("sqlite"), **PRODUCTION)
    for answer in answers_of_a_life(app, "alice"):
        check(document_of(app), answer)


def test_the_answers_to_other_origins_are_as_documented(databases: Databases) -> None:
    origin = "https://app.example.com"
    app = make_app(databases("sqlite"), TOKENAPP_ALLOWED_ORIGINS=origin)
    for answer in answers_to_anything(app, document_of(app), Origin=origin):
        check(document_of(app), answer)


def test_every_documented_answer_can_be_had_and_no_other_is_given(app: Flask) -> None:
    document = document_of(app)
    away = make_app(f"postgresql://nobody@127.0.0.1:{free_port()}/nothing")
    seen = {
        check(document, answer)
        for answers in (
            answers_to_anything(app, document),
            answers_of_a_life(app, "alice"),
            answers_about_sessions(app, "ben"),
            answers_to_guesses(app),
            answers_without_a_database(away, document),
        )
        for answer in answers
    }
    assert seen == set(documented(document))


def test_unknown_paths_and_methods_answer_as_documented(plain: Flask) -> None:
    document = document_of(plain)
    client = plain.test_client()
    for answer, name in ((client.get("/nowhere"), "NotFound"), (client.get("/api/login"), "MethodNotAllowed")):
        check_response(document, document["components"]["responses"][name], answer)


@pytest.mark.parametrize(
    ("name", "media_type"), {name: mimetypes.guess_type(name)[0] or "text/plain" for name in docs.FILES}.items()
)
def test_each_file_of_the_page_is_there(plain: Flask, name: str, media_type: str) -> None:
    reply = plain.test_client().get(f"/docs/{name}")
    assert (reply.status_code, reply.mimetype) == (200, media_type)
    assert reply.data


@pytest.mark.parametrize("name", ["index.html", "../__init__.py", "..%2f__init__.py", "start.js/", "%00", "Start.js"])
def test_no_other_file_can_be_had(plain: Flask, name: str) -> None:
    assert plain.test_client().get(f"/docs/{name}").status_code == 404


# How the answers are had.


class Caller:
    """Somebody who signs in to `app`, from a network of their own, and calls it by method and path."""

    def __init__(self, app: Flask, name: str) -> None:
        self.name, self.client = name, app.test_client(use_cookies=False)
        self.client.environ_base["REMOTE_ADDR"] = f"10.9.{next(NETWORKS)}.1"
        self.cookie_name = app.config["TOKENAPP"].cookie_name
        self.bearer, self.cookie = "", ""

    def call(self, method: str, path: str, **sent: Any) -> Answer:
        """Send one request."""
        return method, path, self.client.open(path, method=method, **sent)

    def sign_in(self) -> Answer:
        """Sign in, and keep what that gives."""
        answer = self.call("POST", "/api/login", json={"username": self.name, "password": PASSWORD})
        self._keep(answer[2])
        return answer

    def refresh(self) -> Answer:
        """Refresh, and keep what that gives."""
        answer = self.call("POST", "/api/token", headers=self.with_cookie())
        self._keep(answer[2])
        return answer

    def with_bearer(self) -> dict[str, str]:
        """Return the header that carries the access token."""
        return {"Authorization": f"Bearer {self.bearer}"}

    def with_cookie(self) -> dict[str, str]:
        """Return the header that carries the refresh token."""
        return {"Cookie": f"{self.cookie_name}={self.cookie}"}

    def _keep(self, reply: TestResponse) -> None:
        assert reply.json is not None
        self.bearer = reply.json.get("accessToken", self.bearer)
        self.cookie = re.sub(r"^[^=]*=|;.*$", "", reply.headers.get("Set-Cookie", self.cookie))


def answers_to_anything(app: Flask, document: Mapping[str, Any], **always: str) -> Iterator[Answer]:
    """Send to each route what is wrong for most of them, and what is right for some."""
    create_user(app, "carol")
    caller = Caller(app, "carol")
    client = client_of(app)
    requests: list[Callable[[], dict[str, Any]]] = [
        dict,
        lambda: {"data": TOO_LARGE},
        lambda: {"headers": {"Authorization": "Bearer nonsense"}},
        lambda: {"headers": {"Authorization": "Bearer one, Bearer two"}},
        lambda: {"headers": {"Cookie": f"{caller.cookie_name}=nonsense"}},
        lambda: {"headers": {"Sec-Fetch-Site": "cross-site", **caller.with_cookie()}},
        lambda: {"headers": {"If-None-Match": "*"}},
        lambda: {"headers": client, "query_string": {"since": "nonsense"}},
        lambda: {"headers": client, "data": {"token": caller.bearer}},
        lambda: {"headers": caller.with_bearer(), "data": b"{}", "content_type": "text/plain"},
        lambda: {"headers": caller.with_bearer(), "data": b"[]", "content_type": "application/json"},
    ]
    for method, path, _ in operations(document):
        for request in requests:
            yield caller.sign_in()
            sent = request()
            sent["headers"] = always | sent.get("headers", {})
            yield caller.call(method, path.format(sid="unknown", name="start.js", file="tokenapp.js"), **sent)


def answers_of_a_life(app: Flask, name: str) -> Iterator[Answer]:
    """Sign in, look around, change the password, and sign out."""
    create_user(app, name)
    caller = Caller(app, name)
    yield caller.sign_in()
    for path in (
        "/api/protected",
        "/api/me",
        "/api/sessions?limit=5",
        "/healthz",
        "/readyz",
        "/docs",
        "/docs/nothing.js",
        "/static/nothing.js",
    ):
        yield caller.call("GET", path, headers=caller.with_bearer())
    yield caller.refresh()
    yield caller.call("POST", "/api/reauthenticate", headers=caller.with_bearer(), json={"password": PASSWORD})
    for password in ("too short", "a better pass phrase by far"):
        body = {"currentPassword": PASSWORD, "newPassword": password}
        yield caller.call("PUT", "/api/me/password", headers=caller.with_bearer(), json=body)
    yield caller.call("POST", "/api/logout", headers=caller.with_cookie())
    yield caller.call("POST", "/api/token", headers=caller.with_cookie())


def answers_about_sessions(app: Flask, name: str) -> Iterator[Answer]:
    """End sessions in every way, with fresh tokens and stale ones; let one expire."""
    create_user(app, name)
    caller = Caller(app, name)
    for path in ("/api/sessions/{sid}", "/api/sessions?keep=current", "/api/sessions"):
        yield caller.sign_in()
        sid = sids_of(caller)[0]
        age_sessions(app, "authenticated_at", timedelta(minutes=16))
        stale = Caller(app, name)
        stale.cookie = caller.cookie
        yield stale.refresh()
        yield caller.call("DELETE", path.format(sid="un%2Fknown"), headers=caller.with_bearer())
        yield stale.call("DELETE", path.format(sid=sid), headers=stale.with_bearer())
        yield caller.call("DELETE", path.format(sid="unknown"), headers=caller.with_bearer())
        yield caller.call("DELETE", path.format(sid=sid), headers=caller.with_bearer())
    yield caller.sign_in()
    with app.app_context():  # so lately that the list of ended sessions may not have it yet
        sessions.revoke(sids_of(caller)[0], "operator", datetime.now(UTC))
    yield caller.call("POST", "/api/reauthenticate", headers=caller.with_bearer(), json={"password": PASSWORD})
    yield caller.sign_in()
    yield caller.call("DELETE", "/api/sessions?keep=all", headers=caller.with_bearer())
    yield caller.call("GET", "/api/sessions?limit=0", headers=caller.with_bearer())
    age_sessions(app, "expires_at", timedelta(days=8))
    yield caller.refresh()


def answers_to_guesses(app: Flask) -> Iterator[Answer]:
    """Guess a password, wherever one is asked for, until it is too often."""
    for path, name, member in (
        ("/api/login", "dora", "password"),
        ("/api/reauthenticate", "emil", "password"),
        ("/api/me/password", "fred", "currentPassword"),
    ):
        create_user(app, name)
        caller = Caller(app, name)
        yield caller.sign_in()
        body = {"username": name, "newPassword": "a better pass phrase by far", member: "not the password"}
        for _ in range(6):
            method = "PUT" if path.startswith("/api/me") else "POST"
            yield caller.call(method, path, headers=caller.with_bearer(), json=body)


def answers_without_a_database(app: Flask, document: Mapping[str, Any]) -> Iterator[Answer]:
    """Send each route what would need the database."""
    caller = Caller(app, "nobody")
    for method, path, operation in operations(document):
        if "503" in operation["responses"]:
            caller.bearer, caller.cookie = "e30.e30.e30", "e30.e30.e30"
            headers = caller.with_bearer() | caller.with_cookie()
            if operation["security"] == [{"client": []}]:
                headers = basic("client-x", "secret")
            body = {"username": "nobody", "password": PASSWORD}
            yield caller.call(method, path.format(sid="unknown"), headers=headers, json=body)


def client_of(app: Flask) -> dict[str, str]:
    """Return the header of a new client."""
    with app.app_context():
        client, secret = clients.create("another service", clients.RIGHTS, datetime.now(UTC))
    return basic(client.id, secret)


def basic(name: str, secret: str) -> dict[str, str]:
    return {"Authorization": f"Basic {b64encode(f'{name}:{secret}'.encode()).decode()}"}


def sids_of(caller: Caller) -> list[str]:
    listed = caller.call("GET", "/api/sessions", headers=caller.with_bearer())[2].json
    assert listed is not None
    return [item["id"] for item in listed["items"]]


def age_sessions(app: Flask, column: str, age: timedelta) -> None:
    with app.app_context():
        execute_now(sa.update(Session).values({column: datetime.now(UTC) - age}))


# How an answer is held against the document.


def documented(document: Mapping[str, Any]) -> Iterator[Known]:
    for method, path, operation in operations(document):
        for status, response in operation["responses"].items():
            for code in codes_of(response):
                yield method, path, int(status), code


def pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path)))


def codes_of(response: Mapping[str, Any]) -> list[str]:
    problem = response.get("content", {}).get("application/problem+json")
    return [""] if problem is None else list(problem["schema"]["allOf"][1]["properties"]["code"]["enum"])


def check(document: Mapping[str, Any], answer: Answer) -> Known:
    """Hold an answer against the document; return which of the documented answers it is."""
    method, address, reply = answer
    path = next(path for path in document["paths"] if pattern(path).fullmatch(address.partition("?")[0]))
    responses = document["paths"][path][method.lower()]["responses"]
    assert str(reply.status_code) in responses, f"{method} {address}: {reply.status} {reply.text}"
    check_response(document, responses[str(reply.status_code)], reply)
    problem = reply.json if reply.mimetype == "application/problem+json" else None
    return method, path, reply.status_code, problem["code"] if problem else ""


def check_response(document: Mapping[str, Any], response: Mapping[str, Any], reply: TestResponse) -> None:
    headers = {name: resolved(document, each) for name, each in response["headers"].items()}
    assert {*reply.headers.keys()} - OF_HTTP_ITSELF <= {*headers}, reply.text
    for name, header in headers.items():
        assert name in reply.headers or not header["required"], f"{name} is missing: {reply.text}"
        for value in reply.headers.getlist(name):
            OAS31Validator(header["schema"]).validate(int(value) if is_number(header["schema"]) else value)
    content = response.get("content", {})
    assert bool(reply.data) == bool(content), reply.data
    if content:
        assert reply.mimetype in content
        schema = {"allOf": [content[reply.mimetype].get("schema", {})], "components": document["components"]}
        if reply.is_json and "schema" in content[reply.mimetype]:
            schema["unevaluatedProperties"] = False
            OAS31Validator(schema, format_checker=oas31_format_checker).validate(reply.json)


def is_number(schema: Mapping[str, Any]) -> bool:
    return schema.get("type") == "integer"


def resolved(document: Mapping[str, Any], header: Mapping[str, Any]) -> Any:
    return document["components"]["headers"][header["$ref"].rpartition("/")[2]] if "$ref" in header else header
