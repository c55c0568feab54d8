"""The rate limit of wrong passwords per client address, over all accounts."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
import time_machine
from flask import Flask

from tests.conftest import Databases, Servers
from tests.support.app import PASSWORD, application, create_user
from tests.support.client import Client, Response, sign_in
from tests.support.server import free_port
from tests.throttle.conftest import LIMIT, LOW, PROXIED, WRONG, counted, current_minute, guess, storage, use_up
from tokenapp import db
from tokenapp.throttle import rate_limit

FIELDS = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")


def test_address_over_the_limit_must_wait_for_the_next_minute(limited: Flask, clock: time_machine.Traveller) -> None:
    use_up(limited)
    response = guess(limited)
    assert (response.status, response.code) == (429, "too_many_attempts")
    assert response.header("Retry-After") == "40"
    clock.shift(39.5)
    assert guess(limited).header("Retry-After") == "1"
    clock.shift(0.5)
    use_up(limited)
    assert guess(limited).status == 429


def test_correct_password_is_rejected_over_the_limit(limited: Flask, clock: time_machine.Traveller) -> None:
    create_user(limited)
    use_up(limited)
    assert guess(limited, name="alice", password=PASSWORD).status == 429
    clock.shift(60)
    assert guess(limited, name="alice", password=PASSWORD).status == 200


@pytest.mark.usefixtures("clock")
def test_other_addresses_are_not_affected(limited: Flask) -> None:
    create_user(limited)
    use_up(limited, "192.0.2.1")
    assert guess(limited, "192.0.2.1").status == 429
    assert guess(limited, "192.0.2.2", name="alice", password=PASSWORD).status == 200


# What counts.


@pytest.mark.usefixtures("clock")
def test_correct_passwords_do_not_count(limited: Flask) -> None:
    for name in ("alice", "bob"):
        create_user(limited, name)
    responses = [guess(limited, name=name, password=PASSWORD) for name in ("alice", "bob") for _ in range(LIMIT)]
    assert {(each.status, each.header("RateLimit-Remaining")) for each in responses} == {(200, str(LIMIT))}
    assert counted(limited) == {}


@pytest.mark.usefixtures("clock")
def test_sign_ins_of_one_user_are_limited_from_all_addresses(limited: Flask) -> None:
    for name in ("alice", "bob"):
        create_user(limited, name)

    def sign_in_at(number: int, name: str = "alice") -> Response:
        return guess(limited, f"192.0.2.{number}", name=name, password=PASSWORD)

    assert {sign_in_at(number).status for number in range(LIMIT)} == {200}
    rejected = sign_in_at(LIMIT)
    assert (rejected.status, rejected.code, rejected.header("Retry-After")) == (429, "too_many_attempts", "40")
    assert sign_in_at(LIMIT, "bob").status == 200


@pytest.mark.usefixtures("clock")
def test_attempts_that_the_lockout_rejects_do_not_count(limited: Flask) -> None:
    assert [guess(limited, name="alice").status for _ in range(LIMIT)] == [401] * 5 + [429] * (LIMIT - 5)
    assert counted(limited) == {"192.0.2.1": 5}


BAD_REQUESTS: dict[str, dict[str, Any]] = {
    "no JSON": {"body": b"{", "headers": {"Content-Type": "application/json"}},
    "another type": {"form": {"a": "b"}},
    "a missing field": {"payload": {"username": "alice"}},
    "too large": {"body": b"x" * 20000, "headers": {"Content-Type": "application/json"}},
    "another site": {
        "payload": {"username": "alice", "password": WRONG},
        "headers": {"Sec-Fetch-Site": "cross-site"},
    },
}


@pytest.mark.parametrize("sent", BAD_REQUESTS.values(), ids=BAD_REQUESTS)
def test_requests_without_a_guess_do_not_count(limited: Flask, sent: dict[str, Any]) -> None:
    assert Client(limited).send("POST", "/api/login", **sent).status in {400, 403, 413, 415}
    assert counted(limited) == {}


@pytest.mark.usefixtures("clock")
def test_all_routes_with_a_password_share_one_limit(limited: Flask) -> None:
    create_user(limited)
    client, headers = sign_in(limited), {"X-Forwarded-For": "192.0.2.1"}

    def reauthenticate(password: str) -> tuple[int, str | None]:
        response = client.call("POST", "/api/reauthenticate", payload={"password": password}, headers=headers)
        return response.status, response.header("RateLimit-Remaining")

    def change_password(password: str) -> tuple[int, str | None]:
        body = {"currentPassword": password, "newPassword": WRONG}
        response = client.call("PUT", "/api/me/password", payload=body, headers=headers)
        return response.status, response.header("RateLimit-Remaining")

    assert [reauthenticate(WRONG), change_password(WRONG)] == [(401, "9"), (401, "8")]
    use_up(limited, times=LIMIT - 2)
    assert [reauthenticate(PASSWORD), change_password(PASSWORD)] == [(429, "0")] * 2
    assert guess(limited).header("RateLimit-Remaining") == "0"


@pytest.mark.usefixtures("clock")
def test_headers_state_the_limit_and_the_rest(limited: Flask) -> None:
    create_user(limited)
    shown = [[response.header(name) for name in FIELDS] for response in (guess(limited), guess(limited))]
    assert shown == [["10", "9", "40"], ["10", "8", "40"]]
    success = guess(limited, name="alice", password=PASSWORD)
    assert [success.header(name) for name in FIELDS] == ["10", "8", "40"]
    assert success.header("Retry-After") is None


def test_routes_without_a_password_do_not_read_the_counts(limited: Flask) -> None:
    create_user(limited)
    client = sign_in(limited)
    statements: list[str] = []
    with limited.app_context():
        sa.event.listen(db.db.engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    for response in (client.refresh(), client.refresh(), client.call("GET", "/api/me")):
        assert (response.status, [name for name in FIELDS if response.header(name)]) == (200, [])
    assert statements
    assert not [statement for statement in statements if "address_counts" in statement]


# Which addresses are one client.

SAME_CLIENT = {
    "one IPv6 network": ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff"),
    "two spellings": ("2001:DB8:0001:2:0:0:0:1", "2001:db8:1:2::1"),
    "IPv4 in IPv6": ("::ffff:192.0.2.9", "192.0.2.9"),
    "more hops than are trusted": ("198.51.100.7, 192.0.2.9", "192.0.2.9"),
}
OTHER_CLIENT = {
    "next IPv6 network": ("2001:db8:1:2::1", "2001:db8:1:3::1"),
    "next IPv4 address": ("192.0.2.9", "192.0.2.10"),
    "IPv4 in IPv6": ("::ffff:192.0.2.9", "::ffff:192.0.2.10"),
    "small numbers": ("::1", "0.0.0.1"),
}


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(("one", "other"), SAME_CLIENT.values(), ids=SAME_CLIENT)
def test_addresses_of_one_client_share_a_count(limited: Flask, one: str, other: str) -> None:
    use_up(limited, one)
    assert guess(limited, other).status == 429


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(("one", "other"), OTHER_CLIENT.values(), ids=OTHER_CLIENT)
def test_addresses_of_two_clients_have_separate_counts(limited: Flask, one: str, other: str) -> None:
    use_up(limited, one)
    assert guess(limited, other).status == 401


@pytest.mark.usefixtures("clock")
def test_forwarded_address_is_ignored_without_trusted_proxies(databases: Databases) -> None:
    with application(databases("sqlite"), **LOW) as app:
        for number in range(LIMIT):
            guess(app, f"198.51.100.{number}")
        assert guess(app, "198.51.100.99").status == 429


@pytest.mark.usefixtures("clock")
def test_clients_without_an_address_share_a_count(databases: Databases) -> None:
    with application(databases("sqlite"), **LOW) as app:
        statuses = [
            Client(app).login(f"user-{number}", WRONG, environ={"REMOTE_ADDR": ""}).status
            for number in range(LIMIT + 1)
        ]
    assert statuses == [401] * LIMIT + [429]


# The counts in the database.


@pytest.mark.usefixtures("clock")
def test_concurrent_additions_are_all_counted(limited: Flask) -> None:
    def add(_number: int) -> int:
        with limited.app_context():
            return storage().incr("key", 60)

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(add, range(80))) == list(range(1, 81))


def test_count_restarts_with_each_minute(limited: Flask, clock: time_machine.Traveller) -> None:
    with limited.app_context():
        assert [storage().incr("key", 60) for _ in range(3)] == [1, 2, 3]
        clock.shift(39.999)
        assert storage().get("key") == 3
        clock.shift(0.001)
        assert storage().get("key") == 0
        assert storage().incr("key", 60) == 1


@pytest.mark.usefixtures("clock")
def test_count_continues_from_the_count_of_another_store(limited: Flask) -> None:
    with limited.app_context():
        assert storage().add("key", 1, at_least=2) == 3
        assert storage().add("key", 1, at_least=7) == 8
        assert storage().add("key", 1, at_least=5) == 9


def test_pruning_deletes_only_counts_of_past_minutes(
    limited: Flask, clock: time_machine.Traveller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limit, "PRUNE_BATCH", 2)
    for number in range(5):
        guess(limited, f"192.0.2.{number}")
    clock.shift(40)
    guess(limited, "192.0.2.99")
    with limited.app_context():
        assert rate_limit.prune(datetime.now(UTC)) == 5
    assert counted(limited) == {"192.0.2.99": 1}


@pytest.mark.parametrize("url", ["postgresql://nobody@127.0.0.1:{}/none", "sqlite:////nowhere/none{}.db"])
def test_unavailable_database_gives_503(url: str) -> None:
    with application(url.format(free_port()), **LOW) as app:
        response = guess(app)
    assert (response.status, response.header("Retry-After")) == (503, "1")


def test_concurrent_guesses_over_four_workers_exceed_the_limit_only_by_the_threads(
    database_url: str, serve: Servers
) -> None:
    limit, threads = 40, 4 * 2
    settings = {"WEB_CONCURRENCY": "4", "TOKENAPP_THREADS": "2", "TOKENAPP_ADDRESS_FAILURES": str(limit)}
    port = serve(database_url, **settings, **PROXIED).port

    def guesses(address: str, times: int) -> Counter[int]:
        with ThreadPoolExecutor(32) as pool:
            return Counter(pool.map(lambda _: guess(port, address).status, range(times)))

    for attempt in range(10):
        minute = current_minute()
        outcome, afterwards = guesses(f"192.0.2.{attempt}", 120), guesses(f"192.0.2.{attempt}", 20)
        if current_minute() == minute:
            break  # otherwise the counts restarted in between
    assert outcome.keys() == {401, 429}
    assert limit <= outcome[401] < limit + threads
    assert afterwards == {429: 20}
