"""Access keys and roles with four workers, and a guard that follows the feed."""

from collections.abc import Callable
from datetime import UTC, datetime
from time import monotonic, sleep

from tests.conftest import Servers
from tests.support.access_keys import create_key, exchange
from tests.support.app import application, create_user
from tests.support.client import Client, claims_of, sign_in
from tests.support.concurrency import at_once
from tests.support.guarded import Shop, guard_of, wait_for_read
from tokenapp import access_keys, accounts, clients

DELAY = 1.0  # the default of TOKENAPP_REVOCATION_DELAY


def statuses(requests: list[Callable[[], int]]) -> list[set[int]]:
    """Send each request many times at once, so that every worker gets some."""
    return [set(at_once(*[request] * 16)) for request in requests]


def test_every_verifier_rejects_a_revoked_key_and_a_removed_role(database_url: str, serve: Servers) -> None:
    with application(database_url) as app:
        create_user(app)
        with app.app_context():
            accounts.add_role(accounts.find("alice"), "admin", datetime.now(UTC))
            service, secret = clients.create("shop", ["feed"], datetime.now(UTC))
        server = serve(database_url, WEB_CONCURRENCY="4")
        guard = guard_of(server, client_id=service.id, client_secret=secret)
        shop = Shop(guard)
        alice = sign_in(server.port)
        created = create_key(alice)
        token, session = exchange(server.port, created["key"]), alice.token
        assert claims_of(token)["roles"] == ["admin"]

        def verify(bearer: str) -> Callable[[], int]:
            return lambda: Client(server.port).send("GET", "/api/verify", bearer=bearer).status

        own = [verify(created["key"]), verify(token), verify(session or "")]
        assert statuses(own) == [{204}] * 3
        assert {shop.orders(each).status_code for each in (token, session)} == {200}

        with app.app_context():
            accounts.remove_role(accounts.find("alice"), "admin", datetime.now(UTC))
        wait(DELAY)
        assert statuses(own) == [{204}, {403}, {403}]
        wait_for_read(guard)
        assert {shop.orders(each).status_code for each in (token, session)} == {403}

        assert alice.refresh().status == 200
        token = exchange(server.port, created["key"])
        own = [verify(created["key"]), verify(token), verify(alice.token or "")]
        assert statuses(own) == [{204}] * 3
        assert {shop.orders(each).status_code for each in (token, alice.token)} == {200}

        with app.app_context():
            access_keys.revoke(created["id"], "operator", datetime.now(UTC))
        wait(DELAY)
        assert statuses(own) == [{403}, {403}, {204}]
        wait_for_read(guard)
        assert [shop.orders(each).status_code for each in (token, alice.token)] == [403, 200]


def wait(seconds: float) -> None:
    """Wait until `seconds` have passed, and the read that is then due has ended."""
    ends = monotonic() + seconds + 0.1
    while (left := ends - monotonic()) > 0:
        sleep(left)
