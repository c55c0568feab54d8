"""Runs the service under load for as long as you like while one fault after another hits it; counts what was lost.

    python -m bench.soak --minutes 30 --kind postgresql

The promises of `tests/db/test_postgresql_faults.py` are checked after each fault. A session that is lost is shown with
the fault that cost it; the exit status tells whether any was, or whether an answer was wrong or late.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from time import monotonic, sleep

import flask_migrate
import psycopg

from tests.support.app import PASSWORD, application, create_user
from tests.support.concurrency import repeating, wait_until
from tests.support.followers import BACK_WITHIN, RESPONSE_WITHIN, Follower, responses_of
from tests.support.postgres import Postgres
from tests.support.relay import Relay
from tests.support.server import Server
from tests.support.sqlite import write_lock


@dataclass
class Target:
    """The service and what it stands on."""

    server: Server
    url: str
    window: int
    postgres: Postgres | None = None
    relay: Relay | None = None

    def some_time(self) -> float:
        """Return a length of time that is as often longer than the window as shorter."""
        return random.uniform(0.5, 2 * self.window)


def kill_a_worker(target: Target) -> None:
    os.kill(random.choice(target.server.workers()), signal.SIGKILL)


def kill_all(target: Target) -> None:
    target.server.kill()
    target.server.__enter__()


def reload(target: Target) -> None:
    os.kill(target.server.master, signal.SIGHUP)


def lock_the_file(target: Target) -> None:
    with write_lock(target.url):
        sleep(target.some_time())


def hang(target: Target) -> None:
    assert target.postgres
    target.postgres.signal(signal.SIGSTOP)
    sleep(target.some_time())
    target.postgres.signal(signal.SIGCONT)


def restart(target: Target) -> None:
    assert target.postgres
    target.postgres.stop("fast")
    sleep(target.some_time())
    target.postgres.start()


def crash(target: Target) -> None:
    assert target.postgres
    target.postgres.stop("immediate")
    sleep(target.some_time())
    target.postgres.start()


def cut_off(target: Target) -> None:
    assert target.relay
    target.relay.hold()
    sleep(target.some_time())
    target.relay.release()


def swallow_replies(target: Target) -> None:
    assert target.relay
    target.relay.hold(replies_only=True)
    sleep(target.some_time())
    target.relay.release()


def lock_the_table(target: Target) -> None:
    mode = random.choice(["SHARE", "ACCESS EXCLUSIVE"])
    with psycopg.connect(target.url) as connection:
        connection.execute(f"LOCK TABLE sessions IN {mode} MODE")
        sleep(target.some_time())


Fault = Callable[[Target], None]
OURS: tuple[Fault, ...] = (kill_a_worker, kill_all, reload)
FAULTS: dict[str, tuple[Fault, ...]] = {
    "sqlite": (*OURS, lock_the_file),
    "postgresql": (*OURS, hang, restart, crash, cut_off, swallow_replies, lock_the_table),
}


def start(stack: ExitStack, kind: str, window: int) -> Target:
    """Start a database of that kind with one user, and the service on it."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    postgres = relay = None
    url = served = f"sqlite:///{folder}/soak.db"
    if kind == "postgresql":
        folder.chmod(0o755)
        (folder / "postgresql").mkdir()
        postgres = Postgres(folder / "postgresql")
        postgres.create()
        stack.callback(postgres.stop, "immediate")
        url = postgres.create_database("soak")
        relay = stack.enter_context(Relay(postgres.port))
        served = url.replace(f":{postgres.port}/", f":{relay.port}/")
    with application(url) as app:
        with app.app_context():
            flask_migrate.upgrade()
        create_user(app, "alice", PASSWORD)
    settings = {"TOKENAPP_REFRESH_GRACE": str(window), "TOKENAPP_ISSUER": "http://soak.test"}
    server = stack.enter_context(Server(served, settings, log=folder / "server.log"))
    return Target(server, url, window, postgres, relay)


def sign_in(target: Target) -> Follower:
    """Open a session; one of the workers may not have noticed yet that the last fault is over."""
    client = target.server.client
    wait_until(lambda: client.login().status == HTTPStatus.OK, seconds=BACK_WITHIN, what="a sign-in")
    return Follower(client)


def suffer(target: Target, fault: Fault, clients: int) -> Counter[str]:
    """Let clients live through one fault; return what went wrong, and how often."""
    crowd = [sign_in(target) for _ in range(clients)]
    with repeating(*[each.step for each in crowd]):
        sleep(random.uniform(0, target.window))
        fault(target)
        healed = monotonic()
        try:
            wait_until(lambda: all(each.is_settled(healed) for each in crowd), seconds=BACK_WITHIN)
        except AssertionError:
            return Counter({"L1: not back in time": 1})
        sleep(0.5)
    replies = responses_of(crowd)
    return Counter(
        {
            "D4: sessions lost": sum(403 in each.statuses() for each in crowd),
            "X1: wrong answers": sum(reply.status not in {200, 403, 503} for reply in replies),
            "L2: late answers": sum(reply.seconds > RESPONSE_WITHIN for reply in replies),
        }
    )


def main() -> int:
    """Run the faults in random order until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--kind", choices=[*FAULTS], default="postgresql")
    parser.add_argument("--clients", type=int, default=24)
    parser.add_argument("--window", type=int, default=3, help="TOKENAPP_REFRESH_GRACE, in seconds")
    parser.add_argument("--only", help="the one fault to try")
    options = parser.parse_args()
    over = monotonic() + 60 * options.minutes
    seen, found = Counter[str](), defaultdict[str, Counter[str]](Counter)
    with ExitStack() as stack:
        target = start(stack, options.kind, options.window)
        chosen = [each for each in FAULTS[options.kind] if options.only in {None, each.__name__}]
        while monotonic() < over:
            fault = random.choice(chosen)
            seen[fault.__name__] += 1
            found[fault.__name__] += suffer(target, fault, options.clients)
            print(f"{sum(seen.values()):4} {fault.__name__:16} {dict(found[fault.__name__])}", flush=True)
    print(f"{options.clients} clients, window {options.window} s: faults {dict(seen)}")
    broken = {name: dict(+what) for name, what in found.items() if +what}
    print(f"broken promises: {broken or 'none'}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
