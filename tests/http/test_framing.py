"""Bytes that are no proper HTTP, sent to a real gunicorn: one clear answer or none, never a fault, and it goes on."""

import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest
import sqlalchemy as sa

from tests.conftest import Databases, Servers
from tests.support.app import PASSWORD, create_user, make_app
from tests.support.concurrency import wait_until
from tests.support.server import Server
from tokenapp.db import db, execute_now
from tokenapp.models import Session

LIMIT: Final = 16 * 1024
BODY: Final = json.dumps({"username": "alice", "password": PASSWORD}).encode()
CLOSE: Final = b"Host: localhost\r\nConnection: close\r\n"
SMUGGLED: Final = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def server(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Give a running service with one user; at the end, show that nothing broke in it."""
    url = databases("sqlite")
    app = make_app(url)
    create_user(app)
    with app.app_context():
        db.engine.dispose()
    log = tmp_path_factory.mktemp("framing") / "server.log"
    with Server(url, {}, log=log) as server:
        wait_until(lambda: len(server.workers()) == 2, what="the second worker")
        workers = server.workers()
        yield server
        assert server.workers() == workers
    assert "Traceback" not in log.read_text()


def exchange(server: Server, *pieces: bytes, close: bool = True, pause: float = 0) -> bytes:
    """Send bytes on one connection, `pause` after each piece, `close` our half of it; return all that comes back."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        answer = b""
        with suppress(BrokenPipeError, ConnectionResetError):  # the server has seen enough and closed
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(pause)
            if close:
                connection.shutdown(socket.SHUT_WR)
        with suppress(ConnectionResetError):
            while received := connection.recv(65536):
                answer += received
    return answer


def statuses(answer: bytes) -> list[int]:
    """Return the status of each response in `answer`."""
    return [int(status) for status in re.findall(rb"(?:^|(?<=[\n}]))HTTP/1\.[01] (\d{3}) ", answer)]


def login(*headers: bytes, version: bytes = b"1.1", path: bytes = b"/api/login") -> bytes:
    """Return the head of a sign-in request."""
    lines = (b"POST " + path + b" HTTP/" + version, CLOSE.strip(), b"Content-Type: application/json", *headers)
    return b"\r\n".join(lines) + b"\r\n\r\n"


def get(*headers: bytes, target: bytes = b"/api/protected", version: bytes = b"1.1") -> bytes:
    """Return a request without a body."""
    return b"\r\n".join([b"GET " + target + b" HTTP/" + version, CLOSE.strip(), *headers]) + b"\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """Return one chunk."""
    return b"%x\r\n%s\r\n" % (len(data), data)


LENGTH: Final = b"Content-Length: %d" % len(BODY)
CHUNKED: Final = b"Transfer-Encoding: chunked"
END: Final = b"0\r\n\r\n"


def test_a_proper_request_is_served(server: Server) -> None:
    assert statuses(exchange(server, login(LENGTH), BODY)) == [200]


def test_a_chunked_request_is_served_however_it_is_cut(server: Server) -> None:
    assert statuses(exchange(server, login(CHUNKED), chunk(BODY) + END)) == [200]
    single = b"".join(chunk(bytes([byte])) for byte in BODY)
    assert statuses(exchange(server, login(CHUNKED), single + END)) == [200]
    assert statuses(exchange(server, login(CHUNKED), b"%X;x=y\r\n%s\r\n" % (len(BODY), BODY) + END)) == [200]


def test_a_client_that_asks_before_it_sends_is_served(server: Server) -> None:
    assert statuses(exchange(server, login(LENGTH, b"Expect: 100-continue"), BODY))[-1] == 200


def test_a_request_that_comes_letter_by_letter_is_served(server: Server) -> None:
    pieces = [bytes([byte]) for byte in get(b"Authorization: Bearer x")]
    assert statuses(exchange(server, *pieces)) == [403]


# How long the body is must be said once, and well.

BAD_LENGTHS: Final = {
    "length and chunks": login(LENGTH, CHUNKED) + chunk(BODY) + END,
    "chunks and length": login(CHUNKED, b"Content-Length: 4") + chunk(BODY) + END,
    "two lengths": login(LENGTH, b"Content-Length: 4") + BODY,
    "the same length twice": login(LENGTH, LENGTH) + BODY,
    "two lengths in one line": login(LENGTH + b", %d" % len(BODY)) + BODY,
    "a negative length": login(b"Content-Length: -1") + BODY,
    "a length with a sign": login(b"Content-Length: +%d" % len(BODY)) + BODY,
    "a hexadecimal length": login(b"Content-Length: 0x10") + BODY,
    "an empty length": login(b"Content-Length: ") + BODY,
    "no number": login(b"Content-Length: many") + BODY,
    "other digits": login("Content-Length: ٣".encode()) + BODY,
    "a space before the colon": login(b"Content-Length : %d" % len(BODY)) + BODY,
    "chunked twice": login(CHUNKED, CHUNKED) + chunk(BODY) + END,
    "identity": login(b"Transfer-Encoding: identity") + BODY,
    "chunked and then identity": login(b"Transfer-Encoding: chunked, identity") + chunk(BODY) + END,
    "a space before the colon of chunks": login(b"Transfer-Encoding : chunked") + chunk(BODY) + END,
    "chunks in HTTP/1.0": login(CHUNKED, version=b"1.0") + chunk(BODY) + END,
    "two content types": login(LENGTH, b"Content-Type: text/plain") + BODY,
}


@pytest.mark.parametrize("request_bytes", BAD_LENGTHS.values(), ids=BAD_LENGTHS.keys())
def test_a_body_of_doubtful_length_is_refused_with_all_that_follows(server: Server, request_bytes: bytes) -> None:
    answer = exchange(server, request_bytes + SMUGGLED)
    assert statuses(answer) == [400]
    assert b"accessToken" not in answer


def test_an_unknown_coding_is_refused(server: Server) -> None:
    assert statuses(exchange(server, login(b"Transfer-Encoding: xchunked"), chunk(BODY) + END + SMUGGLED)) == [501]


BAD_CHUNKS: Final = {
    "no number": b"zz\r\n" + BODY + b"\r\n" + END,
    "a negative size": b"-5\r\n" + BODY + b"\r\n" + END,
    "a size with a sign": b"+5\r\n" + BODY + b"\r\n" + END,
    "a size with 0x": b"0x%x\r\n" % len(BODY) + BODY + b"\r\n" + END,
    "a size with a space in front": b" %x\r\n" % len(BODY) + BODY + b"\r\n" + END,
    "an empty size": b"\r\n" + BODY + b"\r\n" + END,
    "a size too small": b"5\r\n" + BODY + b"\r\n" + END,
    "a size too large": b"%x\r\n" % (len(BODY) + 5) + BODY + b"\r\n" + END,
    "a size beyond all numbers": b"f" * 40 + b"\r\n" + BODY + b"\r\n" + END,
    "a size line of 20 kB": b"0" * 20000 + b"5\r\n" + BODY + b"\r\n" + END,
    "only line feeds": b"%x\n%s\n0\n\n" % (len(BODY), BODY),
    "no line end behind the chunk": b"%x\r\n%s%s" % (len(BODY), BODY, END),
    "a bad extension": b"%x;\x00=\r\n%s\r\n%s" % (len(BODY), BODY, END),
    "a bad trailer": chunk(BODY) + b"0\r\nNo Header\r\n\r\n",
    "a length as trailer": chunk(BODY) + b"0\r\nContent-Length: 5\r\n\r\n",
    "a chunk cut off": b"50\r\nabc",
    "no last chunk": chunk(BODY),
    "nothing at all": b"",
}


@pytest.mark.parametrize("chunks", BAD_CHUNKS.values(), ids=BAD_CHUNKS.keys())
def test_a_body_in_bad_chunks_is_refused(server: Server, chunks: bytes) -> None:
    answer = exchange(server, login(CHUNKED).replace(b"Connection: close\r\n", b"") + chunks)
    assert statuses(answer)[:1] == [400] or (
        chunks.endswith(b"Content-Length: 5\r\n\r\n") and statuses(answer) == [200]
    )
    assert b"internal_error" not in answer


@pytest.mark.parametrize("chunks", [BAD_CHUNKS["no number"], BAD_CHUNKS["a size too small"], b"zz\r\n"])
def test_what_follows_bad_chunks_is_no_request(server: Server, chunks: bytes) -> None:
    head = login(CHUNKED).replace(b"Connection: close\r\n", b"")
    assert statuses(exchange(server, head + chunks + SMUGGLED)) == [400]


# Too much, and too little.


def test_a_length_over_the_limit_is_refused_before_the_body_comes(server: Server) -> None:
    for length in (LIMIT + 1, 10**6, 10**22):
        answer = exchange(server, login(b"Content-Length: %d" % length))
        assert statuses(answer) == [413]
        assert b"request_too_large" in answer


def test_a_body_over_the_limit_is_refused_and_not_taken_for_requests(server: Server) -> None:
    body = SMUGGLED * (2 * LIMIT // len(SMUGGLED))
    for path in (b"/api/login", b"/api/token", b"/api/logout"):
        head = login(b"Content-Length: %d" % len(body), path=path).replace(b"Connection: close\r\n", b"")
        assert statuses(exchange(server, head + body)) == [413]


@pytest.mark.parametrize("size", [1, 1000, LIMIT, 100_000])
def test_a_chunked_body_over_the_limit_is_refused_though_its_beginning_would_do(server: Server, size: int) -> None:
    count = LIMIT // size + 1
    answer = exchange(server, login(CHUNKED), chunk(BODY) + chunk(b" " * size) * count + END)
    assert statuses(answer) == [413]
    assert b"request_too_large" in answer


@pytest.mark.parametrize("path", [b"/api/token", b"/api/logout"])
def test_a_chunked_body_over_the_limit_is_refused_where_no_body_is_read(server: Server, path: bytes) -> None:
    answer = exchange(server, login(CHUNKED, path=path), chunk(b" " * (LIMIT + 1)) + END)
    assert statuses(answer) == [413]
    assert b"Set-Cookie" not in answer


def test_a_body_that_comes_slowly_takes_no_time_from_the_database(server: Server) -> None:
    head = login(b"Content-Length: %d" % len(BODY))
    assert statuses(exchange(server, head, BODY, pause=3.2)) == [200]


def test_a_chunked_body_without_end_is_refused_as_soon_as_it_is_over_the_limit(server: Server) -> None:
    answer = exchange(server, login(CHUNKED), chunk(BODY) + chunk(b" " * LIMIT), close=False)
    assert statuses(answer) == [413]


def test_a_chunked_body_of_exactly_the_limit_is_served(server: Server) -> None:
    assert statuses(exchange(server, login(CHUNKED), chunk(BODY.ljust(LIMIT)) + END)) == [200]
    assert statuses(exchange(server, login(CHUNKED), chunk(BODY.ljust(LIMIT + 1)) + END)) == [413]


def test_a_body_that_nobody_reads_is_no_request_either(server: Server) -> None:
    head = login(b"Content-Length: %d" % len(SMUGGLED), path=b"/api/token").replace(b"Connection: close\r\n", b"")
    assert statuses(exchange(server, head + SMUGGLED + get())) == [401, 401]


def test_a_body_that_was_announced_and_does_not_come_is_refused(server: Server) -> None:
    for sent in (b"", BODY[:20], BODY):
        answer = exchange(server, login(b"Content-Length: %d" % (len(BODY) + 100)), sent)
        assert statuses(answer) in ([400], [200] if sent == BODY else [400])
        assert b"internal_error" not in answer


@pytest.mark.parametrize("path", [b"/api/token", b"/api/logout"])
def test_a_body_that_does_not_come_holds_up_no_route_that_reads_none(server: Server, path: bytes) -> None:
    began = time.monotonic()
    answer = exchange(server, login(b"Content-Length: 100", path=path))
    assert statuses(answer) == [401 if path == b"/api/token" else 204]
    assert time.monotonic() - began < 3


@pytest.mark.parametrize("beginning", [b"", b"G", b"GET /api/prot", b"GET / HTTP/1.1\r\n", get()[:-2]])
def test_a_request_that_was_never_finished_gets_no_answer(server: Server, beginning: bytes) -> None:
    assert exchange(server, beginning) == b""


# Methods, targets and hosts.


def test_trace_is_refused_and_repeats_nothing(server: Server) -> None:
    for path in (b"/", b"/api/token", b"/api/protected", b"/nothing"):
        answer = exchange(server, b"TRACE " + path + b" HTTP/1.1\r\nX-Secret: marker\r\n" + CLOSE + b"\r\n")
        assert statuses(answer)[0] in {404, 405}
        assert b"marker" not in answer
    assert b"Allow: " in exchange(server, b"TRACE /api/token HTTP/1.1\r\n" + CLOSE + b"\r\n")


@pytest.mark.parametrize("method", [b"get", b"G@T", b"GE T", b"G\x00T", b"", b"\xff", b"(GET)", b"GET" * 100])
def test_a_method_that_is_none_is_refused(server: Server, method: bytes) -> None:
    assert statuses(exchange(server, method + b" /api/protected HTTP/1.1\r\n" + CLOSE + b"\r\n")) == [400]


def test_connect_opens_nothing(server: Server) -> None:
    assert statuses(exchange(server, b"CONNECT evil.example:443 HTTP/1.1\r\n" + CLOSE + b"\r\n")) == [404]


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
    b"/?%00=%ff&x=%": [404],
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
def test_a_strange_target_gets_its_answer_and_no_redirection(server: Server, target: bytes) -> None:
    answer = exchange(server, get(target=target))
    assert statuses(answer) == TARGETS[target]
    assert b"Location" not in answer
    assert b"evil.example" not in answer


def test_two_hosts_are_refused(server: Server) -> None:
    for second in (b"evil.example", b"localhost"):
        answer = exchange(server, get(b"Host: " + second))
        assert statuses(answer) == [400]
        assert b"evil.example" not in answer


@pytest.mark.parametrize("host", [b"evil.example", b"", b"a b", b"\xff", b"[::1", b"a/b", b"x" * 1000, b"'\"><script>"])
def test_no_host_is_repeated(server: Server, host: bytes) -> None:
    for path in (b"/api/protected", b"/api//protected", b"/nothing"):
        answer = exchange(server, b"GET " + path + b" HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n")
        assert statuses(answer)[0] in {400, 401, 404}
        assert b"evil" not in answer
        assert b"script" not in answer


def test_http_1_0_is_served_and_the_connection_closed(server: Server) -> None:
    assert statuses(exchange(server, b"GET /api/protected HTTP/1.0\r\n\r\n" + SMUGGLED)) == [401]


@pytest.mark.parametrize("version", [b"2.0", b"3", b"0.9", b"9.9", b"1.1x", b"", b"1", b"\xff"])
def test_another_version_is_refused(server: Server, version: bytes) -> None:
    assert statuses(exchange(server, get(version=version))) == [400]


NO_HTTP: Final = {
    "HTTP/0.9": b"GET /api/protected\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200) + b"\r\n\r\n",
    "a proxy's line": b"PROXY TCP4 203.0.113.9 203.0.113.1 1 2\r\n" + get(),
    "a proxy's line in binary": b"\r\n\r\n\x00\r\nQUIT\n!\x11\x00\x0c" + bytes(12) + get(),
    "empty lines": b"\r\n" * 4,
    "line feeds only": get().replace(b"\r\n", b"\n"),
    "NULs": bytes(5000) + b"\r\n\r\n",
    "SSH": b"SSH-2.0-x\r\n\r\n",
    "SMTP": b"EHLO x\r\nMAIL FROM:<a@b>\r\n\r\n",
    "Redis": b"*1\r\n$4\r\nPING\r\n\r\n",
}


@pytest.mark.parametrize("talk", NO_HTTP.values(), ids=NO_HTTP.keys())
def test_what_is_no_http_is_refused(server: Server, talk: bytes) -> None:
    assert set(statuses(exchange(server, talk))) <= {400, 414}


# Headers.

BAD_HEADERS: Final = {
    "a space in a name": b"Bad Header: 1",
    "no colon": b"Header",
    "no name": b": 1",
    "a folded line": b"X: 1\r\n folded",
    "a space in front": b" X: 1",
    "a bare CR": b"X: a\rb",
    "a bare LF": b"X: a\nY: b",
    "a NUL": b"X: a\x00b",
    "a NUL in a name": b"X\x00: a",
    "a name beyond ASCII": b"\xff: a",
}


@pytest.mark.parametrize("line", BAD_HEADERS.values(), ids=BAD_HEADERS.keys())
def test_a_bad_header_is_refused(server: Server, line: bytes) -> None:
    assert statuses(exchange(server, get(line))) == [400]


def test_too_many_or_too_long_headers_are_refused(server: Server) -> None:
    assert statuses(exchange(server, get(*(b"X%d: 1" % number for number in range(100))))) == [431]
    assert statuses(exchange(server, get(b"X: " + b"a" * 20000))) == [431]
    assert statuses(exchange(server, get(b"X" * 20000 + b": 1"))) == [431]


def test_a_token_over_8_kib_reaches_us_and_is_refused_by_us(server: Server) -> None:
    answer = exchange(server, get(b"Authorization: Bearer " + b"a" * 15000))
    assert statuses(answer) == [403]
    assert b"access_token_invalid" in answer


def test_two_authorization_headers_are_two_credentials(server: Server) -> None:
    answer = exchange(server, get(b"Authorization: Bearer x", b"Authorization: Bearer y"))
    assert statuses(answer) == [400]
    assert b"invalid_request" in answer


def test_two_cookie_headers_with_our_cookie_are_refused(server: Server) -> None:
    head = login(b"Cookie: refreshToken=x", b"Cookie: refreshToken=y", path=b"/api/token")
    answer = exchange(server, head)
    assert statuses(answer) == [403]
    assert b"refresh_token_revoked" in answer


def test_a_header_with_underscores_is_not_taken_for_the_one_with_dashes(server: Server) -> None:
    answer = exchange(server, get(b"X_Request_ID: marker", b"Sec_Fetch_Site: cross-site"))
    assert statuses(answer) == [401]
    assert b"marker" not in answer


def test_nothing_is_upgraded(server: Server) -> None:
    for protocol in (b"h2c", b"websocket", b"TLS/1.2"):
        upgrade = get(b"Upgrade: " + protocol, b"HTTP2-Settings: AAMAAABk").replace(b"close", b"Upgrade")
        assert statuses(exchange(server, upgrade)) == [400 if protocol == b"websocket" else 401]


def test_requests_in_a_row_are_answered_in_their_order(server: Server) -> None:
    row = SMUGGLED + get(target=b"/nothing").replace(b"Connection: close\r\n", b"") + get()
    assert statuses(exchange(server, row)) == [200, 404, 401]


def test_after_all_of_it_the_service_still_signs_people_in(server: Server) -> None:
    reply = server.client.login()
    assert reply.status == 200
    assert server.client.refresh(reply.cookie).status == 200


def test_behind_a_trusted_proxy_the_client_s_address_is_recorded(databases: Databases, serve: Servers) -> None:
    url = databases("sqlite")
    app = make_app(url)
    create_user(app)
    server = serve(url, TOKENAPP_TRUSTED_PROXIES="127.0.0.1", WEB_CONCURRENCY="1")
    head = login(LENGTH, b"X-Forwarded-For: 198.51.100.1", b"X-Forwarded-For: 203.0.113.9")
    assert statuses(exchange(server, head, BODY)) == [200]
    with app.app_context():
        addresses = execute_now(sa.select(Session.ip_address))
        db.engine.dispose()
    assert [row[0] for row in addresses] == ["203.0.113.9"]


def test_gunicorn_leaves_nothing_in_the_home_directory(databases: Databases, serve: Servers, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    server = serve(databases("sqlite"), HOME=str(home), XDG_RUNTIME_DIR=str(home), WEB_CONCURRENCY="1")
    assert server.client.send("GET", "/healthz").status == 200
    assert list(home.rglob("*")) == []
