"""The guarantees and the limitations in docs/granian.md, under granian."""

import os
import re
import shlex
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Final

import pytest
import sqlalchemy as sa

from bench import ours
from tests.conftest import Databases
from tests.support.app import PASSWORD, ROOT, SETTINGS, application, create_user
from tests.support.concurrency import repeating, wait_until
from tests.support.followers import failures_of, followers, statuses_of
from tests.support.raw_http import BODY, CHUNKED, END, LENGTH, LIMIT, SMUGGLED, chunk, exchange, get, login, statuses
from tests.support.server import Server
from tokenapp import db
from tokenapp.models import Session

GUIDE: Final = ROOT / "docs/granian.md"
DELAY: Final = 1.0  # the default of TOKENAPP_REVOCATION_DELAY
Start = Callable[..., Server]


def command() -> str:
    """Return the start command of the guide, run with the current interpreter."""
    (found,) = re.findall(r"^```sh\n# start\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    program, _, flags = str(found).partition(" ")
    assert program == ".venv/bin/granian"
    return f"exec {shlex.quote(sys.executable)} -m granian {flags}"


@contextmanager
def under_granian(url: str, log: Path, **settings: str) -> Iterator[Server]:
    """Start a server with the guide's command, on a database with one user."""
    with application(url) as app:
        create_user(app)
    with Server(url, settings, log=log, command=("sh", "-c", command())) as server:
        started = len(server.workers())
        wait_until(lambda: lines(server, "Started worker") == started, seconds=20, what="the start of all workers")
        yield server


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def service(
    request: pytest.FixtureRequest, databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Yield a server with two workers per database; check for crashes at the end."""
    log = tmp_path_factory.mktemp("granian") / "server.log"
    with under_granian(databases(request.param), log) as server:
        workers = server.workers()
        yield server
        assert server.workers() == workers
    assert "Traceback" not in log.read_text()
    assert server.wait() == 0


@pytest.fixture(scope="module")
def server(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Yield a server for malformed requests; check for tracebacks at the end."""
    log = tmp_path_factory.mktemp("granian") / "server.log"
    with under_granian(databases("sqlite"), log, WEB_CONCURRENCY="1", TOKENAPP_TRUSTED_PROXIES="127.0.0.1") as server:
        yield server
    assert "Traceback" not in log.read_text()


@pytest.fixture
def start(databases: Databases, tmp_path: Path) -> Iterator[Start]:
    """Yield a function that starts a server for one test."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(
            under_granian(databases("sqlite"), tmp_path / "server.log", **settings)
        )


def send(server: Server, *pieces: bytes, pause: float = 0) -> bytes:
    """Send bytes and keep the connection open.

    granian does not respond to a client that closes its half of the connection.
    """
    return exchange(server, *pieces, close=False, pause=pause)


def lines(server: Server, text: str) -> int:
    return server.log.read_text().count(text)


# Requests that are served.


def test_user_signs_in_and_is_welcomed(service: Server) -> None:
    reply = service.client.login()
    assert reply.status == 200
    assert service.client.protected(reply.json["accessToken"]).json["message"].startswith("Welcome, alice!")


def test_refresh_rotates_and_replaced_token_works_in_the_grace_period(service: Server) -> None:
    first = service.client.login().cookie
    second = service.client.refresh(first).cookie
    assert second not in {None, first}
    assert {service.client.refresh(token).cookie for token in (first, second) * 4} == {second}


def test_revoked_session_is_rejected_by_every_worker_within_the_delay(service: Server) -> None:
    reply = service.client.login()
    bearer = reply.json["accessToken"]
    assert {service.client.protected(bearer).status for _ in range(16)} == {200}
    assert service.client.logout(reply.cookie).status == 204
    revoked = monotonic()
    assert service.client.refresh(reply.cookie).status == 403
    sleep(max(0, revoked + DELAY - monotonic()))
    assert {service.client.protected(bearer).status for _ in range(16)} == {403}


def test_without_a_proxy_forwarded_addresses_are_ignored(service: Server) -> None:
    before = lines(service, '"client":"127.0.0.1"')
    assert service.client.login(headers={"X-Forwarded-For": "203.0.113.9"}).status == 200
    assert lines(service, '"client":"127.0.0.1"') == before + 1


def test_each_worker_has_its_own_database_connections(service: Server) -> None:
    assert {service.client.login().status for _ in range(16)} == {200}
    sockets = [connections(pid) for pid in service.workers()]
    assert len(sockets) == 2
    assert not sockets[0] & sockets[1]
    assert all(sockets) or service.database_url.startswith("sqlite")


def connections(pid: int) -> set[str]:
    """Return the socket inodes of the established TCP connections of a process."""
    sockets = {str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir() if each.is_symlink()}
    tcp = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    established = {f"socket:[{fields[9]}]" for fields in tcp if fields[3] == "01"}
    return sockets & established


def test_no_secret_is_logged(service: Server) -> None:
    reply = service.client.login()
    assert service.client.refresh(reply.cookie).status == 200
    text = service.log.read_text()
    secrets = (PASSWORD, SETTINGS["SECRET_KEY"], str(reply.cookie), reply.json["accessToken"])
    assert [secret for secret in secrets if secret in text] == []


# Requests that granian or the application rejects, and how unusual requests are handled.


def test_body_over_the_limit_is_rejected(server: Server) -> None:
    assert statuses(send(server, login(b"Content-Length: %d" % (LIMIT + 1)))) == [413]


@pytest.mark.parametrize("path", [b"/api/login", b"/api/token", b"/api/logout"])
@pytest.mark.parametrize("size", [100, LIMIT])
def test_chunked_body_over_the_limit_is_rejected(server: Server, path: bytes, size: int) -> None:
    answer = send(server, login(CHUNKED, path=path) + chunk(BODY) + chunk(b" " * size) * (LIMIT // size + 1) + END)
    assert statuses(answer) == [413]
    assert b"request_too_large" in answer


def test_chunked_body_of_exactly_the_limit_is_served(server: Server) -> None:
    assert statuses(send(server, login(CHUNKED) + chunk(BODY.ljust(LIMIT)) + END)) == [200]


AMBIGUOUS: Final = {
    "two lengths": login(LENGTH, b"Content-Length: 4") + BODY,
    "two lengths in one line": login(LENGTH + b", 4") + BODY,
    "a negative length": login(b"Content-Length: -1") + BODY,
    "a length with a sign": login(b"Content-Length: +%d" % len(BODY)) + BODY,
    "a space before the colon": login(b"Content-Length : %d" % len(BODY)) + BODY,
    "chunked twice": login(CHUNKED, CHUNKED) + chunk(BODY) + END,
    "compressed and chunked": login(b"Transfer-Encoding: gzip, chunked") + chunk(BODY) + END,
    "identity": login(b"Transfer-Encoding: identity") + BODY,
    "chunks in HTTP/1.0": login(CHUNKED, version=b"1.0") + chunk(BODY) + END,
    "an invalid chunk size": login(CHUNKED) + b"zz\r\n" + BODY + b"\r\n" + END,
    "a chunk size that is too small": login(CHUNKED) + b"5\r\n" + BODY + b"\r\n" + END,
    "two hosts": get(b"Host: evil.example"),
    "a folded line": get(b"X: 1\r\n folded"),
    "a bare CR": get(b"X: a\rb"),
}


@pytest.mark.parametrize("ambiguous", AMBIGUOUS.values(), ids=AMBIGUOUS.keys())
def test_ambiguous_framing_is_rejected_with_all_later_requests(server: Server, ambiguous: bytes) -> None:
    answer = send(server, ambiguous + SMUGGLED)
    assert statuses(answer) == [400]
    assert b"accessToken" not in answer


def test_content_length_of_a_chunked_request_is_ignored_and_no_request_follows(server: Server) -> None:
    head = login(CHUNKED, b"Content-Length: 4").replace(b"Connection: close\r\n", b"")
    assert statuses(send(server, head + chunk(BODY) + END + SMUGGLED)) == [200]


def test_truncated_body_is_rejected(server: Server) -> None:
    opened, cut = lines(server, '"outcome":"opened"'), lines(server, '"reason":"truncated"')
    exchange(server, login(b"Content-Length: %d" % (len(BODY) + 100)) + BODY)
    wait_until(lambda: lines(server, '"reason":"truncated"') == cut + 1, what="the error")
    assert lines(server, '"outcome":"opened"') == opened


def test_missing_body_does_not_delay_a_route_that_reads_no_body(server: Server) -> None:
    assert statuses(send(server, login(b"Content-Length: 100", path=b"/api/token"))) == [401]


@pytest.mark.parametrize("cookies", [[b"refreshToken=%s; refreshToken=x"], [b"refreshToken=%s", b"refreshToken=x"]])
def test_two_refresh_cookies_are_rejected(server: Server, cookies: list[bytes]) -> None:
    token = str(server.client.login().cookie).encode()
    fields = [b"Cookie: " + each.replace(b"%s", token) for each in cookies]
    answer = send(server, login(*fields, path=b"/api/token"))
    assert statuses(answer) == [403]
    assert b"refresh_token_revoked" in answer


def test_refresh_cookie_is_found_in_a_second_cookie_header(server: Server) -> None:
    token = str(server.client.login().cookie).encode()
    assert statuses(send(server, login(b"Cookie: a=b", b"Cookie: refreshToken=" + token, path=b"/api/token"))) == [200]


def test_two_authorization_headers_are_rejected(server: Server) -> None:
    bearer = b"Authorization: Bearer " + server.client.login().json["accessToken"].encode()
    assert statuses(send(server, get(bearer))) == [200]
    answer = send(server, get(bearer, b"Authorization: Bearer x"))
    assert statuses(answer) == [400]
    assert b"invalid_request" in answer


def test_client_that_expects_100_continue_is_served(server: Server) -> None:
    answer = send(server, login(LENGTH, b"Expect: 100-continue"), BODY, pause=0.2)
    assert answer.startswith(b"HTTP/1.1 100 Continue")
    assert statuses(answer)[-1] == 200


def test_http_1_0_is_served_and_http_2_is_not(server: Server) -> None:
    assert statuses(send(server, b"GET /api/protected HTTP/1.0\r\n\r\n")) == [401]
    assert statuses(send(server, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9))) in ([], [400])
    upgrade = get(b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk").replace(b"close", b"Upgrade, HTTP2-Settings, close")
    assert statuses(send(server, upgrade)) == [401]


def test_oversized_headers_are_rejected_and_long_tokens_are_not(server: Server) -> None:
    assert statuses(send(server, get(b"Authorization: Bearer " + b"a" * 15000))) == [403]
    assert statuses(send(server, get(b"X: " + b"a" * 20000))) == [431]


def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    pipelined = SMUGGLED + get(target=b"/nothing").replace(b"Connection: close\r\n", b"") + get()
    assert statuses(send(server, pipelined)) == [200, 404, 401]


def test_behind_a_trusted_proxy_the_address_of_the_client_is_recorded(server: Server) -> None:
    head = login(LENGTH, b"X-Forwarded-For: 198.51.100.1", b"X-Forwarded-For: 203.0.113.9")
    assert statuses(send(server, head + BODY)) == [200]
    with application(server.database_url) as app, app.app_context():
        newest = sa.select(Session.ip_address).order_by(Session.created_at.desc()).limit(1)
        assert db.execute_now(newest)[0][0] == "203.0.113.9"


# Limitations in the guide. If one of these tests fails, granian has improved and the guide can be shortened.


def test_header_with_underscores_is_read_as_the_one_with_hyphens(server: Server) -> None:
    assert b"marker" in send(server, get(b"X_Request_ID: marker"))


def test_truncated_chunked_body_is_accepted_as_complete(server: Server) -> None:
    opened = lines(server, '"outcome":"opened"')
    exchange(server, login(CHUNKED) + chunk(BODY))
    wait_until(lambda: lines(server, '"outcome":"opened"') == opened + 1, what="the sign-in")


# Stop, reload and crash.


def test_stopping_server_responds_to_all_accepted_requests(start: Start) -> None:
    server = start()
    crowd = followers(server.port, 8)

    with repeating(*[follower.step_until_failure for follower in crowd]):
        sleep(0.5)
        os.kill(server.master, signal.SIGTERM)
        assert server.wait() == 0
        wait_until(lambda: all(follower.failures for follower in crowd), what="the end of all clients")
    answered = Counter(route for follower in crowd for _, route, _ in follower.responses)
    assert lines(server, "/api/token") == answered["token"], "a request was processed but got no response"
    assert statuses_of(crowd) == {200}
    # Connections that arrive while the listening socket is closed may be reset.
    others = [error for error in failures_of(crowd) if not isinstance(error, ConnectionRefusedError)]
    assert all(isinstance(error, ConnectionResetError) for error in others), others


def test_reload_executes_no_request_without_responding(start: Start) -> None:
    server = start()
    crowd, before = followers(server.port, 4, pause=0.02), set(server.workers())
    with repeating(*[follower.step for follower in crowd]):
        os.kill(server.master, signal.SIGHUP)
        wait_until(lambda: lines(server, "Stopped old worker") == 2, seconds=20, what="the end of the old workers")
        assert len(server.workers()) == 2
        assert not before & set(server.workers())
    answered = Counter(route for follower in crowd for _, route, _ in follower.responses)
    assert lines(server, "/api/token") == answered["token"], "a request was processed but got no response"
    assert statuses_of(crowd) == {200}
    # An old worker that stops closes a connection that it has accepted and has not read a request from.
    assert all(isinstance(error, ConnectionResetError) for error in failures_of(crowd)), failures_of(crowd)
    assert len(failures_of(crowd)) <= len(crowd)


def test_killed_worker_is_replaced(start: Start) -> None:
    server = start(WEB_CONCURRENCY="1")
    (worker,) = server.workers()
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: server.workers() not in ([], [worker]), what="a new worker")
    wait_until(lambda: lines(server, "Started worker") == 2, what="the start of the new worker")
    assert server.client.login().status == 200


def test_invalid_settings_are_listed_and_prevent_the_start(databases: Databases, tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    misconfigured = under_granian(databases("sqlite"), log, TOKENAPP_REFRESH_GRACE="11m", WEB_CONCURRENCY="1")
    with pytest.raises(AssertionError, match="it ended"), misconfigured:
        pass
    assert "TOKENAPP_REFRESH_GRACE" in log.read_text()


# The guide and the benchmark.


def test_granian_is_not_a_requirement_of_the_service() -> None:
    for name in ("requirements.in", "requirements.txt"):
        assert "granian" not in (ROOT / name).read_text()


def test_guide_names_the_tested_version() -> None:
    (pinned,) = re.findall(r"^granian==([^\s\\]+)", (ROOT / "requirements-dev.txt").read_text(), re.MULTILINE)
    assert set(re.findall(r"granian==(\S+)|with version (\S+),", GUIDE.read_text())) == {(pinned, ""), ("", pinned)}


def test_benchmark_uses_the_flags_of_the_guide() -> None:
    values = {"${PORT:-3005}": "3005", "${WEB_CONCURRENCY:-2}": "1", "${TOKENAPP_THREADS:-4}": "4"}
    words = shlex.split(command().removeprefix("exec ").replace("\\\n", ""))
    assert ours.under_granian(3005) == [values.get(word, word) for word in words]
