"""The framing of request bodies over TCP: lengths, chunks, limits, delays."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.conftest import Databases, Servers
from tests.support.app import application, create_user
from tests.support.raw_http import (
    BODY,
    CHUNKED,
    END,
    LENGTH,
    LIMIT,
    SMUGGLED,
    chunk,
    exchange,
    get,
    keep_alive,
    login,
    statuses,
)
from tests.support.server import Server
from tokenapp.db import execute_now
from tokenapp.models import Session

# Well-formed requests


def test_request_with_a_length_is_served(server: Server) -> None:
    assert statuses(exchange(server, login(LENGTH), BODY)) == [200]


def test_chunked_request_is_served(server: Server) -> None:
    assert statuses(exchange(server, login(CHUNKED), chunk(BODY) + END)) == [200]


def test_chunks_of_one_byte_are_served(server: Server) -> None:
    chunks = b"".join(chunk(bytes([byte])) for byte in BODY)
    assert statuses(exchange(server, login(CHUNKED), chunks + END)) == [200]


def test_chunk_extension_is_served(server: Server) -> None:
    assert statuses(exchange(server, login(CHUNKED), b"%X;x=y\r\n%s\r\n" % (len(BODY), BODY) + END)) == [200]


def test_client_that_expects_100_continue_is_served(server: Server) -> None:
    assert statuses(exchange(server, login(LENGTH, b"Expect: 100-continue"), BODY))[-1] == 200


def test_request_in_single_bytes_is_served(server: Server) -> None:
    pieces = [bytes([byte]) for byte in get(b"Authorization: Bearer x")]
    assert statuses(exchange(server, *pieces)) == [403]


def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    requests = SMUGGLED + keep_alive(get(target=b"/nothing")) + get()
    assert statuses(exchange(server, requests)) == [200, 404, 401]


# The length must be stated once and correctly.

BAD_LENGTHS = {
    "length and chunked": login(LENGTH, CHUNKED) + chunk(BODY) + END,
    "chunked and length": login(CHUNKED, b"Content-Length: 4") + chunk(BODY) + END,
    "two lengths": login(LENGTH, b"Content-Length: 4") + BODY,
    "the same length twice": login(LENGTH, LENGTH) + BODY,
    "two lengths in one line": login(LENGTH + b", %d" % len(BODY)) + BODY,
    "negative length": login(b"Content-Length: -1") + BODY,
    "length with a sign": login(b"Content-Length: +%d" % len(BODY)) + BODY,
    "hexadecimal length": login(b"Content-Length: 0x10") + BODY,
    "empty length": login(b"Content-Length: ") + BODY,
    "not a number": login(b"Content-Length: many") + BODY,
    "Arabic digits": login("Content-Length: ٣".encode()) + BODY,
    "space before the colon": login(b"Content-Length : %d" % len(BODY)) + BODY,
    "chunked twice": login(CHUNKED, CHUNKED) + chunk(BODY) + END,
    "identity": login(b"Transfer-Encoding: identity") + BODY,
    "chunked and identity": login(b"Transfer-Encoding: chunked, identity") + chunk(BODY) + END,
    "chunked with a space before the colon": login(b"Transfer-Encoding : chunked") + chunk(BODY) + END,
    "chunked in HTTP/1.0": login(CHUNKED, version=b"1.0") + chunk(BODY) + END,
    "two content types": login(LENGTH, b"Content-Type: text/plain") + BODY,
}


@pytest.mark.parametrize("request_bytes", BAD_LENGTHS.values(), ids=BAD_LENGTHS)
def test_ambiguous_length_is_rejected_with_everything_after_it(server: Server, request_bytes: bytes) -> None:
    received = exchange(server, request_bytes + SMUGGLED)
    assert statuses(received) == [400]
    assert b"accessToken" not in received


def test_unknown_transfer_coding_is_rejected(server: Server) -> None:
    assert statuses(exchange(server, login(b"Transfer-Encoding: xchunked"), chunk(BODY) + END + SMUGGLED)) == [501]


BAD_CHUNKS = {
    "not a number": b"zz\r\n" + BODY + b"\r\n" + END,
    "negative size": b"-5\r\n" + BODY + b"\r\n" + END,
    "size with a sign": b"+5\r\n" + BODY + b"\r\n" + END,
    "size with 0x": b"0x%x\r\n" % len(BODY) + BODY + b"\r\n" + END,
    "size after a space": b" %x\r\n" % len(BODY) + BODY + b"\r\n" + END,
    "empty size": b"\r\n" + BODY + b"\r\n" + END,
    "size too small": b"5\r\n" + BODY + b"\r\n" + END,
    "size too large": b"%x\r\n" % (len(BODY) + 5) + BODY + b"\r\n" + END,
    "size of 40 digits": b"f" * 40 + b"\r\n" + BODY + b"\r\n" + END,
    "size line of 20 kB": b"0" * 20000 + b"5\r\n" + BODY + b"\r\n" + END,
    "line feeds only": b"%x\n%s\n0\n\n" % (len(BODY), BODY),
    "no line end after the chunk": b"%x\r\n%s%s" % (len(BODY), BODY, END),
    "malformed extension": b"%x;\x00=\r\n%s\r\n%s" % (len(BODY), BODY, END),
    "malformed trailer": chunk(BODY) + b"0\r\nNo Header\r\n\r\n",
    "truncated chunk": b"50\r\nabc",
    "no last chunk": chunk(BODY),
    "nothing": b"",
}


@pytest.mark.parametrize("chunks", BAD_CHUNKS.values(), ids=BAD_CHUNKS)
def test_malformed_chunks_are_rejected(server: Server, chunks: bytes) -> None:
    received = exchange(server, keep_alive(login(CHUNKED)) + chunks)
    assert statuses(received)[:1] == [400]
    assert b"internal_error" not in received


def test_length_in_a_trailer_is_ignored_or_rejected(server: Server) -> None:
    trailer = chunk(BODY) + b"0\r\nContent-Length: 5\r\n\r\n"
    received = exchange(server, keep_alive(login(CHUNKED)) + trailer)
    assert statuses(received) in ([200], [400])
    assert b"internal_error" not in received


@pytest.mark.parametrize("chunks", [BAD_CHUNKS["not a number"], BAD_CHUNKS["size too small"], b"zz\r\n"])
def test_bytes_after_malformed_chunks_are_not_a_request(server: Server, chunks: bytes) -> None:
    assert statuses(exchange(server, keep_alive(login(CHUNKED)) + chunks + SMUGGLED)) == [400]


# Too long


def test_length_over_the_limit_is_rejected_before_the_body_is_sent(server: Server) -> None:
    for length in (LIMIT + 1, 10**6, 10**22):
        received = exchange(server, login(b"Content-Length: %d" % length))
        assert statuses(received) == [413]
        assert b"request_too_large" in received


def test_body_over_the_limit_is_rejected_and_not_read_as_requests(server: Server) -> None:
    body = SMUGGLED * (2 * LIMIT // len(SMUGGLED))
    for path in (b"/api/login", b"/api/token", b"/api/logout"):
        head = keep_alive(login(b"Content-Length: %d" % len(body), path=path))
        assert statuses(exchange(server, head + body)) == [413]


@pytest.mark.parametrize("size", [1, 1000, LIMIT, 100_000])
def test_chunked_body_over_the_limit_is_rejected_even_if_it_starts_well(server: Server, size: int) -> None:
    count = LIMIT // size + 1
    received = exchange(server, login(CHUNKED), chunk(BODY) + chunk(b" " * size) * count + END)
    assert statuses(received) == [413]
    assert b"request_too_large" in received


@pytest.mark.parametrize("path", [b"/api/token", b"/api/logout"])
def test_chunked_body_over_the_limit_is_rejected_on_routes_without_a_body(server: Server, path: bytes) -> None:
    received = exchange(server, login(CHUNKED, path=path), chunk(b" " * (LIMIT + 1)) + END)
    assert statuses(received) == [413]
    assert b"Set-Cookie" not in received


def test_endless_chunked_body_is_rejected_at_the_limit(server: Server) -> None:
    received = exchange(server, login(CHUNKED), chunk(BODY) + chunk(b" " * LIMIT), close=False)
    assert statuses(received) == [413]


def test_chunked_body_of_exactly_the_limit_is_served(server: Server) -> None:
    assert statuses(exchange(server, login(CHUNKED), chunk(BODY.ljust(LIMIT)) + END)) == [200]
    assert statuses(exchange(server, login(CHUNKED), chunk(BODY.ljust(LIMIT + 1)) + END)) == [413]


# Too short or too slow


def test_time_limit_of_the_database_does_not_include_a_slow_body(server: Server) -> None:
    head = login(b"Content-Length: %d" % len(BODY))
    assert statuses(exchange(server, head, BODY, pause=3.2)) == [200]


def test_body_that_no_route_reads_is_not_a_request(server: Server) -> None:
    head = keep_alive(login(b"Content-Length: %d" % len(SMUGGLED), path=b"/api/token"))
    assert statuses(exchange(server, head + SMUGGLED + get())) == [401, 401]


def test_truncated_body_is_rejected(server: Server) -> None:
    for sent in (b"", BODY[:20]):
        received = exchange(server, login(b"Content-Length: %d" % (len(BODY) + 100)), sent)
        assert statuses(received) == [400]
        assert b"internal_error" not in received


def test_truncated_body_that_is_complete_json_is_not_an_internal_error(server: Server) -> None:
    received = exchange(server, login(b"Content-Length: %d" % (len(BODY) + 100)), BODY)
    assert statuses(received) in ([200], [400])
    assert b"internal_error" not in received


@pytest.mark.parametrize(("path", "status"), [(b"/api/token", 401), (b"/api/logout", 204)])
def test_routes_without_a_body_do_not_wait_for_one(server: Server, path: bytes, status: int) -> None:
    # The connection stays open: a route that waited for the body would not respond.
    received = exchange(server, login(b"Content-Length: 100", path=path), close=False)
    assert statuses(received) == [status]


@pytest.mark.parametrize("beginning", [b"", b"G", b"GET /api/prot", b"GET / HTTP/1.1\r\n", get()[:-2]])
def test_incomplete_request_gets_no_response(server: Server, beginning: bytes) -> None:
    assert exchange(server, beginning) == b""


# Afterwards


def test_server_still_signs_users_in(server: Server) -> None:
    client = server.client
    assert client.login().status == 200
    assert client.refresh().status == 200


def test_address_behind_a_trusted_proxy_is_stored(databases: Databases, serve: Servers) -> None:
    url = databases("sqlite")
    with application(url) as app:
        create_user(app)
        server = serve(url, TOKENAPP_TRUSTED_PROXIES="127.0.0.1", WEB_CONCURRENCY="1")
        head = login(LENGTH, b"X-Forwarded-For: 198.51.100.1", b"X-Forwarded-For: 203.0.113.9")
        assert statuses(exchange(server, head, BODY)) == [200]
        with app.app_context():
            addresses = execute_now(sa.select(Session.ip_address))
    assert [row[0] for row in addresses] == ["203.0.113.9"]


def test_gunicorn_writes_nothing_to_the_home_directory(databases: Databases, serve: Servers, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    server = serve(databases("sqlite"), HOME=str(home), XDG_RUNTIME_DIR=str(home), WEB_CONCURRENCY="1")
    assert server.client.send("GET", "/healthz").status == 200
    assert list(home.rglob("*")) == []
