"""The service under granian, started as docs/granian.md says: what that page promises, and what it warns of."""

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
    """Return the guide's command, with this interpreter's granian."""
    (found,) = re.findall(r"^```sh\n# start\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    program, _, flags = str(found).partition(" ")
    assert program == ".venv/bin/granian"
    return f"exec {shlex.quote(sys.executable)} -m granian {flags}"


@contextmanager
def under_granian(url: str, log: Path, **settings: str) -> Iterator[Server]:
    """Give a server that was started as the guide says, on a database with one user."""
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
    """Give a service of two workers on each kind of database; at the end, show that nothing broke in it."""
    log = tmp_path_factory.mktemp("granian") / "server.log"
    with under_granian(databases(request.param), log) as server:
        workers = server.workers()
        yield server
        assert server.workers() == workers
    assert "Traceback" not in log.read_text()
    assert server.wait() == 0


@pytest.fixture(scope="module")
def server(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Give a service that is sent strange bytes; at the end, show that nothing broke in it."""
    log = tmp_path_factory.mktemp("granian") / "server.log"
    with under_granian(databases("sqlite"), log, WEB_CONCURRENCY="1", TOKENAPP_TRUSTED_PROXIES="127.0.0.1") as server:
        yield server
    assert "Traceback" not in log.read_text()


@pytest.fixture
def start(databases: Databases, tmp_path: Path) -> Iterator[Start]:
    """Give a function that starts a service of the test's own."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(
            under_granian(databases("sqlite"), tmp_path / "server.log", **settings)
        )


def send(server: Server, *pieces: bytes, pause: float = 0) -> bytes:
    """Send bytes and leave our half of the connection open: granian gives no answer to those who close it."""
    return exchange(server, *pieces, close=False, pause=pause)


def lines(server: Server, text: str) -> int:
    return server.log.read_text().count(text)


# What it serves.


def test_somebody_signs_in_and_is_welcome(service: Server) -> None:
    reply = service.client.login()
    assert reply.status == 200
    assert service.client.protected(reply.json["accessToken"]).json["message"].startswith("Welcome, alice!")


def test_a_refresh_rotates_and_the_replaced_token_has_its_grace(service: Server) -> None:
    first = service.client.login().cookie
    second = service.client.refresh(first).cookie
    assert second not in {None, first}
    assert {service.client.refresh(token).cookie for token in (first, second) * 4} == {second}


def test_a_session_that_ended_is_refused_by_every_worker_within_the_delay(service: Server) -> None:
    reply = service.client.login()
    bearer = reply.json["accessToken"]
    assert {service.client.protected(bearer).status for _ in range(16)} == {200}
    assert service.client.logout(reply.cookie).status == 204
    ended = monotonic()
    assert service.client.refresh(reply.cookie).status == 403
    sleep(max(0, ended + DELAY - monotonic()))
    assert {service.client.protected(bearer).status for _ in range(16)} == {403}


def test_without_a_proxy_the_address_is_the_peer_s_whatever_it_says(service: Server) -> None:
    before = lines(service, '"client":"127.0.0.1"')
    assert service.client.login(headers={"X-Forwarded-For": "203.0.113.9"}).status == 200
    assert lines(service, '"client":"127.0.0.1"') == before + 1


def test_each_worker_has_database_connections_of_its_own(service: Server) -> None:
    assert {service.client.login().status for _ in range(16)} == {200}
    sockets = [connections(pid) for pid in service.workers()]
    assert len(sockets) == 2
    assert not sockets[0] & sockets[1]
    assert all(sockets) or service.database_url.startswith("sqlite")


def connections(pid: int) -> set[str]:
    """Return the TCP connections of a process, by the kernel's numbers."""
    kept = {str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir() if each.is_symlink()}
    tcp = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    established = {f"socket:[{fields[9]}]" for fields in tcp if fields[3] == "01"}
    return kept & established


def test_nothing_secret_is_written(service: Server) -> None:
    reply = service.client.login()
    assert service.client.refresh(reply.cookie).status == 200
    text = service.log.read_text()
    secrets = (PASSWORD, SETTINGS["SECRET_KEY"], str(reply.cookie), reply.json["accessToken"])
    assert [secret for secret in secrets if secret in text] == []


# What it refuses, or leaves to us.


def test_a_body_over_the_limit_is_refused(server: Server) -> None:
    assert statuses(send(server, login(b"Content-Length: %d" % (LIMIT + 1)))) == [413]


@pytest.mark.parametrize("path", [b"/api/login", b"/api/token", b"/api/logout"])
@pytest.mark.parametrize("size", [100, LIMIT])
def test_a_chunked_body_over_the_limit_is_refused(server: Server, path: bytes, size: int) -> None:
    answer = send(server, login(CHUNKED, path=path) + chunk(BODY) + chunk(b" " * size) * (LIMIT // size + 1) + END)
    assert statuses(answer) == [413]
    assert b"request_too_large" in answer


def test_a_chunked_body_of_exactly_the_limit_is_served(server: Server) -> None:
    assert statuses(send(server, login(CHUNKED) + chunk(BODY.ljust(LIMIT)) + END)) == [200]


DOUBTFUL: Final = {
    "two lengths": login(LENGTH, b"Content-Length: 4") + BODY,
    "two lengths in one line": login(LENGTH + b", 4") + BODY,
    "a negative length": login(b"Content-Length: -1") + BODY,
    "a length with a sign": login(b"Content-Length: +%d" % len(BODY)) + BODY,
    "a space before the colon": login(b"Content-Length : %d" % len(BODY)) + BODY,
    "chunked twice": login(CHUNKED, CHUNKED) + chunk(BODY) + END,
    "compressed and chunked": login(b"Transfer-Encoding: gzip, chunked") + chunk(BODY) + END,
    "identity": login(b"Transfer-Encoding: identity") + BODY,
    "chunks in HTTP/1.0": login(CHUNKED, version=b"1.0") + chunk(BODY) + END,
    "a size that is none": login(CHUNKED) + b"zz\r\n" + BODY + b"\r\n" + END,
    "a size too small": login(CHUNKED) + b"5\r\n" + BODY + b"\r\n" + END,
    "two hosts": get(b"Host: evil.example"),
    "a folded line": get(b"X: 1\r\n folded"),
    "a bare CR": get(b"X: a\rb"),
}


@pytest.mark.parametrize("doubtful", DOUBTFUL.values(), ids=DOUBTFUL.keys())
def test_doubtful_framing_is_refused_with_all_that_follows(server: Server, doubtful: bytes) -> None:
    answer = send(server, doubtful + SMUGGLED)
    assert statuses(answer) == [400]
    assert b"accessToken" not in answer


def test_a_length_beside_chunks_is_not_gone_by_and_nothing_follows_it(server: Server) -> None:
    head = login(CHUNKED, b"Content-Length: 4").replace(b"Connection: close\r\n", b"")
    assert statuses(send(server, head + chunk(BODY) + END + SMUGGLED)) == [200]


def test_a_body_that_is_cut_off_is_refused(server: Server) -> None:
    opened, cut = lines(server, '"outcome":"opened"'), lines(server, '"reason":"cut off"')
    exchange(server, login(b"Content-Length: %d" % (len(BODY) + 100)) + BODY)
    wait_until(lambda: lines(server, '"reason":"cut off"') == cut + 1, what="the refusal")
    assert lines(server, '"outcome":"opened"') == opened


def test_a_body_that_does_not_come_holds_up_no_route_that_reads_none(server: Server) -> None:
    assert statuses(send(server, login(b"Content-Length: 100", path=b"/api/token"))) == [401]


@pytest.mark.parametrize("cookies", [[b"refreshToken=%s; refreshToken=x"], [b"refreshToken=%s", b"refreshToken=x"]])
def test_two_refresh_cookies_are_refused(server: Server, cookies: list[bytes]) -> None:
    token = str(server.client.login().cookie).encode()
    fields = [b"Cookie: " + each.replace(b"%s", token) for each in cookies]
    answer = send(server, login(*fields, path=b"/api/token"))
    assert statuses(answer) == [403]
    assert b"refresh_token_revoked" in answer


def test_our_cookie_is_found_in_a_cookie_header_of_its_own(server: Server) -> None:
    token = str(server.client.login().cookie).encode()
    assert statuses(send(server, login(b"Cookie: a=b", b"Cookie: refreshToken=" + token, path=b"/api/token"))) == [200]


def test_two_credentials_are_refused(server: Server) -> None:
    bearer = b"Authorization: Bearer " + server.client.login().json["accessToken"].encode()
    assert statuses(send(server, get(bearer))) == [200]
    answer = send(server, get(bearer, b"Authorization: Bearer x"))
    assert statuses(answer) == [400]
    assert b"invalid_request" in answer


def test_a_client_that_asks_before_it_sends_is_served(server: Server) -> None:
    answer = send(server, login(LENGTH, b"Expect: 100-continue"), BODY, pause=0.2)
    assert answer.startswith(b"HTTP/1.1 100 Continue")
    assert statuses(answer)[-1] == 200


def test_http_1_0_is_served_and_http_2_is_not(server: Server) -> None:
    assert statuses(send(server, b"GET /api/protected HTTP/1.0\r\n\r\n")) == [401]
    assert statuses(send(server, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9))) in ([], [400])
    upgrade = get(b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk").replace(b"close", b"Upgrade, HTTP2-Settings, close")
    assert statuses(send(server, upgrade)) == [401]


def test_too_long_headers_are_refused_and_a_long_token_reaches_us(server: Server) -> None:
    assert statuses(send(server, get(b"Authorization: Bearer " + b"a" * 15000))) == [403]
    assert statuses(send(server, get(b"X: " + b"a" * 20000))) == [431]


def test_requests_in_a_row_are_answered_in_their_order(server: Server) -> None:
    row = SMUGGLED + get(target=b"/nothing").replace(b"Connection: close\r\n", b"") + get()
    assert statuses(send(server, row)) == [200, 404, 401]


def test_behind_a_trusted_proxy_the_client_s_address_is_recorded(server: Server) -> None:
    head = login(LENGTH, b"X-Forwarded-For: 198.51.100.1", b"X-Forwarded-For: 203.0.113.9")
    assert statuses(send(server, head + BODY)) == [200]
    with application(server.database_url) as app, app.app_context():
        newest = sa.select(Session.ip_address).order_by(Session.created_at.desc()).limit(1)
        assert db.execute_now(newest)[0][0] == "203.0.113.9"


# What the guide warns of: if one of these fails, granian has learnt it, and the guide can say less.


def test_a_header_with_underscores_is_taken_for_the_one_with_dashes(server: Server) -> None:
    assert b"marker" in send(server, get(b"X_Request_ID: marker"))


def test_a_chunked_body_that_is_cut_off_is_taken_for_a_whole_one(server: Server) -> None:
    opened = lines(server, '"outcome":"opened"')
    exchange(server, login(CHUNKED) + chunk(BODY))
    wait_until(lambda: lines(server, '"outcome":"opened"') == opened + 1, what="the sign-in")


# Stopping, starting anew, and falling.


def test_a_server_that_is_told_to_stop_answers_what_it_accepted(start: Start) -> None:
    server = start()
    crowd = followers(server.port, 8)

    with repeating(*[follower.step_until_failure for follower in crowd]):
        sleep(0.5)
        os.kill(server.master, signal.SIGTERM)
        assert server.wait() == 0
        wait_until(lambda: all(follower.failures for follower in crowd), what="the end of all clients")
    answered = Counter(route for follower in crowd for _, route, _ in follower.responses)
    assert lines(server, "/api/token") == answered["token"], "a request was served and not answered"
    assert statuses_of(crowd) == {200}
    # A connection that arrives at the moment at which the listening socket is closed may be reset.
    reset = [error for error in failures_of(crowd) if not isinstance(error, ConnectionRefusedError)]
    assert len(reset) <= 1, reset


def test_a_reload_fails_no_request(start: Start) -> None:
    server = start()
    crowd, before = followers(server.port, 4, pause=0.02), set(server.workers())
    with repeating(*[follower.step for follower in crowd]):
        os.kill(server.master, signal.SIGHUP)
        wait_until(lambda: lines(server, "Stopped old worker") == 2, seconds=20, what="the end of the old workers")
        assert len(server.workers()) == 2
        assert not before & set(server.workers())
    assert failures_of(crowd) == []
    assert statuses_of(crowd) == {200}


def test_a_worker_that_is_killed_is_replaced(start: Start) -> None:
    server = start(WEB_CONCURRENCY="1")
    (worker,) = server.workers()
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: server.workers() not in ([], [worker]), what="a new worker")
    wait_until(lambda: lines(server, "Started worker") == 2, what="its start")
    assert server.client.login().status == 200


def test_faults_in_the_settings_are_listed_and_nothing_starts(databases: Databases, tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    faulty = under_granian(databases("sqlite"), log, TOKENAPP_REFRESH_GRACE="11m", WEB_CONCURRENCY="1")
    with pytest.raises(AssertionError, match="it ended"), faulty:
        pass
    assert "TOKENAPP_REFRESH_GRACE" in log.read_text()


# The guide and the benchmark.


def test_the_service_does_not_need_it() -> None:
    for name in ("requirements.in", "requirements.txt"):
        assert "granian" not in (ROOT / name).read_text()


def test_the_guide_names_the_version_that_is_tested() -> None:
    (pinned,) = re.findall(r"^granian==(\S+)$", (ROOT / "requirements-dev.txt").read_text(), re.MULTILINE)
    assert set(re.findall(r"granian==(\S+)|with version (\S+),", GUIDE.read_text())) == {(pinned, ""), ("", pinned)}


def test_the_benchmark_starts_it_with_the_flags_of_the_guide() -> None:
    values = {"${PORT:-3005}": "3005", "${WEB_CONCURRENCY:-2}": "1", "${TOKENAPP_THREADS:-4}": "4"}
    told = shlex.split(command().removeprefix("exec ").replace("\\\n", ""))
    assert ours.under_granian(3005) == [values.get(word, word) for word in told]
