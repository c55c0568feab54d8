"""Requests that are wrong in form, in their headers or in where they come from: one clear answer each, no effect."""

import json
import secrets
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

import pytest
import sqlalchemy as sa
from flask import Flask, Response
from flask.testing import FlaskClient
from werkzeug.routing import Rule
from werkzeug.test import TestResponse

from tests.conftest import Databases
from tests.support.app import PASSWORD, create_user, make_app
from tests.support.forge import BAD_REFRESH, Issued, code_of, issue
from tokenapp import db
from tokenapp.models import Session

LIMIT: Final = 16 * 1024
GOOD_LOGIN: Final = {"username": "alice", "password": PASSWORD}
INVALID: Final = (400, "invalid_request")


@pytest.fixture(scope="module")
def lone(databases: Databases) -> Iterator[Issued]:
    """Give one session for tests that change nothing, on SQLite: the database has no say in them."""
    app = make_app(databases("sqlite"), TOKENAPP_ALLOWED_ORIGINS="https://app.example.com, http://localhost:5173")
    yield issue(app)
    with app.app_context():
        db.db.engine.dispose()


def client_of(app: Flask) -> FlaskClient:
    """Return a client that keeps no cookies."""
    return app.test_client(use_cookies=False)


def login(app: Flask, body: bytes, content_type: str | None = "application/json", **more: Any) -> TestResponse:
    """Send `body` to the sign-in route."""
    return client_of(app).post("/api/login", data=body, content_type=content_type, **more)


def sessions_of(app: Flask) -> list[tuple[Any, ...]]:
    """Return all sessions as they are stored."""
    with app.app_context():
        return [tuple(row) for row in db.execute_now(sa.select(Session.__table__).order_by(Session.id))]


def status_and_code(response: TestResponse) -> tuple[int, str]:
    """Return status and code of a refusal."""
    return code_of(response)[:2]


# Bodies.

ALICE: Final = json.dumps(GOOD_LOGIN).encode()
BAD_BODIES: Final = {
    "nothing": b"",
    "spaces": b" \r\n\t ",
    "null": b"null",
    "true": b"true",
    "a number": b"12",
    "a string": b'"alice"',
    "a string of JSON": json.dumps(ALICE.decode()).encode(),
    "an array": b'["alice", "secret"]',
    "an array of the object": b"[" + ALICE + b"]",
    "an empty object": b"{}",
    "no JSON": b"username=alice&password=x",
    "HTML": b"<html>",
    "cut off": ALICE[:-1],
    "cut off in a string": ALICE[:-3],
    "a comma too many": ALICE[:-1] + b",}",
    "something behind": ALICE + b"x",
    "two objects": ALICE + ALICE,
    "a NUL behind": ALICE + b"\x00",
    "a BOM": b"\xef\xbb\xbf" + ALICE,
    "UTF-16": ALICE.decode().encode("utf-16"),
    "UTF-32": ALICE.decode().encode("utf-32"),
    "invalid UTF-8": b'{"username":"\xff","password":"x"}',
    "overlong UTF-8": b'{"username":"\xc0\xaf","password":"x"}',
    "a surrogate in UTF-8": b'{"username":"\xed\xa0\x80","password":"x"}',
    "invalid UTF-8 where nobody looks": ALICE[:-1] + b',"x":"\xff"}',
    "single quotes": ALICE.replace(b'"', b"'"),
    "a comment": b"/* */" + ALICE,
    "NaN": b'{"username":NaN,"password":"x"}',
    "Infinity": b'{"username":"alice","password":Infinity}',
    "NaN where nobody looks": ALICE[:-1] + b',"x":NaN}',
    "a number out of range": b'{"username":1e999,"password":"x"}',
    "a raw line end in a string": b'{"username":"a\nb","password":"x"}',
    "a bad escape": b'{"username":"\\x61","password":"x"}',
    "a lone surrogate": b'{"username":"\\ud800","password":"x"}',
    "a lone low surrogate": b'{"username":"\\udfff","password":"x"}',
    "a lone surrogate in the password": b'{"username":"alice","password":"\\ud83d"}',
    "surrogates in the wrong order": b'{"username":"\\udc00\\ud800","password":"x"}',
    "a lone surrogate where nobody looks": ALICE[:-1] + b',"x":"\\ud800"}',
    "a NUL in the name": b'{"username":"alice\\u0000","password":"x"}',
    "a NUL in the password": b'{"username":"alice","password":"\\u0000"}',
    "nested 8000 deep": b"[" * 8000 + b"]" * 8000,
    "objects nested 2700 deep": b'{"a":' * 2700 + b"1" + b"}" * 2700,
    "nested 6000 deep where nobody looks": ALICE[:-1] + b',"x":' + b"[" * 6000 + b"]" * 6000 + b"}",
    "nested and never closed": b"[" * 16000,
    "no password": b'{"username":"alice"}',
    "no name": b'{"password":"x"}',
    "names in capitals": b'{"Username":"alice","Password":"x"}',
    "within another object": b'{"user":' + ALICE + b"}",
}


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES.keys())
def test_a_body_that_is_no_json_object_of_the_form_is_refused(lone: Issued, body: bytes) -> None:
    before = sessions_of(lone.app)
    answer = login(lone.app, body)
    assert status_and_code(answer) == INVALID
    assert "Set-Cookie" not in answer.headers
    assert sessions_of(lone.app) == before


WRONG_TYPES: Final[list[Any]] = [None, 0, 1, -1, 1.5, True, False, [], ["alice"], {}, {"$ne": None}, {"$gt": ""}]


@pytest.mark.parametrize("value", WRONG_TYPES, ids=repr)
@pytest.mark.parametrize("member", ["username", "password"])
def test_a_value_that_is_no_text_is_refused(lone: Issued, member: str, value: Any) -> None:
    answer = login(lone.app, json.dumps(GOOD_LOGIN | {member: value}).encode())
    assert status_and_code(answer) == INVALID
    assert member in code_of(answer)[2]


def test_a_refusal_never_repeats_what_was_sent(lone: Issued) -> None:
    marker = "Tr0ub4dor-and-3"
    bodies = (
        f'{{"username": "{marker}"}}',
        f'{{"username": ["{marker}"], "password": 1}}',
        f'{{"username": "{marker}\\u0000", "password": "{marker}"}}',
        f'{{"username": "{marker}", "password": {{"{marker}": 1}}}}',
        f'{{"username": "alice", "password": "{marker}"',
        marker,
        f'{{"username": "{marker}", "password": "{marker}"}}',
    )
    for body in bodies:
        assert marker not in login(lone.app, body.encode()).get_data(as_text=True)


def test_members_that_we_do_not_know_are_ignored(app: Flask) -> None:
    create_user(app)
    more = {"remember": True, "role": "admin", "__proto__": {"admin": True}, "": None, "big": 10**50, "x": [1.5, {}]}
    assert login(app, json.dumps(GOOD_LOGIN | more).encode()).status_code == 200


def test_of_a_member_that_comes_twice_the_last_one_counts(lone: Issued) -> None:
    # As JSON.parse and every client do; both spellings of one body must not mean two things.
    good = json.dumps(PASSWORD).encode()
    assert login(lone.app, b'{"username":"nobody","username":"alice","password":%s}' % good).status_code == 200
    assert login(lone.app, b'{"username":"alice","username":"nobody","password":%s}' % good).status_code == 401


def test_spaces_around_the_object_do_not_matter(lone: Issued) -> None:
    assert login(lone.app, b" \r\n\t" + ALICE + b"\n").status_code == 200


def test_characters_may_be_escaped(lone: Issued) -> None:
    escaped = "".join(f"\\u{ord(char):04x}" for char in PASSWORD)
    assert login(lone.app, f'{{"\\u0075sername":"alice","password":"{escaped}"}}'.encode()).status_code == 200


def test_a_body_may_have_16_kib_and_not_one_byte_more(lone: Issued) -> None:
    room = LIMIT - len(ALICE[:-1] + b',"x":""}')
    assert login(lone.app, ALICE[:-1] + b',"x":"' + b"y" * room + b'"}').status_code == 200
    answer = login(lone.app, ALICE[:-1] + b',"x":"' + b"y" * (room + 1) + b'"}')
    assert code_of(answer) == (413, "request_too_large", "The request body is larger than 16 KiB.")


BIG: Final = {
    "a name of 1 MB": json.dumps(GOOD_LOGIN | {"username": "a" * 10**6}).encode(),
    "a password of 1 MB": json.dumps(GOOD_LOGIN | {"password": "a" * 10**6}).encode(),
    "a member of 1 MB": json.dumps(GOOD_LOGIN | {"x": "a" * 10**6}).encode(),
    "nested 100000 deep": b"[" * 100_000 + b"]" * 100_000,
    "objects nested 100000 deep": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "a number of 1 MB": b'{"username":' + b"9" * 10**6 + b"}",
}


@pytest.mark.parametrize("body", BIG.values(), ids=BIG.keys())
@pytest.mark.parametrize("path", ["/api/login", "/api/token", "/api/logout"])
def test_a_big_body_is_refused_wherever_it_is_sent(lone: Issued, path: str, body: bytes) -> None:
    answer = client_of(lone.app).post(path, data=body, content_type="application/json")
    assert status_and_code(answer) == (413, "request_too_large")
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize(
    "more",
    [
        {"environ_overrides": {"HTTP_HOST": "localhost,evil.example"}},
        {"environ_overrides": {"HTTP_TRANSFER_ENCODING": "chunked,chunked"}},
        {"environ_overrides": {"CONTENT_LENGTH": "1000", "wsgi.input_terminated": True}},
    ],
    ids=["two hosts", "coded twice", "cut off"],
)
def test_what_a_server_lets_through_though_it_is_ambiguous_is_refused(lone: Issued, more: Mapping[str, Any]) -> None:
    assert login(lone.app, ALICE).status_code == 200
    assert status_and_code(login(lone.app, ALICE, **more)) == (400, "invalid_request")


def test_a_value_too_long_is_refused_before_anything_is_hashed(databases: Databases) -> None:
    # One hash at this cost takes a quarter of a minute.
    app = make_app(databases("sqlite"), TOKENAPP_PASSWORD_MEMORY="262144", TOKENAPP_PASSWORD_PASSES="100")
    began = time.monotonic()
    for member, longest in (("username", 256), ("password", 1024)):
        for value in ("x" * (longest + 1), "é" * (longest // 2 + 1), "\U0001f600" * (longest // 4 + 1)):
            answer = login(app, json.dumps(GOOD_LOGIN | {member: value}).encode())
            assert status_and_code(answer) == INVALID
            assert member in code_of(answer)[2]
    assert time.monotonic() - began < 3


def test_a_value_of_the_greatest_length_is_looked_up(app: Flask) -> None:
    for member, longest in (("username", 256), ("password", 1024)):
        for value in ("x" * longest, "é" * (longest // 2), "\U0001f600" * (longest // 4)):
            answer = login(app, json.dumps(GOOD_LOGIN | {member: value}).encode())
            assert code_of(answer) == (401, "invalid_credentials", "Invalid credentials.")


BLANK_NAMES: Final = ["", " ", "\t", "\u200b", "\u202e", "\x01", "\x7f", "\ufeff", "\ufdfa" * 80, "\U0010ffff"]
CODE_NAMES: Final = ["'; DROP TABLE users; --", "%", "alice%", "' OR ''='", "${jndi:ldap://x}", "{{7*7}}", "../passwd"]


def test_a_strange_name_is_nobody_s(app: Flask) -> None:
    create_user(app)
    for name in (*BLANK_NAMES, *CODE_NAMES):
        answer = login(app, json.dumps({"username": name, "password": PASSWORD}).encode())
        assert code_of(answer) == (401, "invalid_credentials", "Invalid credentials.")


JSON_TYPES: Final = [
    "application/json",
    "APPLICATION/JSON",
    "application/json; charset=utf-8",
    "application/json;charset=UTF-8",
    "application/json ; charset=utf-8",
]


@pytest.mark.parametrize("content_type", JSON_TYPES)
def test_json_is_known_by_its_content_type(lone: Issued, content_type: str) -> None:
    assert login(lone.app, ALICE, content_type).status_code == 200


OTHER_TYPES: Final = [
    None,
    "",
    "text/plain",
    "text/plain; application/json",
    "text/json",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "application/jsonp",
    "application/json5",
    "application/json, text/plain",
    "application/problem+json",
    "application",
    "json",
    "*/*",
    "application/ json",
    "xapplication/json",
]


@pytest.mark.parametrize("content_type", OTHER_TYPES, ids=repr)
def test_another_content_type_is_refused_unread(lone: Issued, content_type: str | None) -> None:
    before = sessions_of(lone.app)
    answer = login(lone.app, ALICE, content_type)
    assert code_of(answer) == (415, "unsupported_media_type", "The request body must be application/json.")
    assert sessions_of(lone.app) == before


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/json", "multipart/form-data; boundary=x"])
def test_routes_without_a_body_look_at_none(app: Flask, content_type: str | None) -> None:
    issued = issue(app)
    cookie = {"Cookie": f"refreshToken={issued.good['refresh']}"}
    for path, status in (("/api/token", 200), ("/api/logout", 204)):
        answer = client_of(app).post(path, data=b'{"x":', content_type=content_type, headers=cookie)
        assert answer.status_code == status


def test_nothing_secret_that_was_sent_is_logged(lone: Issued, capfd: pytest.CaptureFixture[str]) -> None:
    marker = "Tr0ub4dor-and-3"
    client = client_of(lone.app)
    for body in (GOOD_LOGIN | {"password": marker}, {"username": marker, "password": 1}, marker, [marker]):
        client.post(f"/api/login?password={marker}", json=body)
    client.post("/api/token", headers={"Cookie": f"refreshToken={marker}; x={marker}"})
    client.get(f"/api/protected?access_token={marker}", headers={"Authorization": f"Bearer {marker}"})
    client.get("/api/protected", headers={"Authorization": f"Basic {marker}", "X-Request-ID": f"<{marker}>"})
    lone.refresh(lone.with_claims("refresh", jti=marker, gen=9))
    lone.protected(lone.with_claims("access", username=marker))
    lone.logout(cookie=lone.good["access"])
    logged = capfd.readouterr().err
    assert logged.count("\n") > 5
    assert marker not in logged
    assert lone.good["access"] not in logged


# Paths and methods.

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "PROPFIND", "FOO")


def path_of(rule: Rule) -> str:
    """Return a path that `rule` is for."""
    if rule.endpoint == "openapi.page_file":
        return "/docs/start.js"  # one of a few names
    if rule.endpoint == "pages.static_file":
        return "/static/tokenapp.js"  # likewise
    return rule.rule if not rule.arguments else "".join("x" if dynamic else text for dynamic, text in rule._trace)


def allowed_by_path(app: Flask) -> Mapping[str, set[str]]:
    """Return for each path the methods that it answers."""
    paths: dict[str, set[str]] = {}
    for rule in app.url_map.iter_rules():
        paths.setdefault(path_of(rule).lstrip("|"), set()).update(rule.methods or ())
    return paths


def test_a_method_that_a_route_does_not_have_is_refused_with_those_that_it_has(lone: Issued) -> None:
    for path, allowed in allowed_by_path(lone.app).items():
        for method in set(METHODS) - allowed:
            answer = client_of(lone.app).open(path, method=method)
            assert answer.status_code == 405
            assert set(answer.headers["Allow"].split(", ")) == allowed
            assert answer.mimetype == "application/problem+json"
            if method != "HEAD":
                assert code_of(answer) == (405, "method_not_allowed", "This path does not answer that method.")


def test_the_four_routes_are_there() -> None:
    app = make_app("sqlite:////nonexistent/never-opened.db")
    paths = allowed_by_path(app)
    assert paths["/api/login"] == paths["/api/token"] == paths["/api/logout"] == {"POST", "OPTIONS"}
    assert paths["/api/protected"] == {"GET", "HEAD", "OPTIONS"}


def test_options_lists_the_methods_and_does_nothing_else(lone: Issued) -> None:
    before = sessions_of(lone.app)
    headers = {"Cookie": f"refreshToken={lone.good['refresh']}", "Origin": "https://evil.example"}
    for path, allowed in allowed_by_path(lone.app).items():
        answer = client_of(lone.app).options(path, headers=headers)
        assert answer.status_code == 200
        assert set(answer.headers["Allow"].split(", ")) == allowed
        assert not answer.data
        assert "Set-Cookie" not in answer.headers
        assert not [name for name in answer.headers.keys() if name.startswith("Access-Control-")]  # noqa: SIM118 -- headers are no dict
    assert sessions_of(lone.app) == before


def test_head_answers_as_get_does_without_the_body(lone: Issued) -> None:
    for token, status in ((lone.good["access"], 200), ("bad", 403)):
        headers = {"Authorization": f"Bearer {token}", "X-Request-ID": "same"}
        got = client_of(lone.app).get("/api/protected", headers=headers)
        head = client_of(lone.app).head("/api/protected", headers=headers)
        assert head.status_code == got.status_code == status
        assert dict(head.headers) == dict(got.headers)
        assert not head.data


PATHS: Final = [
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


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path[:30])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_unknown_path_is_not_found_and_never_redirected(lone: Issued, path: str, method: str) -> None:
    answer = client_of(lone.app).open(path, method=method, headers={"Host": "evil.example"})
    assert code_of(answer) == (404, "not_found", "There is nothing at this path.")
    assert "Location" not in answer.headers
    assert "script" not in answer.get_data(as_text=True)


OVERRIDES: Final = ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Http-Method-Override"]


@pytest.mark.parametrize("header", OVERRIDES)
def test_a_method_override_is_ignored(lone: Issued, header: str) -> None:
    client = client_of(lone.app)
    for query in ("", "?_method=GET", "?_method=POST"):
        assert client.get("/api/token" + query, headers={header: "POST"}).status_code == 405
        assert client.post("/api/protected" + query, headers={header: "GET"}).status_code == 405
        assert client.post("/api/token" + query, headers={header: "DELETE"}).status_code == 401
    assert client.post("/api/protected", data={"_method": "GET"}).status_code == 405


@pytest.mark.parametrize("header", ["X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Prefix", "X-Script-Name"])
def test_a_path_in_a_header_is_ignored(lone: Issued, header: str) -> None:
    assert client_of(lone.app).get("/nothing", headers={header: "/healthz"}).status_code == 404
    assert client_of(lone.app).get("/healthz", headers={header: "/nothing"}).status_code == 200


# Cookies.


def two_sessions(app: Flask) -> tuple[Issued, Issued]:
    """Sign two users in."""
    return issue(app, "alice"), issue(app, "robert")


def test_two_refresh_cookies_are_refused_and_change_nothing(app: Flask) -> None:
    one, two = (each.good["refresh"] for each in two_sessions(app))
    before = sessions_of(app)
    for first, second in ((one, two), (two, one), (one, one), (one, ""), ("", one), (one, "x"), ("x", one)):
        cookies = {"Cookie": f"refreshToken={first}; refreshToken={second}"}
        answer = client_of(app).post("/api/token", headers=cookies)
        assert code_of(answer) == BAD_REFRESH
        assert "Set-Cookie" not in answer.headers
        answer = client_of(app).post("/api/login", json=GOOD_LOGIN, headers=cookies)
        assert status_and_code(answer) == INVALID
        assert "Set-Cookie" not in answer.headers
    assert sessions_of(app) == before


def test_signing_out_with_two_refresh_cookies_ends_both_sessions(app: Flask) -> None:
    one, two = two_sessions(app)
    cookies = {"Cookie": f"refreshToken={one.good['refresh']}; a=b; refreshToken={two.good['refresh']}"}
    assert client_of(app).post("/api/logout", headers=cookies).status_code == 204
    assert code_of(one.refresh(one.good["refresh"])) == BAD_REFRESH
    assert code_of(two.refresh(two.good["refresh"])) == BAD_REFRESH


@pytest.mark.parametrize("name", ["RefreshToken", "refreshtoken", "__Host-refreshToken", "__Secure-refreshToken", "x"])
def test_a_cookie_of_another_name_is_not_looked_at(lone: Issued, name: str) -> None:
    answer = client_of(lone.app).post("/api/token", headers={"Cookie": f"{name}={lone.good['refresh']}"})
    assert code_of(answer) == (401, "refresh_token_missing", "Refresh token not found.")


COOKIES: Final = [
    "",
    ";",
    "refreshToken",
    "refreshToken=",
    "refreshToken=;",
    '="x"',
    "=",
    "a=b; refreshToken= ;",
    "\xff",
]


@pytest.mark.parametrize("header", COOKIES, ids=repr)
def test_an_empty_cookie_is_none(lone: Issued, header: str) -> None:
    answer = client_of(lone.app).post("/api/token", headers={"Cookie": header})
    assert code_of(answer) == (401, "refresh_token_missing", "Refresh token not found.")


def test_other_cookies_do_not_matter(lone: Issued) -> None:
    header = f"a=1; a=2; theme=dark; refreshToken={lone.good['refresh']}; session=x; b"
    assert client_of(lone.app).post("/api/token", headers={"Cookie": header}).status_code == 200


def test_a_token_anywhere_but_in_the_cookie_is_no_refresh_token(lone: Issued) -> None:
    token = lone.good["refresh"]
    client = client_of(lone.app)
    missing = (401, "refresh_token_missing", "Refresh token not found.")
    assert code_of(client.post("/api/token", headers={"Authorization": f"Bearer {token}"})) == missing
    assert code_of(client.post("/api/token", json={"refreshToken": token, "refresh_token": token})) == missing
    assert code_of(client.post("/api/token", data={"refreshToken": token})) == missing
    assert code_of(client.post("/api/token", query_string={"refreshToken": token, "jwt": token})) == missing
    assert code_of(client.post("/api/token", headers={"X-Refresh-Token": token})) == missing


def test_a_token_anywhere_but_in_the_header_is_no_access_token(lone: Issued) -> None:
    token = lone.good["access"]
    client = client_of(lone.app)
    missing = (401, "access_token_missing", "Access token required.")
    names = ("access_token", "accessToken", "access_token_cookie", "jwt", "token", "refreshToken")
    cookies = "; ".join(f"{name}={token}" for name in names)
    assert code_of(client.get("/api/protected", query_string=dict.fromkeys(names, token))) == missing
    assert code_of(client.get("/api/protected", headers={"Cookie": cookies})) == missing
    assert code_of(client.get("/api/protected", json=dict.fromkeys(names, token))) == missing
    assert code_of(client.get("/api/protected", data=dict.fromkeys(names, token))) == missing
    assert code_of(client.get("/api/protected", headers={"X-Access-Token": token})) == missing


# Credentials.


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEARER", "Bearer ", "Bearer    ", " Bearer"])
def test_the_scheme_is_known_in_any_case_and_before_any_spaces(lone: Issued, scheme: str) -> None:
    for behind in ("", " ", "   ", "\t"):
        header = {"Authorization": f"{scheme} {lone.good['access']}{behind}"}
        assert client_of(lone.app).get("/api/protected", headers=header).status_code == 200


NO_BEARER: Final = [
    "",
    " ",
    ",",
    ", ,",
    " , , ",
    "Bearer",
    "bearer ",
    "Bearer  ",
    "Basic YWxpY2U6eA==",
    "Basic",
    "Digest username=x, realm=y, nonce=z",
    "Negotiate TOKEN",
    "Token TOKEN",
    "JWT TOKEN",
    "DPoP TOKEN",
    "Bearer: TOKEN",
    "BearerTOKEN",
    "Bearer\tTOKEN",
    "Bearer\xa0TOKEN",
    "\xa0Bearer TOKEN",
    "TOKEN",
    ",Bearer TOKEN",
    "x=y, Bearer TOKEN",
    '"Bearer" TOKEN',
    "Bearer=TOKEN",
    "\x00",
    "\xff",
]


@pytest.mark.parametrize("header", NO_BEARER, ids=repr)
def test_another_scheme_is_no_bearer_token(lone: Issued, header: str) -> None:
    header = header.replace("TOKEN", lone.good["access"])
    answer = client_of(lone.app).get("/api/protected", headers={"Authorization": header})
    assert code_of(answer) == (401, "access_token_missing", "Access token required.")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="tokenapp-api"'


BAD_BEARER: Final = [
    "Bearer null",
    "Bearer undefined",
    "Bearer TOKEN,",
    "Bearer TOKEN x",
    "Bearer TOKEN;",
    "Bearer TOKEN\xa0",
    "Bearer TOKEN\x85",
    "Bearer TOKEN\x0b",
    "Bearer \x0bTOKEN",
    "Bearer \x00",
    "Bearer \xff",
    'Bearer "TOKEN"',
    "Bearer <TOKEN>",
    "Bearer token=TOKEN",
    "Bearer Bearer TOKEN",
    "Bearer ,",
    "Bearer =",
    "Bearer ..",
    "Bearer Basic",
]


@pytest.mark.parametrize("header", BAD_BEARER, ids=repr)
def test_a_bearer_token_that_is_malformed_is_invalid(lone: Issued, header: str) -> None:
    header = header.replace("TOKEN", lone.good["access"])
    answer = client_of(lone.app).get("/api/protected", headers={"Authorization": header})
    assert code_of(answer) == (403, "access_token_invalid", "Access token invalid or expired.")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="tokenapp-api", error="invalid_token"'


TWO_CREDENTIALS: Final = [
    "Bearer TOKEN, Bearer TOKEN",
    "Bearer TOKEN,Bearer x",
    "Bearer x, bearer TOKEN",
    "Basic YWxpY2U6eA==, Bearer TOKEN",
    "Bearer TOKEN, Basic YWxpY2U6eA==",
    "Bearer TOKEN, Digest username=x",
    "Bearer a, Bearer b, Bearer c",
]


@pytest.mark.parametrize("header", TWO_CREDENTIALS)
def test_two_credentials_are_a_malformed_request(lone: Issued, header: str) -> None:
    header = header.replace("TOKEN", lone.good["access"])
    answer = client_of(lone.app).get("/api/protected", headers={"Authorization": header})
    assert status_and_code(answer) == INVALID


@pytest.mark.parametrize("header", [*NO_BEARER, *BAD_BEARER, *TWO_CREDENTIALS], ids=repr)
def test_signing_out_with_bad_credentials_says_nothing_and_ends_nothing(lone: Issued, header: str) -> None:
    before = sessions_of(lone.app)
    header = header.replace("TOKEN", lone.good["access"])
    answer = client_of(lone.app).post("/api/logout", headers={"Authorization": header})
    assert answer.status_code == 204
    assert sessions_of(lone.app) == before


def test_a_bad_access_token_can_be_answered_as_rfc_6750_has_it(databases: Databases) -> None:
    app = make_app(databases("sqlite"), TOKENAPP_INVALID_TOKEN_STATUS="401")
    answer = client_of(app).get("/api/protected", headers={"Authorization": "Bearer bad"})
    assert code_of(answer) == (401, "access_token_invalid", "Access token invalid or expired.")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="tokenapp-api", error="invalid_token"'


# Other sites.

OURS: Final = "http://localhost:3005"
LISTED: Final = "https://app.example.com"
SERVED: Final[list[tuple[str | None, str | None]]] = [
    (None, None),
    ("same-origin", None),
    ("same-origin", OURS),
    ("SAME-ORIGIN", OURS),
    ("none", None),
    (None, OURS),
    (None, OURS.upper()),
    (None, "http://localhost"),  # the name by which the test client calls us
    (None, LISTED),
    (None, "http://localhost:5173"),
    ("cross-site", LISTED),
    ("same-site", LISTED),
    ("same-origin", "https://proxied.example"),
]
REFUSED: Final[list[tuple[str | None, str | None]]] = [
    ("cross-site", None),
    ("same-site", None),
    ("cross-site", OURS),
    ("same-site", OURS),
    ("cross-site", "https://evil.example"),
    ("", None),
    ("", OURS),
    ("bogus", None),
    ("same-origin, cross-site", None),
    ("same-origin ,none", OURS),
    (None, "https://evil.example"),
    (None, "null"),
    (None, ""),
    (None, "*"),
    (None, "file://"),
    (None, "https://localhost:3005"),
    (None, "http://localhost:3006"),
    (None, "http://localhost:3005/"),
    (None, "http://localhost:3005.evil.example"),
    (None, "http://evil.example/http://localhost:3005"),
    (None, "http://user@localhost:3005"),
    (None, f"{OURS}, https://evil.example"),
    (None, f"{OURS} https://evil.example"),
    (None, "http://app.example.com"),
    (None, "https://app.example.com:444"),
    (None, "https://sub.app.example.com"),
    (None, "https://app.example.com.evil.example"),
    (None, "https://evilapp.example.com"),
    (None, "\xff"),
]


def browser(site: str | None, origin: str | None) -> dict[str, str]:
    """Return the headers by which a browser says where a request comes from."""
    headers = {"Sec-Fetch-Site": site, "Origin": origin}
    return {name: value for name, value in headers.items() if value is not None}


@pytest.mark.parametrize(("site", "origin"), SERVED)
def test_our_own_pages_listed_pages_and_no_browsers_are_served(
    lone: Issued, site: str | None, origin: str | None
) -> None:
    client, headers = client_of(lone.app), browser(site, origin)
    cookie = {"Cookie": f"refreshToken={lone.good['refresh']}"}
    assert client.post("/api/token", headers=headers | cookie).status_code == 200
    assert client.post("/api/logout", headers=headers).status_code == 204
    assert client.post("/api/login", json=GOOD_LOGIN, headers=headers).status_code == 200


@pytest.mark.parametrize(("site", "origin"), REFUSED)
def test_a_page_of_another_site_is_refused_and_changes_nothing(
    lone: Issued, site: str | None, origin: str | None
) -> None:
    before = sessions_of(lone.app)
    client, headers = client_of(lone.app), browser(site, origin)
    headers["Cookie"] = f"refreshToken={lone.good['refresh']}"
    for path in ("/api/token", "/api/logout", "/api/login"):
        answer = client.post(path, json=GOOD_LOGIN, headers=headers)
        assert code_of(answer) == (403, "cross_site_request", "Requests from other sites are refused.")
        assert "Set-Cookie" not in answer.headers
    assert sessions_of(lone.app) == before


def test_a_bearer_token_is_good_from_any_site(lone: Issued) -> None:
    for site, origin in REFUSED:
        headers = browser(site, origin) | {"Authorization": f"Bearer {lone.good['access']}"}
        assert client_of(lone.app).get("/api/protected", headers=headers).status_code == 200


def production(url: str, **settings: str) -> Flask:
    """Make the application as it would run in production."""
    strict = {"TOKENAPP_ENV": "production", "TOKENAPP_ISSUER": "https://auth.example.com"}
    costs = {"TOKENAPP_PASSWORD_MEMORY": "19456", "TOKENAPP_PASSWORD_PASSES": "2"}
    return make_app(url, **strict, **costs, SECRET_KEY=secrets.token_urlsafe(48), **settings)


def test_in_production_no_host_header_makes_an_origin_ours(databases: Databases) -> None:
    client = client_of(production(databases("sqlite")))
    for host in ("evil.example", "evil.example:8080", "10.0.0.1"):
        for scheme in ("http", "https"):
            headers = {"Host": host, "Origin": f"{scheme}://{host}", "X-Forwarded-Host": host}
            answer = client.post("/api/logout", headers=headers, base_url=f"{scheme}://{host}")
            assert status_and_code(answer) == (403, "cross_site_request")
    for host in ("auth.example.com", "backend:3005"):
        headers = {"Host": host, "Origin": "https://auth.example.com"}
        assert client.post("/api/logout", headers=headers).status_code == 204


def test_in_development_the_name_we_are_called_by_is_ours(lone: Issued) -> None:
    headers = {"Host": "127.0.0.1:3005", "Origin": "http://127.0.0.1:3005"}
    assert client_of(lone.app).post("/api/logout", headers=headers).status_code == 204


# Hosts.

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


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: repr(host[:30]))
def test_a_foreign_host_is_never_repeated_in_an_answer(lone: Issued, host: str) -> None:
    headers = {"Host": host, "X-Forwarded-Host": "evil.example", "Forwarded": "host=evil.example;proto=https"}
    headers["X-Forwarded-Proto"] = "https"
    requests = [("POST", "/api/login"), ("POST", "/api/token"), ("POST", "/api/logout"), ("GET", "/api/protected")]
    for method, path in (*requests, ("GET", "/nothing"), ("GET", "/api//token"), ("OPTIONS", "/api/login")):
        answer = client_of(lone.app).open(path, method=method, json=GOOD_LOGIN, headers=headers)
        assert answer.status_code < 500
        assert answer.status_code // 100 != 3
        text = answer.get_data(as_text=True) + str(answer.headers)
        assert "evil" not in text
        assert "script" not in text


# Addresses.

ADDRESSES: Final = {
    "no proxy": ("", "198.51.100.7", None, "198.51.100.7"),
    "a spoofed header without proxies": ("", "198.51.100.7", "203.0.113.9", "198.51.100.7"),
    "loopback is no proxy by itself": ("", "127.0.0.1", "203.0.113.9", "127.0.0.1"),
    "a trusted proxy": ("10.0.0.0/8", "10.0.0.1", "203.0.113.9", "203.0.113.9"),
    "a peer that is no proxy": ("10.0.0.0/8", "198.51.100.7", "203.0.113.9", "198.51.100.7"),
    "a client that spoofs behind a proxy": ("10.0.0.1", "10.0.0.1", "1.1.1.1, 203.0.113.9", "203.0.113.9"),
    "a client that names a proxy": ("10.0.0.1", "10.0.0.1", "1.1.1.1, 10.0.0.1, 203.0.113.9", "203.0.113.9"),
    "two trusted proxies": ("10.0.0.0/8", "10.0.0.1", "203.0.113.9, 10.0.0.2", "203.0.113.9"),
    "only proxies": ("10.0.0.0/8", "10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
    "an empty header": ("10.0.0.0/8", "10.0.0.1", "", "10.0.0.1"),
    "no address in the header": ("10.0.0.0/8", "10.0.0.1", "unknown", "10.0.0.1"),
    "no address in the middle": ("10.0.0.0/8", "10.0.0.1", "203.0.113.9, x, 10.0.0.2", "10.0.0.2"),
    "a port behind the address": ("10.0.0.0/8", "10.0.0.1", "203.0.113.9:80", "10.0.0.1"),
    "SQL in the header": ("10.0.0.0/8", "10.0.0.1", "'; DROP TABLE sessions; --", "10.0.0.1"),
    "a header of 8 kB": ("10.0.0.0/8", "10.0.0.1", "x" * 8000, "10.0.0.1"),
    "a thousand addresses": ("10.0.0.0/8", "10.0.0.1", ", ".join(["203.0.113.9"] * 1000), "203.0.113.9"),
    "IPv6": ("2001:db8::/32", "2001:db8::1", "2001:db9::9", "2001:db9::9"),
    "IPv6 written at length": ("::1", "::1", "2001:0DB9:0:0:0:0:0:9", "2001:db9::9"),
    "IPv6 with a zone": ("10.0.0.0/8", "10.0.0.1", "fe80::1%" + "z" * 300, "fe80::1"),
    "IPv4 proxy, IPv6 client": ("10.0.0.1", "10.0.0.1", "2001:db9::9", "2001:db9::9"),
    "the unix socket of a proxy": ("", "", "203.0.113.9", None),
}


@pytest.mark.parametrize(("trusted", "peer", "header", "recorded"), ADDRESSES.values(), ids=ADDRESSES.keys())
def test_the_address_recorded_is_one_that_somebody_trusted_vouches_for(
    database_url: str, trusted: str, peer: str, header: str | None, recorded: str | None
) -> None:
    app = make_app(database_url, TOKENAPP_TRUSTED_PROXIES=trusted)
    create_user(app)
    headers = {} if header is None else {"X-Forwarded-For": header, "X-Real-IP": "1.1.1.1", "Forwarded": "for=1.1.1.1"}
    answer = login(app, ALICE, headers=headers, environ_base={"REMOTE_ADDR": peer})
    assert answer.status_code == 200
    with app.app_context():
        addresses = db.execute_now(sa.select(Session.ip_address))
        db.db.engine.dispose()
    assert [row[0] for row in addresses] == [recorded]


AGENTS: Final = ["", "curl/8", "x" * 8000, "a\tb", "\x01\x7f", "é\xff", "<script>", "'; DROP TABLE sessions; --"]


def test_any_user_agent_can_be_recorded(app: Flask) -> None:
    create_user(app)
    for agent in AGENTS:
        assert login(app, ALICE, headers={"User-Agent": agent}).status_code == 200
    recorded = [row[-1] or "" for row in sessions_of(app)]
    assert max(map(len, recorded)) == 256
    assert all(agent.isprintable() or "\xff" in agent for agent in recorded)


# What every answer has.

GOOD_IDS: Final = ["a", "0123456789abcdef", "A-Z_a.z~+/=", "x" * 128]
BAD_IDS: Final = ["", " ", "a b", "x" * 129, "é", "<script>", "a;b", '"', "a\tb", "a,b", "%0d%0a", "\xff"]


@pytest.mark.parametrize("given", GOOD_IDS)
def test_a_request_id_is_given_back(lone: Issued, given: str) -> None:
    answer = client_of(lone.app).get("/nothing", headers={"X-Request-ID": given})
    assert answer.headers["X-Request-ID"] == answer.get_json()["requestId"] == given


@pytest.mark.parametrize("given", BAD_IDS, ids=repr)
def test_a_request_id_that_is_none_is_replaced(lone: Issued, given: str) -> None:
    seen = set()
    for _ in range(2):
        answer = client_of(lone.app).get("/nothing", headers={"X-Request-ID": given})
        assert answer.headers["X-Request-ID"] == answer.get_json()["requestId"]
        seen.add(answer.headers["X-Request-ID"])
    assert len(seen) == 2
    assert given not in seen


def every_refusal(lone: Issued) -> Iterator[tuple[str, TestResponse]]:
    """Give one refusal of each kind that a request alone can bring about, with its code."""
    client = client_of(lone.app)
    cookie = {"Cookie": f"refreshToken={lone.good['refresh']}"}
    yield "invalid_request", login(lone.app, b"{}")
    yield "invalid_request", client.post("/api/login", json=GOOD_LOGIN, headers={"Host": "x" * 300})
    yield "unsupported_media_type", login(lone.app, ALICE, "text/plain")
    yield "request_too_large", login(lone.app, b" " * (LIMIT + 1))
    yield "invalid_credentials", login(lone.app, json.dumps(GOOD_LOGIN | {"password": "x"}).encode())
    yield "refresh_token_missing", client.post("/api/token")
    yield "refresh_token_revoked", lone.refresh("bad")
    yield "refresh_token_expired", lone.refresh(lone.with_claims("refresh", iat=1, exp=2))
    yield "access_token_missing", client.get("/api/protected")
    yield "access_token_invalid", lone.protected("bad")
    yield "cross_site_request", client.post("/api/token", headers=cookie | {"Sec-Fetch-Site": "cross-site"})
    yield "not_found", client.get("/api/nothing")
    yield "method_not_allowed", client.get("/api/token", headers=cookie)


def test_every_refusal_is_a_problem_with_all_its_members(lone: Issued) -> None:
    for code, answer in every_refusal(lone):
        assert answer.content_type == "application/problem+json"
        problem = answer.get_json()
        assert set(problem) == {"type", "title", "status", "detail", "code", "message", "requestId"}
        assert problem["code"] == code
        assert problem["status"] == answer.status_code >= 400
        assert problem["detail"] == problem["message"]
        assert problem["type"].endswith(code)
        assert problem["title"].lower().replace(" ", "_") == code
        assert problem["requestId"] == answer.headers["X-Request-ID"]


def test_no_answer_of_ours_is_stored_on_the_way(lone: Issued) -> None:
    good = [lone.refresh(lone.good["refresh"]), lone.protected(lone.good["access"]), login(lone.app, ALICE)]
    for answer in (*good, lone.logout(), *(refusal for _, refusal in every_refusal(lone))):
        assert answer.headers["Cache-Control"] == "no-store"


def test_no_refusal_takes_the_refresh_cookie_away(lone: Issued) -> None:
    for _, answer in every_refusal(lone):
        assert "Set-Cookie" not in answer.headers


def test_while_the_database_is_gone_the_answer_is_503_and_the_cookie_stays(app: Flask) -> None:
    issued = issue(app)
    with app.app_context():
        db.execute_now(sa.text("ALTER TABLE sessions RENAME TO elsewhere"))
    for answer in (issued.refresh(issued.good["refresh"]), issued.logout(cookie=issued.good["refresh"])):
        assert status_and_code(answer) == (503, "service_unavailable")
        assert int(answer.headers["Retry-After"]) > 0
        assert "Set-Cookie" not in answer.headers
        assert answer.headers["Cache-Control"] == "no-store"
    with app.app_context():
        db.execute_now(sa.text("ALTER TABLE elsewhere RENAME TO sessions"))
    assert issued.refresh(issued.good["refresh"]).status_code == 200


def test_a_fault_of_ours_is_a_problem_that_tells_nothing(databases: Databases) -> None:
    app = make_app(databases("sqlite"))

    def broken() -> Response:
        message = "a secret of the inside"
        raise RuntimeError(message)

    app.add_url_rule("/api/broken", view_func=broken)
    answer = client_of(app).get("/api/broken")
    assert code_of(answer) == (500, "internal_error", "Something went wrong on our side.")
    assert "inside" not in answer.get_data(as_text=True)
    assert "Traceback" not in answer.get_data(as_text=True)
    assert answer.headers["Cache-Control"] == "no-store"
