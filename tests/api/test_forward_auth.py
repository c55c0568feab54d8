"""Forward authentication: `/api/verify`, alone and behind a real nginx."""

import http.server
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import sleep
from typing import Any
from urllib.parse import unquote

import pytest
from flask import Flask

from tests.conftest import Databases, Servers
from tests.support.app import ROOT, application, create_user, make_app
from tests.support.client import Client, Response, claims_of, sign_in
from tests.support.concurrency import wait_until
from tests.support.programs import find_program
from tests.support.server import Server, free_port

# The route


def test_verify_returns_the_user_and_the_session(app: Flask) -> None:
    user_id = create_user(app, "zoë müller")
    client = sign_in(app, "zoë müller")
    response = client.call("GET", "/api/verify")
    assert (response.status, response.body) == (204, b"")
    assert unquote(response.header("X-Auth-User") or "") == "zoë müller"
    assert (response.header("X-Auth-Subject"), response.header("X-Auth-Session")) == (user_id, client.sid)


def test_verify_returns_401_without_and_403_with_an_invalid_token(app: Flask) -> None:
    client = Client(app)
    assert client.send("GET", "/api/verify").status == 401
    assert client.send("GET", "/api/verify", bearer="x").status == 403


def test_verify_returns_403_for_two_credentials(app: Flask) -> None:
    # Proxies know no other statuses than success, 401 and 403.
    assert Client(app).send("GET", "/api/verify", bearer="x, Bearer y").code == "access_token_invalid"


METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "ANYTHING")
PATHS = ("/", "/orders/7", "//", "/a//b/", "/..%2fx", "/x%0Ay", "/%00", "/%ff", "/api/login", "/" + "a" * 2000)


@pytest.mark.parametrize("method", METHODS)
def test_verify_checks_any_method(app: Flask, method: str) -> None:
    create_user(app)
    client = sign_in(app)
    response = client.call(method, "/api/verify")
    assert (response.status, response.header("X-Auth-Session"), response.body) == (204, client.sid, b"")
    assert client.call(method, "/api/verify", bearer=None).status == 401
    assert client.call(method, "/api/verify", bearer="x").status == 403


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path[:20])
def test_verify_answers_200_below_its_path_because_envoy_knows_no_other_success(app: Flask, path: str) -> None:
    create_user(app)
    client = sign_in(app)
    for method in ("GET", "POST", "OPTIONS"):
        response = client.call(method, f"/api/verify{path}?a=b")
        assert (response.status, response.header("X-Auth-Session"), response.body) == (200, client.sid, b"")
        assert client.call(method, f"/api/verify{path}", bearer=None).status == 401
        assert client.call(method, f"/api/verify{path}", bearer="x").status == 403


@pytest.mark.parametrize("path", ["/api/verifyx", "/api/verif", "/api/Verify/x"])
def test_path_beside_verify_is_not_found(app: Flask, path: str) -> None:
    assert Client(app).send("GET", path).status == 404


def test_preflight_to_the_application_is_not_let_through_by_verify(databases: Databases) -> None:
    app = make_app(databases("sqlite"), TOKENAPP_ALLOWED_ORIGINS="https://app.example.com")
    headers = {"Origin": "https://app.example.com", "Access-Control-Request-Method": "POST"}
    for path in ("/api/verify", "/api/verify/orders"):
        assert Client(app).send("OPTIONS", path, headers=headers).status == 401


def test_paths_of_an_application_make_no_names_in_the_log(app: Flask, capfd: pytest.CaptureFixture[str]) -> None:
    Client(app).send("POST", "/api/verify/orders/7?secret=1")
    log = capfd.readouterr().err
    assert "/api/verify/<rest>" in log
    assert "orders" not in log


# The proxy


class Proxy:
    """A proxy in front of an application, and the service that it asks.

    `received` has the headers of the requests that reached the application.
    """

    def __init__(self, port: int, service: Server, received: list[dict[str, str]]) -> None:
        self.client, self.service, self.received = Client(port), service, received

    def get(self, bearer: str | None = None, **headers: str) -> Response:
        """Call the application through the proxy."""
        return self.client.send("GET", "/page", bearer=bearer, headers=headers)

    def sign_in(self) -> Client:
        """Sign in to the service itself."""
        return sign_in(self.service.port)


@contextmanager
def unprotected_application(received: list[dict[str, str]]) -> Iterator[int]:
    """Run an application without authentication and return its port.

    It adds the headers of each request to `received`.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            received.append({name.lower(): value for name, value in self.headers.items()})
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@contextmanager
def nginx(folder: Path, service: int, behind: int) -> Iterator[int]:
    """Run nginx with the guide's configuration on a free port; return the port."""
    program = find_program("nginx")
    port = free_port()
    site = (ROOT / "docs/deploy/forward-auth.conf").read_text()
    for documented, used in (
        ("listen 8080", f"listen 127.0.0.1:{port}"),
        (":3005", f":{service}"),
        (":8000", f":{behind}"),
    ):
        assert site.count(documented) == 1
        site = site.replace(documented, used)
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
        wait_until(lambda: is_up(port), what="nginx")
        yield port
    finally:
        process.terminate()
        process.wait(30)


def is_up(port: int) -> bool:
    try:
        return Client(port).send("GET", "/").status > 0
    except OSError:
        return False


@pytest.fixture
def proxy(databases: Databases, serve: Servers, tmp_path: Path) -> Iterator[Proxy]:
    """Return a proxy in front of an application, and the service that it asks."""
    url = databases("sqlite")
    with application(url) as app:
        create_user(app)
    service, received = serve(url), list[dict[str, str]]()
    with ExitStack() as stack:
        behind = stack.enter_context(unprotected_application(received))
        port = stack.enter_context(nginx(tmp_path, service.port, behind))
        received.clear()
        yield Proxy(port, service, received)


def test_only_requests_with_a_valid_token_pass(proxy: Proxy) -> None:
    rejected = proxy.get()
    assert (rejected.status, rejected.header("WWW-Authenticate")) == (401, 'Bearer realm="tokenapp-api"')
    client = proxy.sign_in()
    token = client.token or ""
    for bad in ("x", token[:-2], client.cookie):
        assert proxy.get(bad).status == 403
    assert proxy.get(Authorization=f"Bearer {token}, Bearer x").status == 403
    assert proxy.received == []


def test_application_receives_the_user_of_the_token_and_no_forged_one(proxy: Proxy) -> None:
    client = proxy.sign_in()
    forged = {"X-Auth-User": "root", "X-Auth-Subject": "0", "X-Auth-Session": "0", "x_auth_user": "root"}
    assert proxy.get(client.token, **forged).status == 200
    (received,) = proxy.received
    claims = claims_of(client.token or "")
    assert received["x-auth-user"] == "alice"
    assert (received["x-auth-subject"], received["x-auth-session"]) == (claims["sub"], claims["sid"])
    assert "root" not in received.values()


def test_token_of_a_revoked_session_is_rejected_within_the_delay(proxy: Proxy) -> None:
    client = proxy.sign_in()
    assert proxy.get(client.token).status == 200
    client.logout()
    sleep(1)  # the default of TOKENAPP_REVOCATION_DELAY
    assert {proxy.get(client.token).status for _ in range(8)} == {403}


def test_nginx_replaces_the_client_address_that_a_client_sends(tmp_path: Path) -> None:
    received: list[dict[str, str]] = []
    with unprotected_application(received) as behind, nginx(tmp_path, behind, behind) as port:
        assert Client(port).send("GET", "/page", headers={"X-Forwarded-For": "192.0.2.1"}).status == 200
    assert {headers["x-forwarded-for"] for headers in received} == {"127.0.0.1"}


def test_no_request_passes_while_the_service_is_down(proxy: Proxy) -> None:
    token = proxy.sign_in().token
    proxy.service.__exit__()
    response = proxy.get(token)
    assert (response.status, response.header("Retry-After")) == (503, "2")
    proxy.service.__enter__()
    assert proxy.get(token).status == 200
    assert len(proxy.received) == 1
