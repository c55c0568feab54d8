"""The rate limit with a Redis or Valkey server, also when it fails."""

import signal
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import time_machine

from tests.conftest import Databases, Servers
from tests.support.app import application
from tests.support.concurrency import wait_until
from tests.support.relay import Relay
from tests.support.server import free_port
from tests.support.servers import REDIS_PASSWORD, Redis
from tests.throttle.conftest import LIMIT, LOW, START, counted, current_minute, guess, storage, use_up
from tokenapp.throttle import rate_limit

KEY = f"tokenapp/passwords/127.0.0.1/{LIMIT}/1/minute/{int(START.timestamp()) // 60}"


@pytest.mark.usefixtures("clock")
def test_counts_are_in_the_server_and_not_in_the_database(database_url: str, redis: Redis) -> None:
    with application(database_url, **LOW, RATELIMIT_STORAGE_URI=redis.url) as app:
        use_up(app)
        assert guess(app).status == 429
        assert counted(app) == {}
        assert redis.ask("DBSIZE") == ":1"


@pytest.mark.usefixtures("clock")
def test_all_processes_share_the_counts_in_the_server(databases: Databases, redis: Redis) -> None:
    url = databases("sqlite")
    with (
        application(url, **LOW, RATELIMIT_STORAGE_URI=redis.url) as one,
        application(url, **LOW, RATELIMIT_STORAGE_URI=redis.url.replace("redis:", "valkey:")) as other,
    ):
        for app in (one, other) * (LIMIT // 2):
            assert guess(app).status == 401
        assert {guess(one).status, guess(other).status} == {429}


@pytest.mark.usefixtures("clock")
def test_counts_in_the_server_expire(databases: Databases, redis: Redis) -> None:
    with application(databases("sqlite"), **LOW, RATELIMIT_STORAGE_URI=redis.url) as app:
        guess(app)
        assert 0 < int(redis.ask("TTL", KEY).removeprefix(":")) <= 120


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("which", ["one", "all"])
@pytest.mark.parametrize("where", ["database", "server"])
def test_counts_can_be_deleted(databases: Databases, request: pytest.FixtureRequest, where: str, which: str) -> None:
    settings = {"RATELIMIT_STORAGE_URI": request.getfixturevalue("redis").url} if where == "server" else {}
    with application(databases("sqlite"), **settings) as app, app.app_context():
        counts = storage()
        for key in ("tokenapp/one", "tokenapp/other"):
            counts.incr(key, 60)
        counts.reset() if which == "all" else counts.clear("tokenapp/one")
        assert [counts.get("tokenapp/one"), counts.get("tokenapp/other")] == [0, int(which == "one")]
        assert counts.incr("tokenapp/one", 60) == 1


# Failures.


def hang(redis: Redis) -> None:
    redis.signal(signal.SIGSTOP)


def empty(redis: Redis) -> None:
    assert redis.ask("FLUSHALL") == "+OK"


FAILURES: dict[str, Callable[[Redis], None]] = {"killed": Redis.kill, "hung": hang, "emptied": empty}
EACH_FAILURE = pytest.mark.parametrize("fail", FAILURES.values(), ids=FAILURES)


@EACH_FAILURE
def test_count_continues_when_the_server_fails(
    database_url: str, redis: Redis, fail: Callable[[Redis], None], clock: time_machine.Traveller
) -> None:
    with application(database_url, **LOW, RATELIMIT_STORAGE_URI=redis.url) as app:
        use_up(app, times=LIMIT - 2)
        fail(redis)
        assert [guess(app).status for _ in range(4)] == [401, 401, 429, 429]
        clock.shift(60)
        assert guess(app).status == 401


@pytest.mark.usefixtures("clock")
@EACH_FAILURE
def test_address_over_the_limit_must_wait_although_the_server_fails(
    database_url: str, redis: Redis, fail: Callable[[Redis], None]
) -> None:
    with application(database_url, **LOW, RATELIMIT_STORAGE_URI=redis.url) as app:
        use_up(app)
        fail(redis)
        assert guess(app).status == 429


@pytest.mark.usefixtures("clock")
@EACH_FAILURE
def test_processes_share_what_they_remember_when_the_server_fails(
    database_url: str, redis: Redis, fail: Callable[[Redis], None]
) -> None:
    with (
        application(database_url, **LOW, RATELIMIT_STORAGE_URI=redis.url) as one,
        application(database_url, **LOW, RATELIMIT_STORAGE_URI=redis.url) as other,
    ):
        use_up(one, times=LIMIT - 2)
        fail(redis)
        assert [guess(app).status for app in (one, other, other, one)] == [401, 401, 429, 429]


@EACH_FAILURE
def test_failure_under_load_does_not_change_the_limit(
    database_url: str, serve: Servers, redis: Redis, fail: Callable[[Redis], None]
) -> None:
    limit, clients = 60, 4
    limits = {"TOKENAPP_ADDRESS_FAILURES": str(limit), "RATELIMIT_STORAGE_URI": redis.url}
    # Enough threads that each worker has a place for the password of each client.
    port = serve(database_url, WEB_CONCURRENCY="2", TOKENAPP_THREADS="16", **limits).port
    _wait_for_rest_of_minute(5)
    minute = current_minute()
    statuses: list[int] = []
    with ThreadPoolExecutor(clients) as pool:
        for number in range(150):
            pool.submit(lambda: statuses.append(guess(port).status))
            if number == 40:
                wait_until(lambda: len(statuses) >= 30, what="the first guesses")
                fail(redis)
    outcome, minutes = Counter(statuses), current_minute() - minute + 1
    assert outcome.total() == 150
    assert outcome.keys() == {401, 429}
    assert limit <= outcome[401] < minutes * (limit + 2 * clients)


@pytest.mark.usefixtures("clock")
def test_hung_server_is_tried_at_most_once_a_second(databases: Databases, redis: Redis) -> None:
    with Relay(redis.port) as relay:
        url = redis.url.replace(str(redis.port), str(relay.port))
        with application(databases("sqlite"), **LOW, RATELIMIT_STORAGE_URI=url) as app:
            guess(app)
            relay.hold()
            connections, began = relay.connections, time.monotonic()
            use_up(app, times=LIMIT - 2)
            assert relay.connections - connections <= 1 + (time.monotonic() - began) / rate_limit._RETRY_AFTER


def test_server_that_returns_is_used_again(
    databases: Databases, redis: Redis, caplog: pytest.LogCaptureFixture, clock: time_machine.Traveller
) -> None:
    del clock
    with application(databases("sqlite"), **LOW, RATELIMIT_STORAGE_URI=redis.url) as app:
        guess(app)
        redis.kill()
        guess(app)
        assert counted(app) == {"127.0.0.1": 2}
        redis.start()

        def is_used() -> bool:
            with app.app_context():
                assert rate_limit.status("127.0.0.1").remaining == LIMIT - 2
            return "the rate limit server responds again" in caplog.text

        wait_until(is_used, what="the return to the server")
        assert guess(app).header("RateLimit-Remaining") == str(LIMIT - 3)
        assert (redis.ask("DBSIZE"), counted(app)) == (":1", {"127.0.0.1": 2})


def test_missing_server_is_logged_once_and_without_its_password(
    databases: Databases, caplog: pytest.LogCaptureFixture
) -> None:
    uri = f"redis://:{REDIS_PASSWORD}@127.0.0.1:{free_port()}"
    with application(databases("sqlite"), **LOW, RATELIMIT_STORAGE_URI=uri) as app:
        assert [guess(app).status for _ in range(2)] == [401] * 2
    assert len([line for line in caplog.messages if "rate limit server" in line]) == 1
    assert REDIS_PASSWORD not in caplog.text


@pytest.mark.usefixtures("clock")
def test_server_with_another_password_is_replaced_by_the_database(databases: Databases, redis: Redis) -> None:
    uri = redis.url.replace(REDIS_PASSWORD, "another")
    with application(databases("sqlite"), **LOW, RATELIMIT_STORAGE_URI=uri) as app:
        assert [guess(app).status for _ in range(LIMIT + 1)] == [401] * LIMIT + [429]


@pytest.mark.usefixtures("clock")
def test_server_with_an_invalid_count_is_replaced_by_the_database(databases: Databases, redis: Redis) -> None:
    assert redis.ask("SET", KEY, "invalid") == "+OK"
    with application(databases("sqlite"), **LOW, RATELIMIT_STORAGE_URI=redis.url) as app:
        assert [guess(app).status for _ in range(LIMIT + 1)] == [401] * LIMIT + [429]


def test_server_can_be_a_unix_socket(databases: Databases, tmp_path: Path) -> None:
    uri = f"unix://{tmp_path}/none.sock?db=3"
    with application(databases("sqlite"), **LOW, RATELIMIT_STORAGE_URI=uri) as app:
        assert guess(app).status == 401


def _wait_for_rest_of_minute(seconds: float) -> None:
    """Wait for the next minute if less than so many seconds of this one are left."""
    left = rate_limit.WINDOW - time.time() % rate_limit.WINDOW
    if left < seconds:
        time.sleep(left)
