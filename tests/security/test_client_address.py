"""Client addresses behind proxies and unix sockets, in every usual notation."""

import http.client
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask

from tests.conftest import Databases
from tests.support.app import create_user, make_app
from tests.support.client import Client, sign_in
from tests.support.server import Server, free_port

HOPS = {
    "203.0.113.7": "203.0.113.7",
    "203.0.113.7:52344": "203.0.113.7",
    '"203.0.113.7"': "203.0.113.7",
    "::ffff:203.0.113.7": "203.0.113.7",
    "[::ffff:203.0.113.7]:1234": "203.0.113.7",
    "2001:db8::7": "2001:db8::7",
    "[2001:db8::7]": "2001:db8::7",
    "[2001:db8::7]:52344": "2001:db8::7",
    '"[2001:db8::7]:52344"': "2001:db8::7",
    "fe80::1%eth0": "fe80::1",
    "203.0.113.7, 10.0.0.4:443": "203.0.113.7",
    "203.0.113.7\t,\t10.0.0.4": "203.0.113.7",
    "203.0.113.7, , ,10.0.0.4,": "203.0.113.7",
    "203.0.113.7, ::ffff:10.0.0.4, [::ffff:a00:5]:443": "203.0.113.7",
    "198.51.100.1, 203.0.113.7" + ", 10.0.0.4" * 500: "203.0.113.7",
    "unknown, 203.0.113.7": "203.0.113.7",
    "::FFFF:CB00:7107": "203.0.113.7",
    "2001:DB8:0:0::7": "2001:db8::7",
    "[2001:DB8::7]:443": "2001:db8::7",
    "[fe80::1%25eth0]:443": "fe80::1",
}


@pytest.fixture
def proxied(databases: Databases) -> Flask:
    app = make_app(databases("sqlite"), TOKENAPP_TRUSTED_PROXIES="127.0.0.1,10.0.0.0/8,::ffff:127.0.0.1")
    create_user(app)
    return app


def address_of(client: Client) -> str | None:
    (device,) = client.call("GET", "/api/sessions").json["items"]
    address: str | None = device["ipAddress"]
    return address


@pytest.mark.parametrize(("sent", "address"), HOPS.items())
def test_forwarded_address_is_recognised(proxied: Flask, sent: str, address: str) -> None:
    client = Client(proxied)
    client.login(headers={"X-Forwarded-For": sent})
    assert address_of(client) == address


MALFORMED = (
    *("unknown", "_hidden", "_SEVKISEK:1", "203.0.113.7, unknown", "203.0.113.7, _hidden, 127.0.0.1"),
    *("203.0.113.7:port", "[::1", "203.0.113.256", "203.0.113.07", "2001:db8::7::1", "", ",", " , ", "%00", '"'),
)


@pytest.mark.parametrize("sent", MALFORMED)
def test_malformed_address_is_ignored(proxied: Flask, sent: str) -> None:
    client = Client(proxied)
    client.login(headers={"X-Forwarded-For": sent})
    assert address_of(client) == "127.0.0.1"


def test_peer_that_is_no_trusted_proxy_cannot_choose_its_address(proxied: Flask) -> None:
    client = Client(proxied)
    client.login(headers={"X-Forwarded-For": "203.0.113.7"}, environ={"REMOTE_ADDR": "198.51.100.1"})
    assert address_of(client) == "198.51.100.1"


def test_mapped_peer_is_shown_as_ipv4(proxied: Flask) -> None:
    client = Client(proxied)
    client.login(environ={"REMOTE_ADDR": "::ffff:198.51.100.1"})
    assert address_of(client) == "198.51.100.1"


@pytest.mark.parametrize("sent", ["for=203.0.113.7", 'for="[2001:db8::7]:4711"', "for=unknown, for=_hidden"])
def test_header_of_rfc_7239_is_not_supported_and_ignored(proxied: Flask, sent: str) -> None:
    client = Client(proxied)
    client.login(headers={"Forwarded": sent})
    assert address_of(client) == "127.0.0.1"


@pytest.mark.parametrize("trusted", ["::ffff:10.0.0.0/104", "::ffff:10.0.0.1", "10.0.0.1", "::/0, 0.0.0.0/0"])
@pytest.mark.parametrize("peer", ["10.0.0.1", "::ffff:10.0.0.1", "::FFFF:A00:1"])
def test_proxy_may_be_named_in_either_form(databases: Databases, trusted: str, peer: str) -> None:
    app = make_app(databases("sqlite"), TOKENAPP_TRUSTED_PROXIES=trusted)
    create_user(app)
    client = Client(app)
    client.login(headers={"X-Forwarded-For": "203.0.113.7"}, environ={"REMOTE_ADDR": peer})
    assert address_of(client) == "203.0.113.7"


@pytest.mark.parametrize("peer", ["", "/run/nginx.sock", "\0nginx"])
def test_peer_with_a_named_unix_socket_is_the_proxy(databases: Databases, peer: str) -> None:
    app = make_app(databases("sqlite"))
    create_user(app)
    client = Client(app)
    client.login(headers={"X-Forwarded-For": "203.0.113.7"}, environ={"REMOTE_ADDR": peer})
    assert address_of(client) == "203.0.113.7"


SCHEMES = {
    "three headers": {"X-Forwarded-Proto": "https", "X-Forwarded-Protocol": "http", "X-Forwarded-Ssl": "off"},
    "other order": {"X-Forwarded-Ssl": "on", "X-Forwarded-Proto": "http"},
    "list": {"X-Forwarded-Proto": "https, http", "X-Forwarded-Protocol": "ssl"},
    "nonsense": {"X-Forwarded-Proto": "gopher", "X-Forwarded-Ssl": "maybe", "X-Forwarded-Scheme": "http"},
}


@pytest.fixture(scope="module")
def dual(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a server on both loopback addresses, which trusts proxies on IPv4."""
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    url, port, log = databases("sqlite"), free_port(), tmp_path_factory.mktemp("dual") / "log"
    create_user(make_app(url))
    settings = {"TOKENAPP_BIND": f"[::]:{port}", "TOKENAPP_TRUSTED_PROXIES": "127.0.0.1"}
    with Server(url, settings, port=port, log=log) as server:
        yield server


@pytest.mark.parametrize("headers", SCHEMES.values(), ids=SCHEMES)
def test_contradictory_schemes_of_a_proxy_are_ignored(dual: Server, headers: dict[str, str]) -> None:
    assert dual.client.send("GET", "/healthz", headers=headers).status == 200


def test_repeated_scheme_of_a_proxy_is_ignored(dual: Server) -> None:
    connection = dual.client.connect()
    connection.putrequest("GET", "/healthz")
    for value in ("https", "http"):
        connection.putheader("X-Forwarded-Proto", value)
    connection.endheaders()
    assert connection.getresponse().status == 200
    connection.close()


def test_ipv4_proxy_is_trusted_by_a_server_on_all_ipv6_addresses(dual: Server) -> None:
    client = dual.client
    assert client.login(headers={"X-Forwarded-For": "203.0.113.7:52344"}).status == 200
    assert address_of(client) == "203.0.113.7"


def test_peer_on_a_unix_socket_is_the_proxy(databases: Databases, tmp_path: Path) -> None:
    url, path = databases("sqlite"), tmp_path / "tokenapp.sock"
    create_user(make_app(url))
    port = free_port()
    binds = {"GUNICORN_CMD_ARGS": f"--bind unix:{path} --bind 127.0.0.1:{port}"}
    with Server(url, binds, port=port, log=tmp_path / "log"):
        send_login_through(path)
        devices = sign_in(port).call("GET", "/api/sessions").json["items"]
    assert "203.0.113.7" in [device["ipAddress"] for device in devices]


def send_login_through(path: Path) -> None:
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(path))
    body = b'{"username": "alice", "password": "correct horse battery staple"}'
    headers = {"Content-Type": "application/json", "X-Forwarded-For": "203.0.113.7"}
    connection.request("POST", "/api/login", body, headers)
    assert connection.getresponse().status == 200
    connection.close()


@pytest.fixture(scope="module")
def behind_a_proxy(databases: Databases) -> Iterator[Server]:
    """Start a server that trusts this machine as a proxy."""
    with Server(databases("sqlite"), {"TOKENAPP_TRUSTED_PROXIES": "127.0.0.1"}) as server:
        yield server


@pytest.mark.parametrize("header", ["Script-Name", "SCRIPT_NAME", "Path-Info", "X-Script-Name"])
def test_header_does_not_change_the_path(behind_a_proxy: Server, header: str) -> None:
    server = behind_a_proxy
    for value in ("/api/x", "x", "/healthz"):
        response = server.client.send("GET", "/api/x/healthz", headers={header: value})
        assert response.status in {400, 404}, value
        assert server.client.send("GET", "/healthz", headers={header: value}).status in {200, 400}
