"""The list of one's own sessions, and revoking them."""

from collections.abc import Iterator
from datetime import timedelta
from itertools import chain
from typing import Final
from urllib.parse import urlencode

import pytest
import time_machine
from flask import Flask

from tests.conftest import Servers
from tests.support.client import Client, Response, sign_in

FIREFOX: Final = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:133.0) Gecko/20100101 Firefox/133.0"
SAFARI: Final = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 "
    "Mobile/15E148 Safari/604.1"
)
one_database = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def sign_in_with(app: Flask, agent: str) -> Client:
    """Return a client that signed in with this user agent."""
    client = Client(app)
    assert client.login(headers={"User-Agent": agent}).status == 200
    return client


def list_sessions(client: Client, **query: str) -> Response:
    """Request one page of the list."""
    return client.call("GET", f"/api/sessions?{urlencode(query)}")


def revoke(client: Client, sid: str) -> Response:
    """Revoke one session."""
    return client.call("DELETE", f"/api/sessions/{sid}")


def statuses(*clients: Client) -> list[int]:
    """Refresh with each client and return the statuses."""
    return [client.refresh().status for client in clients]


def assert_clears_the_cookie(response: Response) -> None:
    (cookie,) = response.all("Set-Cookie")
    name, *attributes = cookie.split("; ")
    assert name == "refreshToken="
    assert set(attributes) == {"Expires=Thu, 01 Jan 1970 00:00:00 GMT", "HttpOnly", "SameSite=Strict", "Path=/"}


# The list


def test_list_has_the_sessions_of_the_user_and_marks_the_current_one(
    service: Flask, clock: time_machine.Traveller
) -> None:
    phone = sign_in_with(service, SAFARI)
    clock.shift(60)
    sign_in(service, "bob")
    laptop = sign_in_with(service, FIREFOX)
    clock.shift(60)
    assert phone.refresh(headers={"User-Agent": SAFARI}).status == 200
    newest, oldest = list_sessions(phone).json["items"]
    assert newest == {
        "id": laptop.sid,
        "createdAt": "2031-05-06T07:09:00Z",
        "lastSeenAt": "2031-05-06T07:09:00Z",
        "expiresAt": "2031-05-13T07:09:00Z",
        "ipAddress": "127.0.0.1",
        "userAgent": FIREFOX,
        "device": "Firefox on Windows",
        "current": False,
        "boundAt": None,
        "unprovedAt": None,
    }
    assert oldest == {
        "id": phone.sid,
        "createdAt": "2031-05-06T07:08:00Z",
        "lastSeenAt": "2031-05-06T07:10:00Z",
        "expiresAt": "2031-05-13T07:10:00Z",
        "ipAddress": "127.0.0.1",
        "userAgent": SAFARI,
        "device": "Safari on iPhone",
        "current": True,
        "boundAt": None,
        "unprovedAt": None,
    }


def test_control_characters_of_a_user_agent_are_removed(service: Flask) -> None:
    client = sign_in_with(service, "curl/8\x1b[31m\x7f\x9b" + "y" * 500)
    (item,) = list_sessions(client).json["items"]
    assert item["userAgent"] == ("curl/8[31m" + "y" * 500)[:256]


def test_expired_and_revoked_sessions_are_not_listed(service: Flask, clock: time_machine.Traveller) -> None:
    sign_in(service)
    clock.shift(timedelta(days=7))
    revoked, current = sign_in(service), sign_in(service)
    revoked.logout()
    assert [item["current"] for item in list_sessions(current).json["items"]] == [True]


# Pages


def pages(client: Client, limit: int) -> Iterator[list[str]]:
    """Request one page after the other and return their session ids."""
    query = {"limit": str(limit)}
    while True:
        page = list_sessions(client, **query).json
        yield [item["id"] for item in page["items"]]
        if page["nextCursor"] is None:
            return
        query["cursor"] = page["nextCursor"]


@pytest.mark.parametrize(("limit", "sizes"), [(1, [1] * 6), (2, [2, 2, 2]), (4, [4, 2]), (6, [6]), (200, [6])])
def test_pages_have_each_session_once_newest_first(service: Flask, limit: int, sizes: list[int]) -> None:
    clients = [client for _ in range(6) for client in (sign_in(service), sign_in(service, "bob"))]
    seen = list(pages(clients[0], limit))
    assert [len(page) for page in seen] == sizes
    assert list(chain.from_iterable(seen)) == sorted((client.sid for client in clients[::2]), reverse=True)


def test_pages_are_stable_while_sessions_begin_and_end(service: Flask, clock: time_machine.Traveller) -> None:
    clients = []
    for _ in range(6):
        clients.append(sign_in(service))
        clock.shift(1)
    sids = [client.sid for client in reversed(clients)]
    walk = pages(clients[0], 2)
    assert next(walk) == sids[:2]
    sign_in(service)
    for revoked in (clients[5], clients[4], clients[2]):  # both of the first page, and one of the next
        revoked.logout()
    clock.shift(1)
    assert list(walk) == [[sids[2], sids[4]], [sids[5]]]


@one_database
@pytest.mark.parametrize("limit", ["0", "201", "-1", "x", "", "\u0661", "1.5", "+1", " 1", "1_0", "0x1"])
def test_limit_is_a_whole_number_from_1_to_200(service: Flask, limit: str) -> None:
    response = list_sessions(sign_in(service), limit=limit)
    assert (response.status, response.code) == (400, "invalid_request")


@pytest.mark.parametrize("cursor", ["", "a\x00b", "a'b", "é", "a" * 65])
def test_malformed_cursor_is_an_invalid_request(service: Flask, cursor: str) -> None:
    response = list_sessions(sign_in(service), cursor=cursor)
    assert (response.status, response.code) == (400, "invalid_request")


def test_cursor_of_another_user_shows_nothing_of_theirs(service: Flask) -> None:
    alice, bob = sign_in(service), sign_in(service, "bob")
    items = list_sessions(alice, cursor=bob.sid).json["items"]
    assert {item["id"] for item in items} <= {alice.sid}


# Revoking one session


def test_session_can_be_revoked_from_another(service: Flask, clock: time_machine.Traveller) -> None:
    one, other = sign_in(service), sign_in(service)
    response = revoke(one, other.sid)
    assert (response.status, response.body, response.all("Set-Cookie")) == (204, b"", [])
    assert statuses(other, one) == [403, 200]
    clock.shift(2)
    assert other.call("GET", "/api/me").code == "access_token_invalid"


def test_revoking_the_current_session_clears_the_cookie(service: Flask) -> None:
    client = sign_in(service)
    response = revoke(client, client.sid)
    assert response.status == 204
    assert_clears_the_cookie(response)
    assert client.refresh().status == 401


def test_session_of_another_user_looks_like_an_unknown_one(service: Flask, clock: time_machine.Traveller) -> None:
    alice, bob, revoked = sign_in(service), sign_in(service, "bob"), sign_in(service)
    similar = bob.sid[:-1] + ("A" if bob.sid[-1] != "A" else "B")
    assert revoked.logout().status == 204
    clock.shift(2)
    headers = {"X-Request-ID": "same"}
    responses = [
        alice.call("DELETE", f"/api/sessions/{sid}", headers=headers)
        for sid in (bob.sid, revoked.sid, similar, "unknown")
    ]
    assert (responses[0].status, responses[0].code) == (404, "session_not_found")
    assert len({(each.status, str(each.headers), each.body) for each in responses}) == 1
    assert bob.refresh().status == 200


UNUSUAL_IDS: Final = (
    *("%00", "a%00b", "%20", "..%5c", "'%20OR%201=1--", "%F0%9F%98%80", "%ff", "a" * 65, "a" * 3000, "*", "%25"),
)


@pytest.mark.parametrize("sid", UNUSUAL_IDS)
def test_unusual_id_is_an_unknown_session(service: Flask, sid: str) -> None:
    client = sign_in(service)
    response = revoke(client, sid)
    assert (response.status, response.code) == (404, "session_not_found")
    assert client.refresh().status == 200


@pytest.mark.usefixtures("service")
def test_unusual_id_is_not_found_over_http(database_url: str, serve: Servers) -> None:
    client = sign_in(serve(database_url).port)
    for sid in ("%00", "%2F", "%2e%2e", "a%0d%0ab", "%ff"):
        response = revoke(client, sid)
        assert (response.status, response.header("Content-Type")) == (404, "application/problem+json"), sid


# Revoking all sessions


def test_all_sessions_can_be_revoked(service: Flask) -> None:
    current, other, bob = sign_in(service), sign_in(service), sign_in(service, "bob")
    response = current.call("DELETE", "/api/sessions")
    assert (response.status, response.body) == (204, b"")
    assert_clears_the_cookie(response)
    assert statuses(current, other, bob) == [401, 403, 200]


def test_all_sessions_except_the_current_one_can_be_revoked(service: Flask) -> None:
    current, other, bob = sign_in(service), sign_in(service), sign_in(service, "bob")
    response = current.call("DELETE", "/api/sessions?keep=current")
    assert (response.status, response.all("Set-Cookie")) == (204, [])
    assert statuses(current, other, bob) == [200, 403, 200]


@one_database
@pytest.mark.parametrize(
    "query", ["keep=", "keep=all", "keep=null", "keep=Current", "keep=current&keep=current", "keep"]
)
def test_other_values_of_keep_are_rejected_and_revoke_nothing(service: Flask, query: str) -> None:
    current, other = sign_in(service), sign_in(service)
    response = current.call("DELETE", f"/api/sessions?{query}")
    assert (response.status, response.code) == (400, "invalid_request")
    assert statuses(current, other) == [200, 200]
