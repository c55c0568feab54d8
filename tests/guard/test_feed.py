"""The guard's copy of the feed of revoked sessions."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from tests.support.app import ROOT
from tests.support.client import claims_of, sign_in
from tests.support.concurrency import at_once, wait_until
from tests.support.guarded import Shop, guard_of, stub_server, wait_for_read
from tests.support.server import Server
from tokenapp import clients, db, sessions
from tokenapp.models import Session
from tokenapp_guard import Guard
from tokenapp_guard.feed import Feed
from tokenapp_guard.fetching import FetchError

INTERVAL = 0.2
FEED = "/api/revocations"
EMPTY = b'{"items": [], "cursor": "0~", "more": false}'
FORKING = """
import os, sys
from tokenapp_guard.feed import Feed
feed = Feed(sys.argv[1], "id", "secret", interval=3600, patience=60, keep=lambda: 60)
feed.is_revoked("any")
child = os.fork()
if not child:
    feed.is_revoked("any")
    os._exit(0)
sys.exit(os.waitpid(child, 0)[1])
"""


def following(app: Flask, server: Server, *, patience: float = 10, interval: float = INTERVAL) -> Guard:
    """Return a guard that follows the feed."""
    with app.app_context():
        client, secret = clients.create("shop", ["feed"], datetime.now(UTC))
    credentials = {"client_id": client.id, "client_secret": secret}
    return guard_of(server, **credentials, feed_interval=interval, feed_patience=patience)


def test_revoked_session_is_rejected_after_the_next_read(app: Flask, service: Server) -> None:
    guard, client = following(app, service), sign_in(service.port)
    shop = Shop(guard)
    assert shop.orders(client.token).status_code == 200
    client.logout()
    wait_for_read(guard)
    assert shop.orders(client.token).status_code == 403


def test_feed_is_read_once_per_interval() -> None:
    with stub_server(200, {}, EMPTY) as (address, requested):
        began = monotonic()
        feed = Feed(address, "id", "secret", interval=0.1, patience=60, keep=lambda: 60)
        assert not feed.is_revoked("any")
        wait_until(lambda: len(requested) >= 6, seconds=20, what="five more reads")
        assert not feed.is_revoked("any")
        assert len(requested) <= 1 + (monotonic() - began) / 0.1
    assert requested[:2] == [FEED, f"{FEED}?since=0~"]


@pytest.mark.parametrize(
    "page",
    [
        b'{"items": [{"sid": null}], "cursor": "0~", "more": false}',
        b'{"items": [{"sid": 7}], "cursor": "0~", "more": false}',
        b'{"items": [], "cursor": "\\ud800", "more": false}',
        b'{"items": [], "cursor": 0, "more": false}',
        b'{"items": [], "cursor": "0~", "more": 1}',
        b'{"items": [], "cursor": "0~", "more": true}',
        b'{"items": 1, "cursor": "0~", "more": false}',
        b"{}",
    ],
)
def test_malformed_feed_is_not_used(page: bytes) -> None:
    with stub_server(200, {}, page) as (address, requested):
        feed = Feed(address, "id", "secret", interval=3600, patience=60, keep=lambda: 60)
        for _ in range(2):
            with pytest.raises(FetchError):
                feed.is_revoked("any", None)
        assert len(requested) <= 2, "the second page is the first one again"


def test_session_revoked_before_the_start_is_rejected(app: Flask, service: Server) -> None:
    client = sign_in(service.port)
    client.logout()
    assert Shop(following(app, service)).orders(client.token).status_code == 403


def test_session_revoked_during_a_restart_of_the_service_is_rejected(app: Flask, service: Server) -> None:
    shop, token = Shop(following(app, service)), sign_in(service.port).token
    assert token is not None
    assert shop.orders(token).status_code == 200
    service.kill()
    with app.app_context():
        sessions.revoke(claims_of(token)["sid"], "operator", datetime.now(UTC))
    service.__enter__()
    wait_until(lambda: shop.orders(token).status_code == 403, seconds=20, what="the revocation")


def test_request_gets_503_while_the_feed_cannot_be_read(app: Flask, service: Server) -> None:
    shop, token = Shop(following(app, service, patience=1)), sign_in(service.port).token
    wait_until(lambda: shop.orders(token).status_code == 200, seconds=20, what="an accepted token")
    service.kill()
    wait_until(lambda: shop.orders(token).status_code == 503, seconds=20, what="503")
    service.__enter__()
    wait_until(lambda: shop.orders(token).status_code == 200, seconds=20, what="an accepted token")


def test_ten_thousand_revocations_arrive_in_two_pages(app: Flask, service: Server) -> None:
    guard, client = following(app, service, interval=3600), sign_in(service.port)
    assert Shop(guard).orders(client.token).status_code == 200
    insert_revoked(app, 10_001)
    feed = guard._feed
    assert feed is not None
    assert [feed._read_page(), feed._read_page()] == [True, False]
    assert all(feed.is_revoked(sid_of(number)) for number in range(10_001))


def sid_of(number: int) -> str:
    return f"{number:012x}revoked"


def insert_revoked(app: Flask, many: int) -> None:
    """Store sessions that were just revoked."""
    now = datetime.now(UTC)
    with app.app_context(), db.writing() as writer:
        row = writer.scalars(sa.select(Session)).first()
        assert row is not None
        rows: list[dict[str, Any]] = [
            {
                "id": sid_of(number),
                "user_id": row.user_id,
                "current_jti": str(number),
                "generation": 0,
                "created_at": now,
                "authenticated_at": now,
                "expires_at": now + timedelta(days=1),
                "ends_at": now + timedelta(days=1),
                "revoked_at": now + timedelta(milliseconds=number % 500),
                "revoked_reason": "operator",
            }
            for number in range(many)
        ]
        writer.connection().execute(sa.insert(Session), rows)


def test_first_requests_share_one_read() -> None:
    with stub_server(200, {}, EMPTY) as (address, requested):
        feed = Feed(address, "id", "secret", interval=3600, patience=60, keep=lambda: 60)
        assert set(at_once(*[lambda: feed.is_revoked("any")] * 16)) == {False}
    assert requested == [FEED]


def test_forked_process_reads_the_feed_itself() -> None:
    with stub_server(200, {}, EMPTY) as (address, requested):
        subprocess.run([sys.executable, "-c", FORKING, address], cwd=ROOT, check=True, timeout=60)
    assert requested == [FEED, f"{FEED}?since=0~"]


def test_thread_that_ended_is_started_again() -> None:
    with stub_server(200, {}, EMPTY) as (address, requested):
        feed = Feed(address, "id", "secret", interval=0.05, patience=60, keep=lambda: 60)
        follow = feed._follow
        feed._follow = lambda: None  # type: ignore[method-assign]  # a thread that ends at once
        assert not feed.is_revoked("any")
        assert feed._thread is not None
        feed._thread.join(20)
        feed._follow = follow  # type: ignore[method-assign]
        assert not feed.is_revoked("any")
        wait_until(lambda: len(requested) > 4, seconds=20, what="reads of the new thread")
