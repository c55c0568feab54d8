"""Run the service under load, inject random faults, and count what was lost.

    python -m bench.soak --minutes 30 --kind postgresql

The promises of `tests/db/test_postgresql_faults.py` are checked after each fault. A session that is lost is counted for
the fault that caused it. The exit status is 1 if a session was lost, or a response was wrong or late.
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
    """The service, its database, and the relay between them."""

    server: Server
    url: str
    grace: int
    postgres: Postgres | None = None
    relay: Relay | None = None

    def random_duration(self) -> float:
        """Return a random duration, shorter or longer than the grace period."""
        return random.uniform(0.5, 2 * self.grace)


def kill_a_worker(target: Target) -> None:
    os.kill(random.choice(target.server.workers()), signal.SIGKILL)


def kill_all(target: Target) -> None:
    target.server.kill()
    target.server.__enter__()


def reload(target: Target) -> None:
    os.kill(target.server.master, signal.SIGHUP)


def lock_the_file(target: Target) -> None:
    with write_lock(target.url):
        sleep(target.random_duration())


def hang(target: Target) -> None:
    assert target.postgres
    target.postgres.signal(signal.SIGSTOP)
    sleep(target.random_duration())
    target.postgres.signal(signal.SIGCONT)


def restart(target: Target) -> None:
    assert target.postgres
    target.postgres.stop("fast")
    sleep(target.random_duration())
    target.postgres.start()


def crash(target: Target) -> None:
    assert target.postgres
    target.postgres.stop("immediate")
    sleep(target.random_duration())
    target.postgres.start()


def cut_off(target: Target) -> None:
    assert target.relay
    target.relay.hold()
    sleep(target.random_duration())
    target.relay.release()


def drop_responses(target: Target) -> None:
    assert target.relay
    target.relay.hold(responses_only=True)
    sleep(target.random_duration())
    target.relay.release()


def lock_the_table(target: Target) -> None:
    mode = random.choice(["SHARE", "ACCESS EXCLUSIVE"])
    with psycopg.connect(target.url) as connection:
        connection.execute(f"LOCK TABLE sessions IN {mode} MODE")
        sleep(target.random_duration())


Fault = Callable[[Target], None]
SERVER_FAULTS: tuple[Fault, ...] = (kill_a_worker, kill_all, reload)
FAULTS: dict[str, tuple[Fault, ...]] = {
    "sqlite": (*SERVER_FAULTS, lock_the_file),
    "postgresql": (*SERVER_FAULTS, hang, restart, crash, cut_off, drop_responses, lock_the_table),
}


def start(stack: ExitStack, kind: str, grace: int) -> Target:
    """Start a database of this kind with one user, and the service."""
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
    settings = {"TOKENAPP_REFRESH_GRACE": f"{grace}s", "TOKENAPP_ISSUER": "http://soak.test"}
    server = stack.enter_context(Server(served, settings, log=folder / "server.log"))
    return Target(server, url, grace, postgres, relay)


def sign_in(target: Target) -> Follower:
    """Sign in; retry, because a worker may still see the effects of the last fault."""
    client = target.server.client
    wait_until(lambda: client.login().status == HTTPStatus.OK, seconds=BACK_WITHIN, what="a sign-in")
    return Follower(client)


def inject(target: Target, fault: Fault, clients: int) -> Counter[str]:
    """Inject a fault under load; return the counts of broken promises."""
    followers = [sign_in(target) for _ in range(clients)]
    with repeating(*[each.step for each in followers]):
        sleep(random.uniform(0, target.grace))
        fault(target)
        healed = monotonic()
        try:
            wait_until(lambda: all(each.is_settled(healed) for each in followers), seconds=BACK_WITHIN)
        except AssertionError:
            return Counter({"L1: not back in time": 1})
        sleep(0.5)
    responses = responses_of(followers)
    return Counter(
        {
            "D4: sessions lost": sum(403 in each.statuses() for each in followers),
            "X1: wrong responses": sum(response.status not in {200, 403, 503} for response in responses),
            "L2: late responses": sum(response.seconds > RESPONSE_WITHIN for response in responses),
        }
    )


def main() -> int:
    """Inject random faults until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--kind", choices=[*FAULTS], default="postgresql")
    parser.add_argument("--clients", type=int, default=24)
    parser.add_argument("--grace", type=int, default=3, help="TOKENAPP_REFRESH_GRACE, in seconds")
    parser.add_argument("--only", help="name of the only fault to inject")
    options = parser.parse_args()
    deadline = monotonic() + 60 * options.minutes
    seen, found = Counter[str](), defaultdict[str, Counter[str]](Counter)
    with ExitStack() as stack:
        target = start(stack, options.kind, options.grace)
        chosen = [each for each in FAULTS[options.kind] if options.only in {None, each.__name__}]
        while monotonic() < deadline:
            fault = random.choice(chosen)
            seen[fault.__name__] += 1
            found[fault.__name__] += inject(target, fault, options.clients)
            print(f"{sum(seen.values()):4} {fault.__name__:16} {dict(found[fault.__name__])}", flush=True)
    print(f"{options.clients} clients, grace period {options.grace} s: faults {dict(seen)}")
    broken = {name: dict(+what) for name, what in found.items() if +what}
    print(f"broken promises: {broken or 'none'}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
