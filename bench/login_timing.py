"""Test whether response times distinguish three kinds of failed sign-in.

    python -m bench.login_timing [ROUNDS [DATABASE_URL]]

The kinds are an unknown user, a wrong password, and a disabled user with the right password. Each round tries all of
them over HTTP, in random order, with the hashing cost of production. A rank-sum test (Mann and Whitney) then computes
a p-value for each pair: the probability of such a difference if the times have the same distribution. Each username is
tried only as often as the account's lockout allows. Without arguments: 300 rounds, on SQLite.
"""

import http.client
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path

import flask_migrate

from tests.support.app import PASSWORD, make_app
from tests.support.server import Server
from tokenapp import accounts, db, passwords
from tokenapp.throttle.lockout import FREE_FAILURES

HASHING = {"TOKENAPP_PASSWORD_MEMORY": "19456", "TOKENAPP_PASSWORD_PASSES": "2"}
SETTINGS = {**HASHING, "TOKENAPP_ADDRESS_FAILURES": "100000", "WEB_CONCURRENCY": "1"}
KINDS = {"unknown user": PASSWORD, "wrong password": "not the password at all", "disabled user": PASSWORD}
WARM_UP = 10
SUSPICIOUS = 0.001


def main() -> None:
    """Measure and print a table; exit with 1 if a p-value is suspicious."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    with tempfile.TemporaryDirectory() as folder:
        url = sys.argv[2] if len(sys.argv) > 2 else f"sqlite:///{folder}/timing.db"
        create_users(url, 1 + (WARM_UP + rounds) // FREE_FAILURES)
        with Server(url, SETTINGS, log=Path(folder) / "log") as server:
            samples = measure(server.port, rounds)
    for kind, seconds in samples.items():
        deciles = statistics.quantiles(seconds, n=10)
        print(f"{kind:16} median {statistics.median(seconds) * 1000:8.3f} ms   ", end="")
        print(f"10 % to 90 %: {deciles[0] * 1000:.3f} to {deciles[-1] * 1000:.3f} ms")
    p_values = {pair: rank_sum_p(samples[pair[0]], samples[pair[1]]) for pair in combinations(samples, 2)}
    for pair, p in p_values.items():
        print(f"p = {p:.3f}   {pair[0]} / {pair[1]}")
    sys.exit(min(p_values.values()) < SUSPICIOUS)


def create_users(url: str, number: int) -> None:
    """Create users for the wrong passwords, and disabled users."""
    app = make_app(url, **SETTINGS)
    now = datetime.now(UTC)
    with app.app_context():
        flask_migrate.upgrade()
        hashed = passwords.hash_password(PASSWORD)
        for index in range(number):
            accounts.create(accounts.NewUser(f"wrong password {index}", password_hash=hashed), now)
            accounts.disable(
                accounts.create(accounts.NewUser(f"disabled user {index}", password_hash=hashed), now), now
            )
        db.db.engine.dispose()


def measure(port: int, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each round for each kind of failure."""
    samples: dict[str, list[float]] = {kind: [] for kind in KINDS}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    for number in range(WARM_UP + rounds):
        for kind in random.sample([*KINDS], len(KINDS)):
            seconds = fail(connection, f"{kind} {number // FREE_FAILURES}", KINDS[kind])
            if number >= WARM_UP:
                samples[kind].append(seconds)
    connection.close()
    return samples


def fail(connection: http.client.HTTPConnection, username: str, password: str) -> float:
    """Try to sign in and return the seconds until the error response."""
    body = json.dumps({"username": username, "password": password})
    began = time.perf_counter()
    connection.request("POST", "/api/login", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    response.read()
    seconds = time.perf_counter() - began
    assert response.status == http.client.UNAUTHORIZED, response.status
    return seconds


def rank_sum_p(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the two-sided p-value of the rank-sum test.

    It is the normal approximation, without a correction for ties, which do not occur.
    """
    ranked = sorted([(value, 0) for value in one] + [(value, 1) for value in other])
    ranks = sum(rank for rank, (_, origin) in enumerate(ranked, 1) if origin == 0)
    pairs = len(one) * len(other)
    u = ranks - len(one) * (len(one) + 1) / 2
    deviation = (pairs * (len(one) + len(other) + 1) / 12) ** 0.5
    return 2 * (1 - statistics.NormalDist().cdf(abs(u - pairs / 2) / deviation))


if __name__ == "__main__":
    main()
