"""Measure operations on databases with one thousand to ten million sessions.

    python -m bench.growth operations RESULTS.json DATABASE_URL...
    python -m bench.growth prune RESULTS.json DATABASE_URL
    python -m bench.growth report RESULTS.json

Fill the databases with bench.growth_fill first. ``operations`` measures refreshes, sign-ins, session lists and the
query for the revocation list, in rounds over all databases: so other work on the machine affects all of them alike.
``prune`` measures refreshes before, during and after a pruning. Results are added to the file; a repeated measurement
replaces the earlier one.
"""

import json
import multiprocessing
import platform
import random
import secrets
import sqlite3
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa
from flask import Flask
from sqlalchemy.engine import make_url

from bench.growth_fill import LIVE_FROM
from tests.support.app import make_app
from tokenapp import db, sessions
from tokenapp.models import RefreshClaims, Session, User
from tokenapp.sessions import revocation_list

ROUNDS, PER_ROUND = 20, 100
RATE, PHASE, LONGEST_PRUNING = 100, 20.0, 600.0
Operation = Callable[[], object]


def server_cpu_ns(pid: int | None) -> int:
    """Return the CPU time of the PostgreSQL process `pid`; 0 for SQLite."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) if pid else 0


@dataclass
class Cost:
    """The cost of one kind of operation, in microseconds.

    `durations` has the wall time of each operation. `cpu` has the CPU time per operation of each round, in this process
    and the database server.
    """

    durations: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, float]:
        """Return p50 and p99 of the wall time, and the median CPU time."""
        cuts = statistics.quantiles(self.durations, n=100)
        return {"p50": round(cuts[49]), "p99": round(cuts[98]), "cpu": round(statistics.median(self.cpu))}


class Subject:
    """The application on one filled database, with the operations to measure."""

    def __init__(self, url: str) -> None:
        self.app: Flask = make_app(url, TOKENAPP_REFRESH_GRACE="0")
        self.costs: dict[str, Cost] = {}
        with self.app.app_context():
            self.kind = db.db.engine.dialect.name
            with db.reading() as reader:
                self._last = reader.scalar(sa.select(sa.func.max(Session.id))) or ""
                self.count = reader.scalar(sa.select(sa.func.count()).select_from(Session)) or 0
            with db.db.engine.connect() as connection:
                self.pid = connection.scalar(sa.text("SELECT pg_backend_pid()")) if self.kind != "sqlite" else None

    def random_live_sessions(self) -> list[sa.Row[Any]]:
        """Return random live sessions from the whole table."""
        high = int(self._last[:12], 16)
        low = high - int(LIVE_FROM.total_seconds() * 990)
        now = datetime.now(UTC)
        found: dict[str, sa.Row[Any]] = {}
        live = (Session.revoked_at.is_(None), Session.expires_at > now + timedelta(minutes=5))
        columns = (Session.id, Session.current_jti, Session.generation, Session.user_id)
        for _ in range(PER_ROUND * 20):
            after = f"{random.randint(low, high):012x}{secrets.token_urlsafe(3)}"
            page = sa.select(*columns).where(Session.id > after, *live).order_by(Session.id).limit(1)
            found.update({row.id: row for row in db.execute_now(page)})
            if len(found) == PER_ROUND:
                break
        return list(found.values())

    def round(self) -> None:
        """Run each operation a hundred times."""
        now = datetime.now(UTC)
        rows = self.random_live_sessions()
        with db.reading() as reader:
            users = [reader.get_one(User, row.user_id) for row in rows]
        self._measure("refresh", [_refreshing(row, now) for row in rows])
        self._measure("sign-in", [_opening(user, now) for user in users])
        self._measure("list", [_listing(user, now) for user in users])
        self._measure("what ended lately", [_reading_revocations(now)] * 10)

    def _measure(self, name: str, operations: list[Operation]) -> None:
        cost = self.costs.setdefault(name, Cost())
        began = time.process_time_ns() + server_cpu_ns(self.pid)
        for operation in operations:
            at = time.perf_counter_ns()
            operation()
            cost.durations.append((time.perf_counter_ns() - at) / 1000)
        ended = time.process_time_ns() + server_cpu_ns(self.pid)
        cost.cpu.append((ended - began) / 1000 / len(operations))


def _refreshing(row: sa.Row[Any], now: datetime) -> Operation:
    def refresh() -> None:
        grant = sessions.refresh(RefreshClaims(row.id, row.current_jti, row.generation), now)
        assert grant.outcome == "rotated", grant.outcome

    return refresh


def _opening(user: User, now: datetime) -> Operation:
    return lambda: sessions.open_session(user, now, sessions.Device("10.1.2.3", "bench"))


def _listing(user: User, now: datetime) -> Operation:
    return lambda: sessions.page_of(user.id, now, before=None, limit=50)


def _reading_revocations(now: datetime) -> Operation:
    parameters = {"since": now - timedelta(seconds=76), "sid": "", "page": revocation_list.PAGE}
    return lambda: db.execute_now(revocation_list._RECENTLY_REVOKED, parameters)  # noqa: SLF001 -- the statement that workers send


@contextmanager
def wal_of(url: str, *, after_checkpoint: bool) -> Iterator[dict[str, float]]:
    """Yield a dict that is filled at the end with WAL and update counts.

    `hot_updates` counts the updates that changed no index.
    """
    figures: dict[str, float] = {}
    query = (
        "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn, (SELECT wal_fpi FROM pg_stat_wal), n_tup_upd,"
        " n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'sessions'"
    )
    with closing(psycopg.connect(url, autocommit=True)) as connection:
        if after_checkpoint:
            connection.execute("CHECKPOINT")
        time.sleep(1.5)
        before = connection.execute(query).fetchone() or ()
        yield figures
        after = connection.execute(query).fetchone() or ()
    names = ("wal_bytes", "full_pages", "updates", "hot_updates")
    figures.update({name: float(b - a) for name, a, b in zip(names, before, after, strict=True)})


def wal_of_rotations(subject: Subject, url: str) -> dict[str, float]:
    """Measure the WAL of rotations after a checkpoint, and again on the same pages."""
    measured: dict[str, float] = {}
    with subject.app.app_context():
        rows = {row.id: row for _ in range(10) for row in subject.random_live_sessions()}
        claims = {row.id: RefreshClaims(row.id, row.current_jti, row.generation) for row in rows.values()}
        for name in ("first after a checkpoint", "later"):
            with wal_of(url, after_checkpoint=name != "later") as figures:
                for sid, each in list(claims.items()):
                    grant = sessions.refresh(each, datetime.now(UTC))
                    assert grant.outcome == "rotated", grant.outcome
                    claims[sid] = RefreshClaims(sid, grant.jti, grant.generation)
                db.execute_now(sa.text("SELECT pg_stat_force_next_flush()"))
            measured[f"WAL bytes per rotation, {name}"] = round(figures["wal_bytes"] / len(claims))
            measured[f"HOT share, {name}"] = round(figures["hot_updates"] / figures["updates"], 4)
    return measured


def operations(urls: list[str]) -> dict[str, Any]:
    """Measure all operations on all databases, in turn."""
    subjects = [(url, Subject(url)) for url in urls]
    for number in range(ROUNDS + 2):
        for _, subject in subjects:
            with subject.app.app_context():
                subject.round()
            if number == 1:  # the first rounds compile statements and fill caches
                subject.costs.clear()
        print(f"round {number + 1} of {ROUNDS + 2}", file=sys.stderr)
    found: dict[str, Any] = {}
    for url, subject in subjects:
        figures: dict[str, Any] = {name: cost.summary() for name, cost in subject.costs.items()}
        if subject.kind != "sqlite":
            figures |= wal_of_rotations(subject, url)
        found[f"{subject.kind} {subject.count:.0e}"] = figures
    return found


def refresh_continuously(url: str, commands: Any, responses: Any) -> None:
    """Refresh sessions at `RATE` per second.

    Respond to each command with the durations since the last one, in milliseconds.
    """
    subject = Subject(url)
    with subject.app.app_context():
        claims: dict[str, RefreshClaims] = {}
        while len(claims) < RATE * 20:
            claims.update(
                {r.id: RefreshClaims(r.id, r.current_jti, r.generation) for r in subject.random_live_sessions()}
            )
        durations: list[float] = []
        responses.put("ready")
        while True:
            for sid, each in list(claims.items()):
                if not commands.empty():
                    responses.put(durations)
                    durations = []
                    if commands.get() == "end":
                        return
                at = time.perf_counter()
                grant = sessions.refresh(each, datetime.now(UTC))
                durations.append((time.perf_counter() - at) * 1000)
                claims[sid] = RefreshClaims(sid, grant.jti, grant.generation)
                time.sleep(1 / RATE)


def prune(url: str) -> dict[str, Any]:
    """Measure refreshes of another process before, during and after a pruning."""
    spawn = multiprocessing.get_context("spawn")
    commands, responses = spawn.Queue(), spawn.Queue()
    process = spawn.Process(target=refresh_continuously, args=(url, commands, responses))
    process.start()
    app = make_app(url)

    def durations_since_last(command: str) -> dict[str, float]:
        commands.put(command)
        durations = responses.get()
        cuts = statistics.quantiles(durations, n=100)
        return {"refreshes": len(durations), "p50 ms": round(cuts[49], 2), "p99 ms": round(cuts[98], 2),
                "max ms": round(max(durations), 1)}  # fmt: skip

    assert responses.get() == "ready"
    time.sleep(2)
    durations_since_last("warm")
    time.sleep(PHASE)
    found: dict[str, Any] = {"before": durations_since_last("continue")}
    began, number = time.monotonic(), 0
    with app.app_context():
        for batch in sessions.prune(datetime.now(UTC), timedelta(days=30)):
            number += batch
            if time.monotonic() - began > LONGEST_PRUNING:
                break
    seconds = time.monotonic() - began
    found |= {"during": durations_since_last("continue"), "deleted": number, "seconds": round(seconds, 1)}
    time.sleep(PHASE)
    found["after"] = durations_since_last("end")
    process.join(10)
    return found


def report(results: dict[str, Any]) -> str:
    """Return the tables of the results."""
    lines = []
    for name, figures in results["operations"].items():
        kind, count = name.split()
        lines += [
            f"| {kind}, {float(count):,.0f} sessions | {what} | {cost['cpu']} | {cost['p50']:,} | {cost['p99']:,} |"
            for what, cost in figures.items()
            if isinstance(cost, dict)
        ]
    lines += ["", "| | before | during | after |", "| --- | --- | --- | --- |"]
    for kind, figures in results["prune"].items():
        for what in ("p50 ms", "p99 ms"):
            cells = [str(figures[phase][what]) for phase in ("before", "during", "after")]
            lines.append(f"| {kind}, {what} | {' | '.join(cells)} |")
    return "\n".join(["| where | what | CPU µs | p50 µs | p99 µs |", "| --- | --- | --- | --- | --- |", *lines])


def main() -> None:
    """Run the measurement that the arguments name, and add it to the results."""
    what, file, *urls = sys.argv[1:]
    path = Path(file)
    results = json.loads(path.read_text()) if path.exists() else {}
    if what == "report":
        print(report(results))
        return
    results["machine"] = {
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "cores": multiprocessing.cpu_count(),
        "measured": f"{datetime.now(UTC):%Y-%m-%d}",
    }
    if what == "operations":
        results.setdefault(what, {}).update(operations(urls))
    else:
        results.setdefault(what, {})[make_url(urls[0]).get_backend_name()] = prune(urls[0])
    path.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results.get(what), indent=2))


if __name__ == "__main__":
    main()
