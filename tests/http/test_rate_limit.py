"""Guessing from one address: the limit over all accounts, and its stores when they go away."""

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import time_machine
from flask import Flask
from werkzeug.test import TestResponse

from tests.conftest import Databases, Servers
from tests.support.app import PASSWORD, SETTINGS, create_user, make_app
from tests.support.client import Client, Response
from tests.support.concurrency import wait_until
from tests.support.server import free_port, run_flask
from tests.support.servers import REDIS_PASSWORD, Redis
from tokenapp import config, db
from tokenapp.models import AddressCount
from tokenapp.throttle import rate_limit

WRONG = "not the password at all"
LIMIT = 10
FIELDS = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")
PROXIED = {"TOKENAPP_TRUSTED_PROXIES": "127.0.0.1"}
START = datetime(2031, 5, 6, 7, 8, 20, tzinfo=UTC)
names = (f"somebody{number}" for number in count())


@pytest.fixture
def app(database_url: str) -> Iterator[Flask]:
    """Give the application with a low limit, behind a proxy that tells who calls."""
    yield from application(database_url, **PROXIED)


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    """Stop the clock; the test moves it on."""
    with time_machine.travel(START, tick=False) as traveller:
        yield traveller


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    """Give a Redis or Valkey server."""
    with Redis(tmp_path) as server:
        yield server


def application(database_url: str, **settings: str) -> Iterator[Flask]:
    app = make_app(database_url, TOKENAPP_ADDRESS_FAILURES=str(LIMIT), **settings)
    yield app
    with app.app_context():
        db.db.engine.dispose()


def guess(app: Flask, address: str = "192.0.2.1", *, name: str | None = None, password: str = WRONG) -> TestResponse:
    """Guess at an account that nobody has guessed at before, unless one is named."""
    body = {"username": name or next(names), "password": password}
    return app.test_client().post("/api/login", json=body, headers={"X-Forwarded-For": address})


def use_up(app: Flask, address: str = "192.0.2.1", times: int = LIMIT) -> None:
    assert {guess(app, address).status_code for _ in range(times)} == {401}


def counted(app: Flask) -> dict[str, int]:
    with app.app_context():
        rows = db.execute_now(sa.select(AddressCount.key, AddressCount.count))
    return {key.split("/")[2]: number for key, number in map(tuple, rows)}


def guess_over_http(client: Client) -> Response:
    return client.login(next(names), WRONG)


def guess_at_once(client: Client, times: int) -> Counter[int]:
    with ThreadPoolExecutor(32) as pool:
        return Counter(reply.status for reply in pool.map(lambda _: guess_over_http(client), range(times)))


def wait_for_a_minute_with(seconds: float) -> None:
    """Go on when this minute of the clock, which is a window, has so many seconds left."""
    left = 60 - time.time() % 60
    if left < seconds:
        time.sleep(left)


def test_an_address_that_guesses_at_many_accounts_has_to_wait(app: Flask, clock: time_machine.Traveller) -> None:
    use_up(app)
    refused = guess(app)
    assert (refused.status_code, (refused.json or {})["code"]) == (429, "too_many_attempts")
    assert refused.headers["Retry-After"] == "40"
    clock.shift(39.5)
    assert guess(app).headers["Retry-After"] == "1"
    clock.shift(0.5)
    use_up(app)
    assert guess(app).status_code == 429


def test_not_even_the_right_password_is_looked_at(app: Flask, clock: time_machine.Traveller) -> None:
    create_user(app)
    use_up(app)
    assert guess(app, name="alice", password=PASSWORD).status_code == 429
    clock.shift(60)
    assert guess(app, name="alice", password=PASSWORD).status_code == 200


@pytest.mark.usefixtures("clock")
def test_another_address_is_not_held_up(app: Flask) -> None:
    create_user(app)
    use_up(app, "192.0.2.1")
    assert guess(app, "192.0.2.1").status_code == 429
    assert guess(app, "192.0.2.2", name="alice", password=PASSWORD).status_code == 200


@pytest.mark.usefixtures("clock")
def test_people_who_know_their_passwords_never_count(app: Flask) -> None:
    create_user(app)
    replies = [guess(app, name="alice", password=PASSWORD) for _ in range(LIMIT * 2)]
    assert {(reply.status_code, reply.headers["RateLimit-Remaining"]) for reply in replies} == {(200, str(LIMIT))}
    assert counted(app) == {}


@pytest.mark.usefixtures("clock")
def test_what_the_accounts_own_throttle_turns_down_does_not_count(app: Flask) -> None:
    assert [guess(app, name="alice").status_code for _ in range(LIMIT)] == [401] * 5 + [429] * (LIMIT - 5)
    assert counted(app) == {"192.0.2.1": 5}


BAD_REQUESTS: dict[str, dict[str, Any]] = {
    "no JSON": {"data": "{", "content_type": "application/json"},
    "another type": {"data": "a=b"},
    "a member missing": {"json": {"username": "alice"}},
    "too large": {"data": b"x" * 20000, "content_type": "application/json"},
    "another site": {"json": {"username": "alice", "password": WRONG}, "headers": {"Sec-Fetch-Site": "cross-site"}},
}


@pytest.mark.parametrize("request_", BAD_REQUESTS.values(), ids=BAD_REQUESTS)
def test_requests_that_guess_at_nothing_do_not_count(app: Flask, request_: dict[str, Any]) -> None:
    assert app.test_client().post("/api/login", **request_).status_code in {400, 403, 413, 415}
    assert counted(app) == {}


@pytest.mark.usefixtures("clock")
def test_all_guessing_routes_share_one_limit(app: Flask) -> None:
    create_user(app)
    access = (guess(app, name="alice", password=PASSWORD).json or {})["accessToken"]
    headers = {"Authorization": f"Bearer {access}", "X-Forwarded-For": "192.0.2.1"}
    client = app.test_client()
    for answer in (
        client.post("/api/reauthenticate", json={"password": WRONG}, headers=headers),
        client.put("/api/me/password", json={"currentPassword": WRONG, "newPassword": WRONG}, headers=headers),
    ):
        assert answer.status_code == 401
    use_up(app, times=LIMIT - 2)
    for answer in (
        client.post("/api/reauthenticate", json={"password": PASSWORD}, headers=headers),
        client.put("/api/me/password", json={"currentPassword": PASSWORD, "newPassword": WRONG}, headers=headers),
        guess(app),
    ):
        assert (answer.status_code, answer.headers["RateLimit-Remaining"]) == (429, "0")


@pytest.mark.usefixtures("clock")
def test_guessing_routes_tell_the_limit_and_what_is_left_of_it(app: Flask) -> None:
    create_user(app)
    told = [[reply.headers[name] for name in FIELDS] for reply in (guess(app), guess(app), guess(app))]
    assert told == [["10", "9", "40"], ["10", "8", "40"], ["10", "7", "40"]]
    right = guess(app, name="alice", password=PASSWORD)
    assert [right.headers[name] for name in FIELDS] == ["10", "7", "40"]
    assert "Retry-After" not in right.headers


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
def test_addresses_of_one_client_count_together(app: Flask, one: str, other: str) -> None:
    use_up(app, one)
    assert guess(app, other).status_code == 429


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(("one", "other"), OTHER_CLIENT.values(), ids=OTHER_CLIENT)
def test_addresses_of_two_clients_count_apart(app: Flask, one: str, other: str) -> None:
    use_up(app, one)
    assert guess(app, other).status_code == 401


@pytest.mark.usefixtures("clock")
def test_without_trusted_proxies_nobody_can_borrow_an_address(databases: Databases) -> None:
    for app in application(databases("sqlite")):
        for number in range(LIMIT):
            guess(app, f"198.51.100.{number}")
        assert guess(app, "198.51.100.99").status_code == 429


@pytest.mark.usefixtures("clock")
def test_a_caller_without_an_address_counts_too(databases: Databases) -> None:
    for app in application(databases("sqlite")):
        caller = {"REMOTE_ADDR": ""}
        for _ in range(LIMIT):
            app.test_client().post(
                "/api/login", json={"username": next(names), "password": WRONG}, environ_overrides=caller
            )
        body = {"username": next(names), "password": WRONG}
        assert app.test_client().post("/api/login", json=body, environ_overrides=caller).status_code == 429


def test_routes_that_look_at_no_password_leave_the_limiter_alone(app: Flask) -> None:
    create_user(app)
    client = app.test_client()
    reply = client.post("/api/login", json={"username": "alice", "password": PASSWORD})
    headers = {"Authorization": f"Bearer {(reply.json or {})['accessToken']}"}
    statements: list[str] = []
    with app.app_context():
        sa.event.listen(db.db.engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    for answer in (client.post("/api/token"), client.post("/api/token"), client.get("/api/me", headers=headers)):
        assert (answer.status_code, [name for name in FIELDS if name in answer.headers]) == (200, [])
    assert statements
    assert not [statement for statement in statements if "address_counts" in statement]


def test_the_library_hangs_nothing_on_every_request(app: Flask) -> None:
    hooks = (app.before_request_funcs, app.after_request_funcs, app.teardown_request_funcs)
    modules = {hook.__module__ for kind in hooks for hook in kind.get(None, [])}
    assert not [module for module in modules if module.startswith(("flask_limiter", "functools"))]


def test_counting_from_many_threads_loses_nothing(app: Flask, clock: time_machine.Traveller) -> None:
    del clock

    def add(_number: int) -> int:
        with app.app_context():
            return int(storage(app).incr("key", 60))

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(add, range(80))) == list(range(1, 81))


def test_a_count_begins_anew_with_the_minute(app: Flask, clock: time_machine.Traveller) -> None:
    with app.app_context():
        assert [storage(app).incr("key", 60) for _ in range(3)] == [1, 2, 3]
        clock.shift(39.999)
        assert storage(app).get("key") == 3
        clock.shift(0.001)
        assert storage(app).get("key") == 0
        assert storage(app).incr("key", 60) == 1


@pytest.mark.usefixtures("clock")
def test_a_count_goes_on_from_where_another_store_had_it(app: Flask) -> None:
    with app.app_context():
        assert storage(app)._add("key", 1, at_least=2) == 3
        assert storage(app)._add("key", 1, at_least=7) == 8
        assert storage(app)._add("key", 1, at_least=5) == 9


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("which", ["one", "all"])
@pytest.mark.parametrize("where", ["database", "server"])
def test_counts_can_be_forgotten(databases: Databases, request: pytest.FixtureRequest, where: str, which: str) -> None:
    settings = {"RATELIMIT_STORAGE_URI": request.getfixturevalue("redis").url} if where == "server" else {}
    for app in application(databases("sqlite"), **settings):
        with app.app_context():
            counts = storage(app)
            for key in ("tokenapp/one", "tokenapp/other"):
                counts.incr(key, 60)
            counts.reset() if which == "all" else counts.clear("tokenapp/one")
            assert [counts.get("tokenapp/one"), counts.get("tokenapp/other")] == [0, int(which == "one")]
            assert counts.incr("tokenapp/one", 60) == 1


def test_pruning_deletes_counts_whose_minute_is_over_and_no_others(
    app: Flask, clock: time_machine.Traveller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limit, "PRUNE_BATCH", 2)
    for number in range(5):
        guess(app, f"192.0.2.{number}")
    clock.shift(40)
    guess(app, "192.0.2.99")
    with app.app_context():
        assert rate_limit.prune(datetime.now(UTC)) == 5
    assert counted(app) == {"192.0.2.99": 1}


def test_of_guesses_at_once_over_four_workers_few_exceed_the_limit(database_url: str, serve: Servers) -> None:
    settings = {"WEB_CONCURRENCY": "4", "TOKENAPP_THREADS": "2", "TOKENAPP_ADDRESS_FAILURES": "40"}
    client = serve(database_url, **settings).client
    wait_for_a_minute_with(10)
    outcome = guess_at_once(client, 120)
    assert outcome.keys() == {401, 429}
    assert 40 <= outcome[401] < 40 + 4 * 2
    assert guess_at_once(client, 20) == {429: 20}


@pytest.mark.parametrize("url", ["postgresql://nobody@127.0.0.1:{}/none", "sqlite:////nowhere/none{}.db"])
def test_without_a_database_the_answer_is_503(url: str) -> None:
    for app in application(url.format(free_port())):
        answer = guess(app)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")


def storage(app: Flask) -> Any:
    return app.extensions["addresses"].storage


# With a server of its own for the counts


@pytest.mark.usefixtures("clock")
def test_with_a_redis_server_the_database_counts_no_addresses(database_url: str, redis: Redis) -> None:
    for app in application(database_url, RATELIMIT_STORAGE_URI=redis.url):
        use_up(app)
        assert guess(app).status_code == 429
        assert counted(app) == {}
        assert redis.ask("DBSIZE") == ":1"


@pytest.mark.usefixtures("clock")
def test_counts_in_the_server_are_those_of_all_processes(databases: Databases, redis: Redis) -> None:
    url = databases("sqlite")
    for one in application(url, RATELIMIT_STORAGE_URI=redis.url):
        for other in application(url, RATELIMIT_STORAGE_URI=redis.url.replace("redis:", "valkey:")):
            for app in (one, other) * (LIMIT // 2):
                assert guess(app).status_code == 401
            assert {guess(one).status_code, guess(other).status_code} == {429}


@pytest.mark.usefixtures("clock")
def test_counts_in_the_server_are_forgotten_by_themselves(databases: Databases, redis: Redis) -> None:
    for app in application(databases("sqlite"), RATELIMIT_STORAGE_URI=redis.url):
        guess(app)
        key = f"tokenapp/passwords/127.0.0.1/{LIMIT}/1/minute/{int(START.timestamp()) // 60}"
        assert 0 < int(redis.ask("TTL", key).removeprefix(":")) <= 120


def hang(redis: Redis) -> None:
    redis.signal(signal.SIGSTOP)


def empty(redis: Redis) -> None:
    assert redis.ask("FLUSHALL") == "+OK"


TROUBLES: dict[str, Callable[[Redis], None]] = {"killed": Redis.kill, "hung": hang, "emptied": empty}


@pytest.mark.parametrize("trouble", TROUBLES.values(), ids=TROUBLES)
def test_a_limit_goes_on_where_it_was_when_the_server_fails(
    database_url: str, redis: Redis, trouble: Callable[[Redis], None], clock: time_machine.Traveller
) -> None:
    for app in application(database_url, RATELIMIT_STORAGE_URI=redis.url):
        use_up(app, times=LIMIT - 2)
        trouble(redis)
        began = time.perf_counter()
        assert [guess(app).status_code for _ in range(4)] == [401, 401, 429, 429]
        assert time.perf_counter() - began < 3
        clock.shift(60)
        assert guess(app).status_code == 401


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("trouble", TROUBLES.values(), ids=TROUBLES)
def test_who_had_to_wait_before_the_server_failed_still_has_to(
    database_url: str, redis: Redis, trouble: Callable[[Redis], None]
) -> None:
    for app in application(database_url, RATELIMIT_STORAGE_URI=redis.url):
        use_up(app)
        trouble(redis)
        assert guess(app).status_code == 429


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("trouble", TROUBLES.values(), ids=TROUBLES)
def test_what_one_process_remembers_of_a_failed_server_the_others_learn(
    database_url: str, redis: Redis, trouble: Callable[[Redis], None]
) -> None:
    for one in application(database_url, RATELIMIT_STORAGE_URI=redis.url):
        for other in application(database_url, RATELIMIT_STORAGE_URI=redis.url):
            use_up(one, times=LIMIT - 2)
            trouble(redis)
            assert [guess(app).status_code for app in (one, other, other, one)] == [401, 401, 429, 429]


@pytest.mark.parametrize("trouble", TROUBLES.values(), ids=TROUBLES)
def test_under_load_no_failure_of_the_server_is_felt(
    database_url: str, serve: Servers, redis: Redis, trouble: Callable[[Redis], None]
) -> None:
    settings = {"WEB_CONCURRENCY": "2", "TOKENAPP_ADDRESS_FAILURES": "60", "RATELIMIT_STORAGE_URI": redis.url}
    client = serve(database_url, **settings).client
    wait_for_a_minute_with(20)
    replies: list[Response] = []
    with ThreadPoolExecutor(4) as pool:
        for number in range(150):
            pool.submit(lambda: replies.append(guess_over_http(client)))
            if number == 40:
                wait_until(lambda: len(replies) >= 30, what="the first guesses")
                trouble(redis)
    outcome = Counter(reply.status for reply in replies)
    assert outcome.keys() == {401, 429}
    assert 60 <= outcome[401] < 60 + 2 * 4
    assert max(reply.seconds for reply in replies) < 5


def test_a_server_that_comes_back_is_used_again(databases: Databases, redis: Redis) -> None:
    with time_machine.travel(START, tick=True):
        for app in application(databases("sqlite"), RATELIMIT_STORAGE_URI=redis.url):
            guess(app)
            redis.kill()
            guess(app)
            assert counted(app) == {"127.0.0.1": 2}
            redis.start()
            time.sleep(1.1)
            assert guess(app).headers["RateLimit-Remaining"] == str(LIMIT - 3)
            assert (redis.ask("DBSIZE"), counted(app)) == (":1", {"127.0.0.1": 2})


def test_a_server_that_never_was_there_is_told_of_once(databases: Databases, caplog: pytest.LogCaptureFixture) -> None:
    uri = f"redis://:{REDIS_PASSWORD}@127.0.0.1:{free_port()}"
    for app in application(databases("sqlite"), RATELIMIT_STORAGE_URI=uri):
        assert guess(app).status_code == 401
        assert guess(app).status_code == 401
        told = [line for line in caplog.messages if "rate limit server" in line]
        assert len(told) == 1
        assert REDIS_PASSWORD not in caplog.text


def test_a_server_that_takes_another_password_is_done_without(databases: Databases, redis: Redis) -> None:
    uri = redis.url.replace(REDIS_PASSWORD, "another")
    with time_machine.travel(START):
        for app in application(databases("sqlite"), RATELIMIT_STORAGE_URI=uri):
            assert [guess(app).status_code for _ in range(LIMIT + 1)] == [401] * LIMIT + [429]


@pytest.mark.usefixtures("clock")
def test_a_server_that_holds_rubbish_in_our_place_is_done_without(databases: Databases, redis: Redis) -> None:
    key = f"tokenapp/passwords/127.0.0.1/{LIMIT}/1/minute/{int(START.timestamp()) // 60}"
    assert redis.ask("SET", key, "rubbish") == "+OK"
    for app in application(databases("sqlite"), RATELIMIT_STORAGE_URI=redis.url):
        assert [guess(app).status_code for _ in range(LIMIT + 1)] == [401] * LIMIT + [429]


def test_the_commands_of_the_library_print_no_password(databases: Databases) -> None:
    uri = f"redis://:{REDIS_PASSWORD}@127.0.0.1"
    shown = run_flask(databases("sqlite"), "limiter", "config", RATELIMIT_STORAGE_URI=uri)
    assert shown.returncode == 0
    assert REDIS_PASSWORD not in shown.stdout + shown.stderr


def test_a_server_behind_a_socket_can_be_named(databases: Databases, tmp_path: Path) -> None:
    for app in application(databases("sqlite"), RATELIMIT_STORAGE_URI=f"unix://{tmp_path}/none.sock?db=3"):
        assert guess(app).status_code == 401


SERVERS = {
    "redis://127.0.0.1": "redis://127.0.0.1",
    "redis://:p%40ss@[::1]:6379/0": "redis://:p%40ss@[::1]:6379/0",
    "rediss://user:pass@redis.example.com:6380/1": "rediss://user:pass@redis.example.com:6380/1",
    "valkey://127.0.0.1:6379": "redis://127.0.0.1:6379",
    "valkeys://v.example.com?ssl_ca_certs=/etc/ca.pem": "rediss://v.example.com?ssl_ca_certs=/etc/ca.pem",
    "unix:///run/redis.sock": "unix:///run/redis.sock",
    "redis+unix:///run/redis.sock?db=1": "unix:///run/redis.sock?db=1",
    "valkey+unix://user:pass@/run/valkey.sock": "unix://user:pass@/run/valkey.sock",
}
NO_SERVERS = [
    "canary",
    "memory://canary",
    "memcached://canary:11211",
    "redis+cluster://canary:6379",
    "redis://",
    "redis://:canary@",
    "redis://:canary@host:0",
    "redis://:canary@host:65536",
    "redis://:canary@host:port",
    "redis://:canary@[::1",
    "redis://:canary@host/name",
    "redis://:canary@host/0#x",
    "redis://:can/ary@host",
    "redis://:canary@host?socket_timeout=60",
    "rediss://:canary@host?ssl_cert_reqs=none",
    "redis://:canary@host\n",
    "unix://canary",
    "REDIS://:canary@host",
]


@pytest.mark.parametrize(("raw", "meant"), SERVERS.items())
def test_servers_can_be_named_in_these_ways(tmp_path: Path, raw: str, meant: str) -> None:
    settings = config.load({**SETTINGS, "RATELIMIT_STORAGE_URI": raw}, tmp_path)
    assert settings.ratelimit_storage_uri == meant


@pytest.mark.parametrize("raw", NO_SERVERS)
def test_other_servers_are_a_fault_that_repeats_no_password(tmp_path: Path, raw: str) -> None:
    with pytest.raises(config.ConfigError, match="RATELIMIT_STORAGE_URI must look like") as fault:
        config.load({**SETTINGS, "RATELIMIT_STORAGE_URI": raw}, tmp_path)
    assert "canary" not in str(fault.value)


@pytest.mark.parametrize("raw", ["0", "-1", "100001", "60/minute", "1e3"])
def test_the_limit_is_a_whole_number_a_minute(tmp_path: Path, raw: str) -> None:
    with pytest.raises(config.ConfigError, match="TOKENAPP_ADDRESS_FAILURES must be a whole number"):
        config.load({**SETTINGS, "TOKENAPP_ADDRESS_FAILURES": raw}, tmp_path)
