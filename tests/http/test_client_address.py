"""The client address and user agent that a session stores."""

from typing import Final

import pytest
import sqlalchemy as sa
from flask import Flask

from tests.support.app import application, create_user
from tests.support.client import Client
from tokenapp import db
from tokenapp.models import Session

PROXIES: Final = "10.0.0.0/8"
# Trusted proxies, the peer, X-Forwarded-For, and the address that is stored.
ADDRESSES: Final[dict[str, tuple[str, str, str | None, str | None]]] = {
    "no proxy": ("", "198.51.100.7", None, "198.51.100.7"),
    "forged header without proxies": ("", "198.51.100.7", "203.0.113.9", "198.51.100.7"),
    "loopback is not trusted by default": ("", "127.0.0.1", "203.0.113.9", "127.0.0.1"),
    "trusted proxy": (PROXIES, "10.0.0.1", "203.0.113.9", "203.0.113.9"),
    "untrusted peer": (PROXIES, "198.51.100.7", "203.0.113.9", "198.51.100.7"),
    "forged entry behind a proxy": ("10.0.0.1", "10.0.0.1", "1.1.1.1, 203.0.113.9", "203.0.113.9"),
    "forged entry and proxy": ("10.0.0.1", "10.0.0.1", "1.1.1.1, 10.0.0.1, 203.0.113.9", "203.0.113.9"),
    "two trusted proxies": (PROXIES, "10.0.0.1", "203.0.113.9, 10.0.0.2", "203.0.113.9"),
    "only proxies": (PROXIES, "10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
    "empty header": (PROXIES, "10.0.0.1", "", "10.0.0.1"),
    "no address in the header": (PROXIES, "10.0.0.1", "unknown", "10.0.0.1"),
    "no address in the middle": (PROXIES, "10.0.0.1", "203.0.113.9, x, 10.0.0.2", "10.0.0.2"),
    "address with a port": (PROXIES, "10.0.0.1", "203.0.113.9:80", "203.0.113.9"),
    "SQL in the header": (PROXIES, "10.0.0.1", "'; DROP TABLE sessions; --", "10.0.0.1"),
    "header of 8 kB": (PROXIES, "10.0.0.1", "x" * 8000, "10.0.0.1"),
    "a thousand addresses": (PROXIES, "10.0.0.1", ", ".join(["203.0.113.9"] * 1000), "203.0.113.9"),
    "IPv6": ("2001:db8::/32", "2001:db8::1", "2001:db9::9", "2001:db9::9"),
    "IPv6 in the long form": ("::1", "::1", "2001:0DB9:0:0:0:0:0:9", "2001:db9::9"),
    "IPv6 with a zone": (PROXIES, "10.0.0.1", "fe80::1%" + "z" * 300, "fe80::1"),
    "IPv4 proxy and IPv6 client": ("10.0.0.1", "10.0.0.1", "2001:db9::9", "2001:db9::9"),
    "unix socket of a proxy": ("", "", "203.0.113.9", "203.0.113.9"),
}


@pytest.mark.parametrize(("trusted", "peer", "header", "address"), ADDRESSES.values(), ids=ADDRESSES)
def test_stored_address_is_stated_by_the_peer_or_a_trusted_proxy(
    database_url: str, trusted: str, peer: str, header: str | None, address: str | None
) -> None:
    headers = {} if header is None else {"X-Forwarded-For": header, "X-Real-IP": "1.1.1.1", "Forwarded": "for=1.1.1.1"}
    with application(database_url, TOKENAPP_TRUSTED_PROXIES=trusted) as app:
        create_user(app)
        assert Client(app).login(headers=headers, environ={"REMOTE_ADDR": peer}).status == 200
        with app.app_context():
            rows = db.execute_now(sa.select(Session.ip_address))
    assert [row[0] for row in rows] == [address]


AGENTS: Final = ["", "curl/8", "x" * 8000, "a\tb", "\x01\x7f", "é\xff", "<script>", "'; DROP TABLE sessions; --"]


def test_any_user_agent_can_be_stored(app: Flask) -> None:
    create_user(app)
    for agent in AGENTS:
        assert Client(app).login(headers={"User-Agent": agent}).status == 200
    with app.app_context():
        rows = db.execute_now(sa.select(Session.user_agent))
    stored = [row[0] or "" for row in rows]
    assert len(stored) == len(AGENTS)
    assert max(map(len, stored)) == 256
    assert all(agent.isprintable() or "\xff" in agent for agent in stored)
