"""The service in production behind nginx, with the configuration of docs/deploy."""

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.server.conftest import PRODUCTION, Site
from tests.support.app import PASSWORD, ROOT, environment
from tests.support.client import Client, Response
from tests.support.concurrency import repeating, wait_until
from tests.support.followers import Follower, failures_of, responses_of, statuses_of
from tests.support.programs import find_program
from tests.support.server import free_port
from tests.support.tls import LOGIN, Sites, TlsClient
from tokenapp import errors
from tokenapp.http.problems import RETRY_SECONDS

JSON = {"Content-Type": "application/json"}
LIMIT = 16 * 1024


def assert_error(response: Response, error: type[errors.TokenappError]) -> None:
    """Check that nginx's own response equals the service's, but for the id."""
    problem = response.json
    assert problem.pop("requestId") == response.header("X-Request-ID")
    assert response.status == error.status
    assert problem == {
        "type": f"urn:tokenapp:error:{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": error.message,
        "code": error.code,
        "message": error.message,
    }
    assert response.header("Content-Type") == "application/problem+json"
    assert response.header("Cache-Control") == "no-store"
    assert response.header("Strict-Transport-Security") == "max-age=31536000"
    assert response.header("X-Content-Type-Options") == "nosniff"
    assert response.all("Set-Cookie") == []


def followers_of(nginx: Sites) -> list[Follower]:
    """Sign in three clients that keep refreshing."""
    crowd = [Follower(TlsClient(nginx)) for _ in range(3)]
    assert {follower.client.login().status for follower in crowd} == {200}
    return crowd


def wait_for_more(crowd: list[Follower]) -> None:
    """Wait until the followers have got 20 more responses."""
    enough = len(responses_of(crowd)) + 20
    wait_until(lambda: len(responses_of(crowd)) > enough, seconds=30, what="responses")


def test_session_is_opened_refreshed_and_revoked_over_tls(site: Site) -> None:
    client = site.client()
    opened = client.login(headers={"Origin": f"https://{LOGIN}"})
    assert (opened.status, opened.header("Strict-Transport-Security")) == (200, "max-age=31536000")
    name, *attributes = str(opened.header("Set-Cookie")).split("; ")
    assert name.startswith("__Host-refreshToken=")
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=Strict"} <= set(attributes)
    refreshed = client.refresh()
    assert (refreshed.status, refreshed.cookie == opened.cookie) == (200, False)
    assert client.protected().json["message"].startswith("Welcome, alice!")
    assert client.logout().status == 204
    assert client.refresh(refreshed.cookie).status == 403


@pytest.mark.parametrize("forged", [{}, {"X-Forwarded-For": "203.0.113.9"}, {"X-Forwarded-For": "127.0.0.1, 1.2.3.4"}])
def test_recorded_address_is_that_of_the_client(site: Site, forged: dict[str, str]) -> None:
    client = site.client("127.0.0.7")
    client.login(headers=forged)
    items = client.call("GET", "/api/sessions").json["items"]
    assert [item["ipAddress"] for item in items if item["current"]] == ["127.0.0.7"]


def test_plain_http_is_redirected_to_https(site: Site) -> None:
    response = Client(site.nginx.plain_port).send("GET", "/docs?x=1", headers={"Host": "evil.example"})
    assert (response.status, response.header("Location")) == (301, f"https://{LOGIN}/docs?x=1")


def test_body_of_the_maximum_size_is_accepted(site: Site) -> None:
    body = json.dumps({"username": "alice", "password": PASSWORD}).encode().ljust(LIMIT)
    assert site.client().send("POST", "/api/login", body=body, headers=JSON).status == 200


@pytest.mark.parametrize("chunked", [False, True])
def test_nginx_rejects_a_larger_body_with_the_error_of_the_service(site: Site, *, chunked: bool) -> None:
    large = b" " * (LIMIT + 1)
    response = site.client().send("POST", "/api/login", body=iter([large]) if chunked else large, headers=JSON)
    assert_error(response, errors.RequestTooLarge)


def test_nginx_sends_the_error_of_the_service_while_that_is_stopped(tmp_path: Path) -> None:
    with Sites(tmp_path, free_port(), LOGIN, {}) as nginx:
        response = TlsClient(nginx).refresh("any")
    assert_error(response, errors.ServiceUnavailable)
    assert response.header("Retry-After") == str(RETRY_SECONDS)


@pytest.mark.parametrize(
    "rest",
    ["X-Slow: ", 'Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"username": '],
    ids=["half a header", "half a body"],
)
def test_slow_clients_do_not_delay_others(site: Site, rest: str) -> None:
    part = f"POST /api/login HTTP/1.1\r\nHost: {LOGIN}\r\n{rest}".encode()
    with ExitStack() as stack:
        slow = [stack.enter_context(site.nginx.connect(f"127.0.1.{number + 1}")) for number in range(30)]
        for connection in slow:
            connection.sendall(part)
        client = site.client()
        responses = [client.login(), *(client.protected() for _ in range(8))]
        assert {response.status for response in responses} == {200}
        for connection in slow:
            connection.settimeout(0)
            with pytest.raises(ssl.SSLWantReadError):  # nginx still waits: it has not timed out
                connection.recv(1)


def test_nginx_rejects_malformed_http_itself(site: Site) -> None:
    with site.nginx.connect() as connection:
        connection.sendall(f"GET / HTTP/1.1\r\nHost: {LOGIN}\r\nContent-Length: x\r\n\r\n".encode())
        received = connection.recv(65536)
    assert received.startswith(b"HTTP/1.1 400 ")
    assert b"nginx" in received


def test_reload_fails_no_request(site: Site) -> None:
    crowd, before = followers_of(site.nginx), set(site.server.workers())
    with repeating(*[follower.step for follower in crowd]):
        os.kill(site.server.master, signal.SIGHUP)
        wait_until(lambda: not before & set(site.server.workers()), seconds=30, what="new workers")
        wait_for_more(crowd)
    assert (failures_of(crowd), statuses_of(crowd)) == ([], {200})


@contextmanager
def activated(listener: socket.socket, database: str, log: Path) -> Iterator[None]:
    """Start gunicorn as systemd does for a socket unit, with descriptor 3."""
    command = f'exec 3<&{listener.fileno()}; LISTEN_PID=$$ LISTEN_FDS=1 exec "{sys.executable}" -m gunicorn'
    with log.open("ab") as output:
        process = subprocess.Popen(
            [find_program("bash"), "-c", command],
            cwd=ROOT,
            env=environment(DATABASE_URL=database, PORT=str(free_port()), **PRODUCTION),
            pass_fds=[listener.fileno()],
            stdout=output,
            stderr=output,
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(25)


def test_restart_under_the_socket_unit_fails_no_request(database: str, tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        nginx = stack.enter_context(Sites(tmp_path, listener.getsockname()[1], LOGIN, {}))
        first = stack.enter_context(ExitStack())
        first.enter_context(activated(listener, database, log))
        crowd = followers_of(nginx)
        with repeating(*[follower.step for follower in crowd]):
            wait_for_more(crowd)
            first.close()
            stack.enter_context(activated(listener, database, log))
            wait_for_more(crowd)
    assert (failures_of(crowd), statuses_of(crowd)) == ([], {200})
