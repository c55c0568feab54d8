"""A real nginx that asks us about each request before it passes it on to an application without any sign-in."""

import http.server
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import sleep
from typing import Any

import pytest

from tests.conftest import Databases, Servers
from tests.support.app import ROOT, create_user, make_app
from tests.support.client import Client
from tests.support.concurrency import wait_until
from tests.support.server import Server, free_port


class Front:
    """The proxy, the service behind it, and what reached the application."""

    def __init__(self, port: int, service: Server, reached: list[dict[str, str]]) -> None:
        self.client, self.service, self.reached = Client(port), service, reached

    def get(self, bearer: str | None = None, **headers: str) -> Any:
        """Call the application through the proxy."""
        return self.client.send("GET", "/page", bearer=bearer, headers=headers)


@contextmanager
def application(reached: list[dict[str, str]]) -> Iterator[int]:
    """Run an application that answers everybody, and notes the header fields that it was sent."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            reached.append({name.lower(): value for name, value in self.headers.items()})
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@contextmanager
def nginx(folder: Path, service: int, behind: int) -> Iterator[int]:
    """Run nginx with the configuration of the guide; only ports are ours."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        (pytest.fail if os.environ.get("REQUIRE_SERVERS") else pytest.skip)("nginx is not installed")
    port = free_port()
    site = (ROOT / "docs/deploy/forward-auth.conf").read_text()
    for ours, given in (("listen 8080", f"listen 127.0.0.1:{port}"), (":3005", f":{service}"), (":8000", f":{behind}")):
        assert site.count(ours) == 1
        site = site.replace(ours, given)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    user = "user root;" if os.getuid() == 0 else ""
    main = (
        f"{user} daemon off; pid {folder}/pid; error_log {folder}/error.log; events {{}} http {{ {paths}\n{site} }}\n"
    )
    (folder / "main.conf").write_text(main)
    command = [program, "-e", f"{folder}/error.log", "-c", f"{folder}/main.conf"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: answers(port), what="nginx")
        yield port
    finally:
        process.terminate()
        process.wait(5)


def answers(port: int) -> bool:
    try:
        return Client(port).send("GET", "/").status > 0
    except OSError:
        return False


@pytest.fixture
def front(databases: Databases, serve: Servers, tmp_path: Path) -> Iterator[Front]:
    """Give the proxy in front of an application, with the service beside it."""
    url = databases("sqlite")
    create_user(make_app(url))
    service, reached = serve(url), list[dict[str, str]]()
    with ExitStack() as stack:
        behind = stack.enter_context(application(reached))
        port = stack.enter_context(nginx(tmp_path, service.port, behind))
        reached.clear()
        yield Front(port, service, reached)


def test_nothing_passes_without_a_good_token(front: Front) -> None:
    refused = front.get()
    assert (refused.status, refused.header("WWW-Authenticate")) == (401, 'Bearer realm="tokenapp-api"')
    good = front.service.client.login()
    for bad in ("x", good.json["accessToken"][:-2], good.cookie):
        assert front.get(bad).status == 403
    assert front.get(Authorization=f"Bearer {good.json['accessToken']}, Bearer x").status == 403
    assert front.reached == []


def test_the_application_is_told_who_it_is_by_us_alone(front: Front) -> None:
    token = front.service.client.login().json["accessToken"]
    forged = {"X-Auth-User": "root", "X-Auth-Subject": "0", "X-Auth-Session": "0", "x_auth_user": "root"}
    assert front.get(token, **forged).status == 200
    (sent,) = front.reached
    assert sent["x-auth-user"] == "alice"
    assert "0" not in {sent["x-auth-subject"], sent["x-auth-session"]}
    assert "root" not in sent.values()


def test_whoever_signed_out_is_locked_out_within_the_delay(front: Front) -> None:
    reply = front.service.client.login()
    assert front.get(reply.json["accessToken"]).status == 200
    front.service.client.logout(reply.cookie)
    sleep(1)
    assert {front.get(reply.json["accessToken"]).status for _ in range(8)} == {403}


def test_while_the_service_is_away_nobody_passes(front: Front) -> None:
    token = front.service.client.login().json["accessToken"]
    front.service.__exit__()
    reply = front.get(token)
    assert (reply.status, reply.header("Retry-After")) == (503, "2")
    front.service.__enter__()
    assert front.get(token).status == 200
    assert len(front.reached) == 1
