"""What signed-in people may do with their own account and devices, and that nobody else may."""

import json
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any

import pytest
import sqlalchemy as sa
import time_machine
from flask import Flask
from werkzeug.test import TestResponse

from tests.conftest import Databases, Servers
from tests.support.app import PASSWORD, create_user, make_app
from tests.support.client import Client
from tokenapp import accounts, db
from tokenapp.models import AuditEvent, Session, Throttle, User
from tokenapp.sessions import device_names

NEW = "an entirely new one 42"
WRONG = "not the password at all"
START = datetime(2031, 5, 6, 7, 8, 0, tzinfo=UTC)
SETTINGS = {"TOKENAPP_ADDRESS_FAILURES": "100000"}


@pytest.fixture
def app(database_url: str) -> Iterator[Flask]:
    """Give the application with two users."""
    app = make_app(database_url, **SETTINGS)
    create_user(app, "alice")
    create_user(app, "bob")
    yield app
    with app.app_context():
        db.db.engine.dispose()


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    """Stop the clock; the test moves it on."""
    with time_machine.travel(START, tick=False) as traveller:
        yield traveller


@dataclass
class Device:
    """A signed-in browser, whose refresh cookie its client keeps."""

    app: Flask
    username: str = "alice"
    password: str = PASSWORD
    agent: str = "curl/8.5.0"
    token: str = field(init=False)

    def __post_init__(self) -> None:
        self.client = self.app.test_client()
        body = {"username": self.username, "password": self.password}
        reply = self.client.post("/api/login", json=body, headers={"User-Agent": self.agent})
        assert reply.status_code == 200
        self.token = (reply.json or {})["accessToken"]

    @property
    def sid(self) -> str:
        """The id of its session."""
        return next(str(item["id"]) for item in self.devices() if item["current"])

    def send(self, method: str, path: str, body: Any = None, **more: Any) -> TestResponse:
        """Send a request with the access token."""
        headers = {"Authorization": f"Bearer {self.token}", **more.pop("headers", {})}
        return self.client.open(path, method=method, json=body, headers=headers, **more)

    def devices(self) -> list[dict[str, Any]]:
        """List the account's devices."""
        return list((self.send("GET", "/api/sessions").json or {})["items"])

    def refresh(self) -> int:
        """Refresh, and use the new access token from now on; return the status."""
        reply = self.client.post("/api/token")
        if reply.status_code == 200:
            self.token = (reply.json or {})["accessToken"]
        return reply.status_code

    @property
    def signed_in(self) -> bool:
        """Whether the session is live."""
        return self.refresh() == 200


def code(reply: TestResponse) -> tuple[int, str]:
    return reply.status_code, (reply.json or {}).get("code", "")


def change(device: Device, current: Any = PASSWORD, new: Any = NEW) -> TestResponse:
    return device.send("PUT", "/api/me/password", {"currentPassword": current, "newPassword": new})


def apart_from_request_id(reply: TestResponse) -> tuple[int, dict[str, str], dict[str, Any]]:
    body = json.loads(reply.data)
    assert body.pop("requestId")
    return reply.status_code, {name: value for name, value in reply.headers if name != "X-Request-ID"}, body


def failures(app: Flask) -> int:
    with app.app_context():
        rows = db.execute_now(sa.select(Throttle.failures))
    return sum(row[0] for row in rows)


def sign_in(app: Flask, password: str, username: str = "alice") -> int:
    body = {"username": username, "password": password}
    return app.test_client().post("/api/login", json=body).status_code


# Every route


ROUTES = {
    "me": ("GET", "/api/me", None),
    "password": ("PUT", "/api/me/password", {"currentPassword": PASSWORD, "newPassword": NEW}),
    "list": ("GET", "/api/sessions", None),
    "end one": ("DELETE", "/api/sessions/{sid}", None),
    "end all": ("DELETE", "/api/sessions", None),
    "end others": ("DELETE", "/api/sessions?keep=current", None),
    "reauthenticate": ("POST", "/api/reauthenticate", {"password": PASSWORD}),
}
Route = tuple[str, str, Any]
on_one_database = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
every_route = pytest.mark.parametrize("route", ROUTES.values(), ids=ROUTES)


def call(device: Device, route: Route, sid: str = "", **more: Any) -> TestResponse:
    method, path, body = route
    return device.send(method, path.format(sid=sid), body, **more)


@every_route
def test_a_route_wants_a_token(app: Flask, route: Route) -> None:
    device = Device(app)
    reply = call(device, route, device.sid, headers={"Authorization": ""})
    assert code(reply) == (401, "access_token_missing")
    assert reply.headers["WWW-Authenticate"] == 'Bearer realm="tokenapp-api"'
    assert (device.signed_in, sign_in(app, PASSWORD)) == (True, 200)


@every_route
def test_a_route_wants_a_good_token(app: Flask, route: Route) -> None:
    device = Device(app)
    reply = call(device, route, device.sid, headers={"Authorization": f"Bearer {device.token[:-4]}AAAA"})
    assert code(reply) == (403, "access_token_invalid")
    assert reply.headers["WWW-Authenticate"] == 'Bearer realm="tokenapp-api", error="invalid_token"'
    assert (device.signed_in, sign_in(app, PASSWORD)) == (True, 200)


@every_route
def test_the_refresh_cookie_alone_opens_nothing(app: Flask, route: Route) -> None:
    device = Device(app)
    sid = device.sid
    device.token = next(iter(device.client.get_cookie("refreshToken").value for _ in "x"))  # type: ignore[union-attr]  # it has the cookie
    assert code(call(device, route, sid)) == (403, "access_token_invalid")
    assert device.client.open(route[1].format(sid=sid), method=route[0], json=route[2]).status_code == 401


@every_route
def test_a_token_of_an_ended_session_opens_nothing(app: Flask, route: Route, clock: time_machine.Traveller) -> None:
    device, other = Device(app), Device(app)
    sid = other.sid
    assert device.send("POST", "/api/logout").status_code == 204
    clock.shift(2)
    assert code(call(device, route, sid)) == (403, "access_token_invalid")
    assert other.signed_in


@pytest.mark.parametrize("name", ["me", "password", "reauthenticate"])
@pytest.mark.parametrize("status", [401, 403])
def test_a_token_of_a_disabled_user_opens_nothing_at_once(
    database_url: str, app: Flask, name: str, status: int
) -> None:
    patient = make_app(
        database_url, TOKENAPP_REVOCATION_DELAY="60", TOKENAPP_INVALID_TOKEN_STATUS=str(status), **SETTINGS
    )
    device = Device(patient)
    assert device.send("GET", "/api/me").status_code == 200
    with app.app_context():
        accounts.disable(accounts.find("alice"), datetime.now(UTC))
    reply = call(device, ROUTES[name])
    assert code(reply) == (status, "access_token_invalid")
    assert reply.headers["WWW-Authenticate"] == 'Bearer realm="tokenapp-api", error="invalid_token"'
    with patient.app_context():
        db.db.engine.dispose()


@pytest.mark.parametrize("name", ["me", "password", "reauthenticate"])
def test_a_token_of_a_deleted_user_opens_nothing(app: Flask, name: str) -> None:
    device = Device(app)
    with app.app_context(), db.writing() as writer:
        writer.execute(sa.delete(Session))
        writer.execute(sa.delete(User).where(User.username == "alice"))
    assert code(call(device, ROUTES[name])) == (403, "access_token_invalid")
    assert failures(app) == 0


@pytest.mark.parametrize("name", ["password", "reauthenticate"])
def test_a_token_is_not_good_for_another_person_of_the_same_name(app: Flask, name: str) -> None:
    device = Device(app)
    with app.app_context(), db.writing() as writer:
        writer.execute(sa.delete(Session))
        writer.execute(sa.delete(User).where(User.username == "alice"))
    create_user(app, "alice")
    assert code(call(device, ROUTES[name])) == (403, "access_token_invalid")
    assert sign_in(app, PASSWORD) == 200


@on_one_database
@every_route
def test_nothing_of_an_account_may_be_stored_by_caches(app: Flask, route: Route) -> None:
    device = Device(app)
    assert call(device, route, device.sid).headers["Cache-Control"] == "no-store"


@on_one_database
def test_paths_answer_other_methods_with_those_they_have(app: Flask) -> None:
    for path, allowed in {"/api/me": "GET", "/api/me/password": "PUT", "/api/reauthenticate": "POST"}.items():
        reply = app.test_client().patch(path)
        assert reply.status_code == 405
        assert allowed in reply.headers["Allow"]


BODIES: dict[str, tuple[int, dict[str, Any]]] = {
    "nothing": (415, {}),
    "empty": (400, {"data": b"", "content_type": "application/json"}),
    "null": (400, {"data": b"null", "content_type": "application/json"}),
    "a list": (400, {"data": b"[]", "content_type": "application/json"}),
    "a text": (400, {"data": b'"x"', "content_type": "application/json"}),
    "not a number": (400, {"data": b"NaN", "content_type": "application/json"}),
    "deep": (400, {"data": b'{"password":' + b"[" * 5000, "content_type": "application/json"}),
    "bad UTF-8": (400, {"data": b'{"password":"\xff"}', "content_type": "application/json"}),
    "large": (413, {"data": b"x" * 16385, "content_type": "application/json"}),
    "a form": (415, {"data": {"password": PASSWORD}}),
    "another type": (415, {"data": b"{}", "content_type": "text/plain"}),
}
VALUES: dict[str, Any] = {
    "missing": ...,
    "null": None,
    "a number": 1,
    "a list": [PASSWORD],
    "an object": {"a": PASSWORD},
    "NUL": PASSWORD + "\x00",
    "long": "x" * 1025,
    "long in bytes": "\u00e9" * 513,
}
PASSWORD_ROUTES = {
    "currentPassword": ("PUT", "/api/me/password", {"currentPassword": PASSWORD, "newPassword": NEW}),
    "newPassword": ("PUT", "/api/me/password", {"currentPassword": PASSWORD, "newPassword": NEW}),
    "password": ("POST", "/api/reauthenticate", {"password": PASSWORD}),
}


@on_one_database
@pytest.mark.parametrize(("status", "body"), BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("name", ["password", "reauthenticate"])
def test_a_hostile_body_gets_its_one_answer(app: Flask, name: str, status: int, body: Mapping[str, Any]) -> None:
    device = Device(app)
    method, path, _ = ROUTES[name]
    headers = {"Authorization": f"Bearer {device.token}"}
    assert device.client.open(path, method=method, headers=headers, **body).status_code == status
    assert (failures(app), sign_in(app, PASSWORD)) == (0, 200)


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize(("member", "route"), PASSWORD_ROUTES.items())
def test_a_hostile_value_is_refused_before_any_hashing(app: Flask, member: str, route: Route, value: Any) -> None:
    device = Device(app)
    method, path, good = route
    body = {name: text for name, text in {**good, member: value}.items() if text is not ...}
    reply = device.send(method, path, body)
    overlong_new_password = member == "newPassword" and isinstance(value, str) and "\x00" not in value
    assert code(reply) == (400, "password_rejected" if overlong_new_password else "invalid_request")
    assert (failures(app), sign_in(app, PASSWORD)) == (0, 200)


def test_a_lone_surrogate_is_refused(app: Flask) -> None:
    device = Device(app)
    headers = {"Authorization": f"Bearer {device.token}", "Content-Type": "application/json"}
    reply = device.client.post("/api/reauthenticate", data=b'{"password": "\\ud800"}', headers=headers)
    assert code(reply) == (400, "invalid_request")


# Who I am


def test_me_is_whose_token_it_is(app: Flask) -> None:
    me = Device(app, "bob").send("GET", "/api/me").json or {}
    with app.app_context():
        user = accounts.find("bob")
    assert me.keys() == {"id", "username", "createdAt"}
    assert (me["id"], me["username"]) == (user.id, "bob")
    assert datetime.fromisoformat(me["createdAt"]) == user.created_at


# The password


def test_a_new_password_ends_all_sessions_but_the_current_one(app: Flask, clock: time_machine.Traveller) -> None:
    current, others, bob = Device(app), [Device(app), Device(app)], Device(app, "bob")
    sid = current.sid
    reply = change(current)
    assert (reply.status_code, reply.data, reply.headers.getlist("Set-Cookie")) == (204, b"", [])
    clock.shift(2)
    assert {code(other.send("GET", "/api/me")) for other in others} == {(403, "access_token_invalid")}
    assert [other.refresh() for other in others] == [403, 403]
    assert [item["id"] for item in current.devices()] == [sid]
    assert current.signed_in
    assert bob.signed_in


def test_after_the_change_only_the_new_password_signs_in(app: Flask) -> None:
    assert change(Device(app)).status_code == 204
    assert (sign_in(app, PASSWORD), sign_in(app, NEW)) == (401, 200)
    assert sign_in(app, PASSWORD, "bob") == 200


def test_a_new_password_leaves_one_record_for_itself_and_one_for_each_session_that_it_ended(app: Flask) -> None:
    current = Device(app)
    Device(app)
    change(current)
    with app.app_context():
        rows = db.execute_now(
            sa.select(AuditEvent.kind, AuditEvent.reason).where(
                AuditEvent.kind.not_in(("user_created", "sign_in", "key_created"))
            )
        )
    assert sorted(tuple(row) for row in rows) == [("password_changed", None), ("session_ended", "password_changed")]


def test_a_wrong_current_password_changes_nothing_and_counts(app: Flask) -> None:
    device, other = Device(app), Device(app)
    assert [code(change(device, WRONG)) for _ in range(5)] == [(401, "invalid_credentials")] * 5
    refused = change(device)
    assert code(refused) == (429, "too_many_attempts")
    assert int(refused.headers["Retry-After"]) > 0
    assert sign_in(app, PASSWORD) == 429
    assert (device.signed_in, other.signed_in) == (True, True)


REJECTED = {
    "short": ("fourteen chars", "at least 15"),
    "long": ("x1" * 513, "at most 1024"),
    "the user's name": ("who is alice really 77", "user name"),
    "the service's name": ("my tokenapp account 5", "service"),
}


@on_one_database
@pytest.mark.parametrize(("new", "reason"), REJECTED.values(), ids=REJECTED)
def test_a_new_password_that_breaks_the_rule_changes_nothing_and_does_not_count(
    app: Flask, new: str, reason: str
) -> None:
    device, other = Device(app), Device(app)
    for _ in range(6):
        reply = change(device, new=new)
        assert code(reply) == (400, "password_rejected")
        assert reason in (reply.json or {})["detail"]
    assert (failures(app), sign_in(app, PASSWORD)) == (0, 200)
    assert (device.signed_in, other.signed_in) == (True, True)


def test_a_password_change_that_cannot_be_stored_whole_is_not_stored_at_all(databases: Databases) -> None:
    app = make_app(databases("sqlite"), **SETTINGS)
    create_user(app)
    device, other = Device(app), Device(app)
    with app.app_context():
        broken = "CREATE TRIGGER broken BEFORE UPDATE OF revoked_at ON sessions BEGIN SELECT RAISE(FAIL, 'full'); END"
        db.execute_now(sa.text(broken))
    assert change(device).status_code >= 500
    assert (other.signed_in, sign_in(app, NEW), sign_in(app, PASSWORD)) == (True, 401, 200)
    with app.app_context():
        db.db.engine.dispose()


def test_of_two_changes_at_once_one_wins_and_the_other_is_told(app: Flask, database_url: str, serve: Servers) -> None:
    client = serve(database_url, **SETTINGS).client
    for number in range(5):
        create_user(app, f"user{number}")
        tokens = [client.login(f"user{number}").json["accessToken"] for _ in range(4)]
        barrier = threading.Barrier(4)

        def race(index: int, tokens: list[str] = tokens, barrier: threading.Barrier = barrier) -> int:
            barrier.wait()
            body = {"currentPassword": PASSWORD, "newPassword": f"{NEW} {index}"}
            return client.send("PUT", "/api/me/password", payload=body, bearer=tokens[index]).status

        with ThreadPoolExecutor(4) as pool:
            statuses = list(pool.map(race, range(4)))
        assert statuses.count(204) == 1
        assert set(statuses) <= {204, 401, 403}
        assert client.login(f"user{number}", f"{NEW} {statuses.index(204)}").status == 200


def test_a_sign_in_with_the_old_password_that_races_its_change_loses(
    app: Flask, database_url: str, serve: Servers
) -> None:
    client = serve(database_url, TOKENAPP_THREADS="4", **SETTINGS).client
    for number in range(4):
        create_user(app, f"user{number}")
        owner = client.login(f"user{number}").json["accessToken"]
        cookies: list[str] = []
        over = threading.Event()

        def keep_signing_in(
            name: str = f"user{number}", cookies: list[str] = cookies, over: threading.Event = over
        ) -> None:
            while not over.is_set():
                reply = client.login(name)
                if reply.cookie is not None:
                    cookies.append(reply.cookie)

        with ThreadPoolExecutor(4) as pool:
            for _ in range(4):
                pool.submit(keep_signing_in)
            body = {"currentPassword": PASSWORD, "newPassword": NEW}
            reply = client.send("PUT", "/api/me/password", payload=body, bearer=owner)
            over.set()
        assert reply.status == 204
        assert {client.refresh(cookie).status for cookie in cookies} <= {403}
        left = client.send("GET", "/api/sessions", bearer=owner).json["items"]
        assert [item["current"] for item in left] == [True]


# Devices


AGENTS = {
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:133.0) Gecko/20100101 Firefox/133.0": "Firefox on Windows",
    "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0": "Firefox on Ubuntu",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36 "
    "Edg/131.0": "Edge on Linux",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.4 "
    "Safari/605.1.15": "Safari on macOS",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 "
    "Mobile/15E148 Safari/604.1": "Safari on iPhone",
    "Mozilla/5.0 (iPad; CPU OS 16_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/120.0 "
    "Mobile/15E148 Safari/604.1": "Chrome on iPad",
    "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Mobile "
    "Safari/537.36": "Chrome on Android",
    "Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 "
    "Safari/537.36": "Chrome on ChromeOS",
    "curl/8.5.0": "curl",
    "python-requests/2.32.3": "Python Requests",
    "Android": "Android",
    "something else": "Unknown device",
}


@pytest.mark.parametrize(("agent", "name"), AGENTS.items())
def test_a_device_has_a_name_that_people_can_read(agent: str, name: str) -> None:
    assert device_names.describe(agent) == name


def test_a_device_that_says_nothing_of_itself_is_unknown() -> None:
    assert (device_names.describe(None), device_names.describe("")) == ("Unknown device", "Unknown device")


def test_people_see_their_own_devices_and_which_is_the_current_one(app: Flask, clock: time_machine.Traveller) -> None:
    firefox, safari = (agent for agent, name in AGENTS.items() if name in {"Firefox on Windows", "Safari on iPhone"})
    phone = Device(app, agent=safari)
    clock.shift(60)
    Device(app, "bob")
    laptop = Device(app, agent=firefox)
    clock.shift(60)
    assert phone.refresh() == 200
    newest, oldest = phone.devices()
    assert newest.keys() == {
        "id", "createdAt", "lastSeenAt", "expiresAt", "ipAddress", "userAgent", "device", "current"
    }  # fmt: skip
    assert (oldest["device"], oldest["userAgent"], oldest["current"]) == ("Safari on iPhone", safari, True)
    assert (newest["device"], newest["ipAddress"], newest["current"]) == ("Firefox on Windows", "127.0.0.1", False)
    assert (oldest["createdAt"], newest["createdAt"]) == ("2031-05-06T07:08:00Z", "2031-05-06T07:09:00Z")
    assert newest["lastSeenAt"] == newest["createdAt"]
    assert (oldest["lastSeenAt"], oldest["expiresAt"]) == ("2031-05-06T07:10:00Z", "2031-05-13T07:10:00Z")
    assert laptop.sid == newest["id"]


def test_what_a_user_agent_could_do_to_a_terminal_is_left_out(app: Flask) -> None:
    device = Device(app, agent="curl/8\x1b[31m\x7f\x9b" + "y" * 500)
    agent = device.devices()[0]["userAgent"]
    assert agent == ("curl/8[31m" + "y" * 500)[:256]


def test_dead_sessions_are_not_listed(app: Flask, clock: time_machine.Traveller) -> None:
    Device(app)
    clock.shift(timedelta(days=7))
    signed_out, current = Device(app), Device(app)
    signed_out.send("POST", "/api/logout")
    assert [item["current"] for item in current.devices()] == [True]


def pages(device: Device, limit: int) -> Iterator[list[str]]:
    cursor: str | None = ""
    while cursor is not None:
        query = {"limit": str(limit), **({"cursor": cursor} if cursor else {})}
        page = device.send("GET", "/api/sessions", query_string=query).json or {}
        yield [item["id"] for item in page["items"]]
        cursor = page["nextCursor"]


@pytest.mark.parametrize(("limit", "sizes"), [(1, [1] * 6), (2, [2, 2, 2]), (4, [4, 2]), (6, [6]), (200, [6])])
def test_pages_hold_each_session_once_newest_first(app: Flask, limit: int, sizes: list[int]) -> None:
    everyones = [device for _ in range(6) for device in (Device(app), Device(app, "bob"))]
    alices = [device.sid for device in everyones[::2]]
    seen = list(pages(everyones[0], limit))
    assert [len(page) for page in seen] == sizes
    assert list(chain.from_iterable(seen)) == sorted(alices, reverse=True)


def test_pages_are_stable_while_sessions_come_and_go(app: Flask, clock: time_machine.Traveller) -> None:
    former = []
    for _ in range(6):
        former.append(Device(app))
        clock.shift(1)
    sids = [device.sid for device in reversed(former)]
    walk = pages(former[0], 2)
    assert next(walk) == sids[:2]
    Device(app)
    for gone in (former[5], former[4], former[2]):  # both of the page that was seen, and one of those that follow
        gone.send("POST", "/api/logout")
    clock.shift(1)
    assert list(walk) == [[sids[2], sids[4]], [sids[5]]]


@on_one_database
@pytest.mark.parametrize(
    "query", ["limit=0", "limit=201", "limit=-1", "limit=x", "limit=", "limit=\u0661", "limit=1.0"]
)
def test_a_page_has_1_to_200_sessions(app: Flask, query: str) -> None:
    assert code(Device(app).send("GET", f"/api/sessions?{query}")) == (400, "invalid_request")


@pytest.mark.parametrize("query", ["cursor=", "cursor=a%00b", "cursor=a'b", "cursor=é", "cursor=" + "a" * 65])
def test_a_cursor_is_one_of_ours(app: Flask, query: str) -> None:
    assert code(Device(app).send("GET", f"/api/sessions?{query}")) == (400, "invalid_request")


def test_a_cursor_of_somebody_else_shows_nothing_of_theirs(app: Flask) -> None:
    alice, bob = Device(app), Device(app, "bob")
    page = alice.send("GET", f"/api/sessions?cursor={bob.sid}").json or {}
    assert {item["id"] for item in page["items"]} <= {alice.sid}


# Ending sessions


def test_a_device_can_be_signed_out_from_another(app: Flask, clock: time_machine.Traveller) -> None:
    one, other = Device(app), Device(app)
    reply = one.send("DELETE", f"/api/sessions/{other.sid}")
    assert (reply.status_code, reply.data, reply.headers.getlist("Set-Cookie")) == (204, b"", [])
    assert other.refresh() == 403
    clock.shift(2)
    assert other.send("GET", "/api/me").status_code == 403
    assert one.signed_in


def test_ending_the_current_session_clears_the_cookie(app: Flask) -> None:
    device = Device(app)
    reply = device.send("DELETE", f"/api/sessions/{device.sid}")
    assert reply.status_code == 204
    assert_clears_the_cookie(reply)
    assert device.refresh() == 401


def assert_clears_the_cookie(reply: TestResponse) -> None:
    (cookie,) = reply.headers.getlist("Set-Cookie")
    name, *attributes = cookie.split("; ")
    assert name == "refreshToken="
    assert set(attributes) == {"Expires=Thu, 01 Jan 1970 00:00:00 GMT", "HttpOnly", "SameSite=Strict", "Path=/"}


def test_sessions_of_others_cannot_be_told_from_unknown_ones(app: Flask, clock: time_machine.Traveller) -> None:
    alice, bob, dead = Device(app), Device(app, "bob"), Device(app)
    sids = [bob.sid, dead.sid, bob.sid[:-1] + ("A" if bob.sid[-1] != "A" else "B"), "unknown"]
    assert dead.send("POST", "/api/logout").status_code == 204
    clock.shift(2)
    answers = [apart_from_request_id(alice.send("DELETE", f"/api/sessions/{sid}")) for sid in sids]
    assert answers[0][0] == 404
    assert answers[0][2]["code"] == "session_not_found"
    assert all(answer == answers[0] for answer in answers)
    assert bob.signed_in


ODD_IDS = ["%00", "a%00b", "%20", "..%5c", "'%20OR%201=1--", "%F0%9F%98%80", "%ff", "a" * 65, "a" * 3000, "*", "%25"]


@pytest.mark.parametrize("sid", ODD_IDS)
def test_ids_with_odd_characters_are_unknown(app: Flask, sid: str) -> None:
    device = Device(app)
    assert code(device.send("DELETE", f"/api/sessions/{sid}")) == (404, "session_not_found")
    assert device.signed_in


def test_ids_with_odd_characters_are_unknown_over_http_too(app: Flask, database_url: str, serve: Servers) -> None:
    client: Client = serve(database_url).client
    bearer = client.login().json["accessToken"]
    for sid in ("%00", "%2F", "%2e%2e", "a%0d%0ab", "%ff"):
        reply = client.send("DELETE", f"/api/sessions/{sid}", bearer=bearer)
        assert (reply.status, reply.header("Content-Type")) == (404, "application/problem+json"), sid
    del app


def test_signing_out_everywhere_ends_all_sessions_and_clears_the_cookie(app: Flask) -> None:
    current, other, bob = Device(app), Device(app), Device(app, "bob")
    reply = current.send("DELETE", "/api/sessions")
    assert (reply.status_code, reply.data) == (204, b"")
    assert_clears_the_cookie(reply)
    assert (current.refresh(), other.refresh(), bob.refresh()) == (401, 403, 200)


def test_keep_current_ends_all_other_sessions(app: Flask) -> None:
    current, other, bob = Device(app), Device(app), Device(app, "bob")
    reply = current.send("DELETE", "/api/sessions?keep=current")
    assert (reply.status_code, reply.headers.getlist("Set-Cookie")) == (204, [])
    assert (current.refresh(), other.refresh(), bob.refresh()) == (200, 403, 200)


@on_one_database
@pytest.mark.parametrize("query", ["keep=", "keep=all", "keep=Current", "keep=current&keep=current", "keep"])
def test_nothing_else_can_be_kept(app: Flask, query: str) -> None:
    current, other = Device(app), Device(app)
    assert code(current.send("DELETE", f"/api/sessions?{query}")) == (400, "invalid_request")
    assert (current.signed_in, other.signed_in) == (True, True)


# Freshness


NEEDS_A_FRESH_TOKEN = {name: ROUTES[name] for name in ("end one", "end all", "end others")}


@pytest.mark.parametrize("route", NEEDS_A_FRESH_TOKEN.values(), ids=NEEDS_A_FRESH_TOKEN)
def test_a_quarter_of_an_hour_after_the_password_it_is_asked_for_again(
    app: Flask, route: Route, clock: time_machine.Traveller
) -> None:
    device, other = Device(app), Device(app)
    sid = other.sid
    clock.shift(901)
    assert device.refresh() == 200
    reply = call(device, route, sid)
    assert code(reply) == (401, "reauthentication_required")
    challenge = 'Bearer realm="tokenapp-api", error="insufficient_user_authentication", max_age="900"'
    assert reply.headers["WWW-Authenticate"] == challenge
    assert reply.headers.getlist("Set-Cookie") == []
    assert (device.signed_in, other.signed_in) == (True, True)


def test_until_then_a_refreshed_token_is_fresh(app: Flask, clock: time_machine.Traveller) -> None:
    device, other = Device(app), Device(app)
    sid = other.sid
    clock.shift(899)
    assert device.refresh() == 200
    assert device.send("DELETE", f"/api/sessions/{sid}").status_code == 204


@pytest.mark.parametrize("name", ["me", "list", "password", "reauthenticate"])
def test_other_routes_take_a_token_that_is_not_fresh(app: Flask, name: str, clock: time_machine.Traveller) -> None:
    device = Device(app)
    clock.shift(901)
    assert device.refresh() == 200
    assert call(device, ROUTES[name]).status_code in {200, 204}


def test_the_password_gives_a_fresh_token_for_the_same_session(app: Flask, clock: time_machine.Traveller) -> None:
    device, other = Device(app), Device(app)
    sid, other_sid = device.sid, other.sid
    clock.shift(901)
    assert device.refresh() == 200
    reply = device.send("POST", "/api/reauthenticate", {"password": PASSWORD})
    assert (reply.status_code, reply.headers.getlist("Set-Cookie")) == (200, [])
    body = reply.json or {}
    assert body.keys() == {"accessToken", "tokenType", "expiresIn"}
    assert (body["tokenType"], body["expiresIn"]) == ("Bearer", 900)
    device.token = body["accessToken"]
    assert device.sid == sid
    assert device.send("DELETE", f"/api/sessions/{other_sid}").status_code == 204
    assert device.signed_in


def test_tokens_refreshed_after_that_are_fresh_for_a_quarter_of_an_hour(
    app: Flask, clock: time_machine.Traveller
) -> None:
    device, other = Device(app), Device(app)
    other_sid = other.sid
    clock.shift(901)
    device.refresh()
    assert device.send("POST", "/api/reauthenticate", {"password": PASSWORD}).status_code == 200
    clock.shift(899)
    assert device.refresh() == 200
    assert device.send("DELETE", f"/api/sessions/{other_sid}").status_code == 204
    clock.shift(2)
    assert code(device.send("DELETE", "/api/sessions")) == (401, "reauthentication_required")


def test_a_wrong_password_makes_nothing_fresh_and_counts(app: Flask, clock: time_machine.Traveller) -> None:
    device = Device(app)
    clock.shift(901)
    device.refresh()
    answers = [code(device.send("POST", "/api/reauthenticate", {"password": WRONG})) for _ in range(6)]
    assert answers == [(401, "invalid_credentials")] * 5 + [(429, "too_many_attempts")]
    assert code(device.send("DELETE", "/api/sessions")) == (401, "reauthentication_required")
    assert sign_in(app, PASSWORD) == 429
    assert device.signed_in


def test_another_persons_password_makes_nothing_fresh(app: Flask) -> None:
    with app.app_context():
        accounts.set_password(accounts.find("bob"), NEW, datetime.now(UTC))
    assert code(Device(app).send("POST", "/api/reauthenticate", {"password": NEW})) == (401, "invalid_credentials")


@pytest.mark.parametrize("status", [401, 403])
def test_a_session_that_just_ended_cannot_be_made_fresh(database_url: str, app: Flask, status: int) -> None:
    patient = make_app(
        database_url, TOKENAPP_REVOCATION_DELAY="60", TOKENAPP_INVALID_TOKEN_STATUS=str(status), **SETTINGS
    )
    device = Device(patient)
    assert device.send("GET", "/api/me").status_code == 200
    assert device.send("POST", "/api/logout").status_code == 204
    reply = device.send("POST", "/api/reauthenticate", {"password": PASSWORD})
    assert code(reply) == (status, "access_token_invalid")
    assert reply.headers["WWW-Authenticate"] == 'Bearer realm="tokenapp-api", error="invalid_token"'
    with patient.app_context():
        db.db.engine.dispose()
    del app
