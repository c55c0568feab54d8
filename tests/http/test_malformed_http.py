"""Malformed request lines and headers over TCP."""

from typing import Final

import pytest

from tests.support.raw_http import CLOSE, SMUGGLED, exchange, get, login, statuses
from tests.support.server import Server

# Methods


def test_trace_is_rejected_and_repeats_nothing(server: Server) -> None:
    for path in (b"/", b"/api/token", b"/api/protected", b"/nothing"):
        received = exchange(server, b"TRACE " + path + b" HTTP/1.1\r\nX-Secret: marker\r\n" + CLOSE + b"\r\n")
        assert statuses(received)[0] in {404, 405}
        assert b"marker" not in received
    assert b"Allow: " in exchange(server, b"TRACE /api/token HTTP/1.1\r\n" + CLOSE + b"\r\n")


@pytest.mark.parametrize("method", [b"get", b"G@T", b"GE T", b"G\x00T", b"", b"\xff", b"(GET)", b"GET" * 100])
def test_malformed_method_is_rejected(server: Server, method: bytes) -> None:
    assert statuses(exchange(server, method + b" /api/protected HTTP/1.1\r\n" + CLOSE + b"\r\n")) == [400]


def test_connect_opens_no_tunnel(server: Server) -> None:
    assert statuses(exchange(server, b"CONNECT evil.example:443 HTTP/1.1\r\n" + CLOSE + b"\r\n")) == [404]


# Targets

TARGETS: Final = {
    b"/api/protected%00": [404],
    b"/api/login%00.json": [404],
    b"/%00": [404],
    b"/api/%70rotected": [401],
    b"//evil.example/api/protected": [404],
    b"/api//protected": [404],
    b"/\\evil.example": [404],
    b"/../../etc/passwd": [404],
    b"/%2e%2e/%2e%2e/etc/passwd": [404],
    b"/%ff%fe": [404],
    b"/\xff": [400],
    b"/%": [404],
    b"/%zz": [404],
    b"/nothing?%00=%ff&x=%": [404],
    b"*": [400],
    b"http://evil.example/api/protected": [401],
    b"http://evil.example//api/protected": [401],
    b"/api/protected?access_token=x": [401],
    b"/api/pro\x00tected": [400],
    b"/api/protected x": [400],
    b"": [400],
    b"/" + b"a" * 5000: [414],
    b"/?" + b"a" * 5000: [414],
}


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: repr(target[:40]))
def test_unusual_target_gets_its_status_and_no_redirect(server: Server, target: bytes) -> None:
    received = exchange(server, get(target=target))
    assert statuses(received) == TARGETS[target]
    assert b"Location" not in received
    assert b"evil.example" not in received


# Hosts


@pytest.mark.parametrize("second", [b"evil.example", b"localhost"])
def test_two_hosts_are_rejected(server: Server, second: bytes) -> None:
    received = exchange(server, get(b"Host: " + second))
    assert statuses(received) == [400]
    assert b"evil.example" not in received


@pytest.mark.parametrize("host", [b"evil.example", b"", b"a b", b"\xff", b"[::1", b"a/b", b"x" * 1000, b"'\"><script>"])
def test_host_is_never_in_the_response(server: Server, host: bytes) -> None:
    for path in (b"/api/protected", b"/api//protected", b"/nothing"):
        received = exchange(server, b"GET " + path + b" HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n")
        assert statuses(received)[0] in {400, 401, 404}
        assert b"evil" not in received
        assert b"script" not in received


# Versions and other protocols


def test_http_1_0_is_served_and_the_connection_closed(server: Server) -> None:
    assert statuses(exchange(server, b"GET /api/protected HTTP/1.0\r\n\r\n" + SMUGGLED)) == [401]


@pytest.mark.parametrize("version", [b"2.0", b"3", b"0.9", b"9.9", b"1.1x", b"", b"1", b"\xff"])
def test_other_version_is_rejected(server: Server, version: bytes) -> None:
    assert statuses(exchange(server, get(version=version))) == [400]


OTHER_PROTOCOLS: Final = {
    "HTTP/0.9": b"GET /api/protected\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200) + b"\r\n\r\n",
    "PROXY": b"PROXY TCP4 203.0.113.9 203.0.113.1 1 2\r\n" + get(),
    "binary PROXY": b"\r\n\r\n\x00\r\nQUIT\n!\x11\x00\x0c" + bytes(12) + get(),
    "empty lines": b"\r\n" * 4,
    "line feeds only": get().replace(b"\r\n", b"\n"),
    "NULs": bytes(5000) + b"\r\n\r\n",
    "SSH": b"SSH-2.0-x\r\n\r\n",
    "SMTP": b"EHLO x\r\nMAIL FROM:<a@b>\r\n\r\n",
    "Redis": b"*1\r\n$4\r\nPING\r\n\r\n",
}


@pytest.mark.parametrize("sent", OTHER_PROTOCOLS.values(), ids=OTHER_PROTOCOLS)
def test_other_protocol_is_rejected(server: Server, sent: bytes) -> None:
    assert set(statuses(exchange(server, sent))) <= {400, 414}


@pytest.mark.parametrize(("protocol", "status"), [(b"h2c", 401), (b"websocket", 400), (b"TLS/1.2", 401)])
def test_connection_is_not_upgraded(server: Server, protocol: bytes, status: int) -> None:
    upgrade = get(b"Upgrade: " + protocol, b"HTTP2-Settings: AAMAAABk").replace(b"close", b"Upgrade")
    assert statuses(exchange(server, upgrade)) == [status]


# Headers

MALFORMED_HEADERS: Final = {
    "space in a name": b"Bad Header: 1",
    "no colon": b"Header",
    "no name": b": 1",
    "folded line": b"X: 1\r\n folded",
    "leading space": b" X: 1",
    "bare CR": b"X: a\rb",
    "bare LF": b"X: a\nY: b",
    "NUL": b"X: a\x00b",
    "NUL in a name": b"X\x00: a",
    "non-ASCII name": b"\xff: a",
}


@pytest.mark.parametrize("line", MALFORMED_HEADERS.values(), ids=MALFORMED_HEADERS)
def test_malformed_header_is_rejected(server: Server, line: bytes) -> None:
    assert statuses(exchange(server, get(line))) == [400]


def test_too_many_or_too_long_headers_are_rejected(server: Server) -> None:
    assert statuses(exchange(server, get(*(b"X%d: 1" % number for number in range(100))))) == [431]
    assert statuses(exchange(server, get(b"X: " + b"a" * 20000))) == [431]
    assert statuses(exchange(server, get(b"X" * 20000 + b": 1"))) == [431]


def test_token_over_8_kib_is_rejected_by_the_application(server: Server) -> None:
    received = exchange(server, get(b"Authorization: Bearer " + b"a" * 15000))
    assert statuses(received) == [403]
    assert b"access_token_invalid" in received


def test_two_authorization_headers_are_two_credentials(server: Server) -> None:
    received = exchange(server, get(b"Authorization: Bearer x", b"Authorization: Bearer y"))
    assert statuses(received) == [400]
    assert b"invalid_request" in received


def test_two_cookie_headers_with_the_refresh_cookie_are_rejected(server: Server) -> None:
    received = exchange(server, login(b"Cookie: refreshToken=x", b"Cookie: refreshToken=y", path=b"/api/token"))
    assert statuses(received) == [403]
    assert b"refresh_token_revoked" in received


def test_header_with_underscores_is_not_the_one_with_dashes(server: Server) -> None:
    received = exchange(server, get(b"X_Request_ID: marker", b"Sec_Fetch_Site: cross-site"))
    assert statuses(received) == [401]
    assert b"marker" not in received
