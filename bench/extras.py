"""Measure many sessions, sign-ins beside other requests, memory and start."""

import cProfile
import os
import pstats
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime

from flask import Flask

from bench import ours
from bench.load import Feed, send
from bench.pacing import Lane, pace
from bench.process import Tree
from bench.programs import PASSWORD, TOKENS, USERS, Place, bearer, logins, responds, start_express
from bench.rivals import textbook
from tests.support.app import ROOT, application, environment
from tests.support.client import Client
from tests.support.server import free_port

CROWD = 100_000
IMPORTS = 12
CALLS = 200


def crowd(place: Place, rounds: int, seconds: int) -> dict[str, object]:
    """Return the refreshes per second of this service and Express.

    Each of them has 100,000 live sessions.
    """
    url = place.database("sqlite", "crowd")
    ours.prepare(url, USERS, PASSWORD)
    wanted = 3500 * seconds * rounds
    minted = list(ours.open_sessions(url, max(CROWD, wanted), minted=wanted))
    port = free_port()
    tree = place.run("crowd", ours.command(), ours.settings(url, PORT=str(port), WEB_CONCURRENCY="1"), port)
    rotation = place.feed("crowd", "rotation", [ours.refresh(each.refresh_token) for each in minted], once=True)
    express = start_express(place, "express-crowd", live=CROWD)
    rates: dict[str, list[float]] = {"ours": [], "express": []}
    for _ in range(rounds):
        for key, feed, to in (("ours", rotation, port), ("express", express.feeds["damped"], express.port)):
            sample = send(feed, to, seconds=seconds)
            rates[key].append(round(sample.requests / sample.seconds, 1))
    memory = {"ours": round(tree.pss(), 1), "express": round(express.tree.pss(), 1)}
    return {"sessions": max(CROWD, wanted), "tokens": CROWD, "rate": rates, "pss_mb": memory}


def mixed(place: Place, seconds: int) -> dict[str, object]:
    """Return response times of the protected route beside sign-ins.

    The load is 1,000 protected requests and 10 sign-ins per second.
    """
    url = place.database("sqlite", "mixed")
    ours.prepare(url, USERS, PASSWORD)
    minted = list(ours.open_sessions(url, TOKENS))
    port = free_port()
    cores = "0-1" if (os.cpu_count() or 1) > 1 else "0"
    log = place.folder / "mixed.log"
    with Tree(
        ours.command(), env=ours.settings(url, PORT=str(port)), log=log, cores=cores, folder=place.folder
    ) as tree:
        _wait(lambda: responds(tree, port))
        time.sleep(1)  # until the second worker has started too
        lanes = [Lane([bearer(each.access_token) for each in minted], 1000, 16), Lane(logins(), 10, 8)]
        pace(lanes, port, seconds)
    return {"workers": 2, "seconds": seconds, "protected": _latencies(lanes[0]), "login": _latencies(lanes[1])}


def _latencies(lane: Lane) -> dict[str, float]:
    cuts = statistics.quantiles(lane.delays, n=1000, method="inclusive")
    named = {"p50_ms": cuts[499], "p99_ms": cuts[989], "p999_ms": cuts[998], "max_ms": max(lane.delays)}
    return {
        "requests": len(lane.delays),
        "refused": lane.refused,
        **{name: round(value * 1000, 2) for name, value in named.items()},
    }


def memory(place: Place) -> dict[str, dict[str, float]]:
    """Return the memory of 1 and 4 workers in MB, after the start and after load."""
    found = {}
    for workers in (1, 4):
        url = place.database("sqlite", f"memory{workers}")
        ours.prepare(url, USERS, PASSWORD)
        minted = list(ours.open_sessions(url, 1000))
        port = free_port()
        env = ours.settings(url, PORT=str(port), WEB_CONCURRENCY=str(workers))
        with Tree(ours.command(), env=env, log=place.folder / "memory.log", folder=place.folder) as tree:
            _wait(lambda tree=tree, port=port: responds(tree, port))
            _settle(tree)
            started = tree.pss()
            feeds = {
                "protected": place.feed("memory", "protected", [bearer(each.access_token) for each in minted]),
                "refresh": place.feed("memory", "refresh", [ours.refresh(each.refresh_token) for each in minted]),
                "login": place.feed("memory", "login", logins()),
            }
            for feed in feeds.values():
                _load(feed, port)
            _settle(tree)
            found[str(workers)] = {"started_mb": round(started, 1), "used_mb": round(tree.pss(), 1)}
    return found


def _load(feed: Feed, port: int) -> None:
    # More connections than one worker has threads, so that each worker gets some of them.
    send(feed, port, seconds=2, connections=32)


def _settle(tree: Tree) -> None:
    """Wait until the program is idle and has returned the memory for hashing.

    After the load ends, the program still hashes the passwords of pending sign-ins. It returns the memory half a second
    after the last hash.
    """
    deadline, used = time.monotonic() + 60, -1.0
    while tree.cpu() - used > 0.02:
        assert time.monotonic() < deadline, "the program does not become idle"
        used = tree.cpu()
        time.sleep(0.5)
    time.sleep(1)


def start(place: Place, rounds: int) -> dict[str, list[float]]:
    """Return the seconds from the start of gunicorn to its first responses.

    gunicorn has two workers. The responses are the first of `/healthz` and the first sign-in.
    """
    url = place.database("sqlite", "start")
    ours.prepare(url, USERS, PASSWORD)
    found: dict[str, list[float]] = {"healthz_s": [], "login_s": []}
    for _ in range(rounds):
        port = free_port()
        env = ours.settings(url, PORT=str(port))
        with Tree(ours.command(), env=env, log=place.folder / "start.log", cores="0-1", folder=place.folder) as tree:
            _wait(lambda tree=tree, port=port: responds(tree, port))
            found["healthz_s"].append(round(time.perf_counter() - tree.began, 3))
            assert Client(port).login(ours.name_of(0), PASSWORD).status == 200
            found["login_s"].append(round(time.perf_counter() - tree.began, 3))
    return found


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "the program did not start"
        time.sleep(0.005)


def imports() -> list[dict[str, object]]:
    """Return the packages that take longest to import, without their dependencies."""
    env = environment()
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import tokenapp"],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    alone: dict[str, int] = {}
    for line in done.stderr.splitlines():
        parts = line.removeprefix("import time:").split("|")
        if len(parts) == 3 and parts[0].strip().isdigit():
            package = parts[2].strip().split(".")[0]
            alone[package] = alone.get(package, 0) + int(parts[0])
    most = sorted(alone.items(), key=lambda item: -item[1])[:IMPORTS]
    return [{"package": package, "ms": round(microseconds / 1000, 1)} for package, microseconds in most]


def calls(place: Place) -> dict[str, int]:
    """Return the number of Python function calls for one protected request."""
    url = place.database("sqlite", "calls")
    ours.prepare(url, 1, PASSWORD)
    minted = next(ours.open_sessions(url, 1))
    with application(url, **ours.FIXED) as app:
        count = _calls(app, minted.access_token)
    os.environ["DATABASE_URL"] = place.database("sqlite", "calls_textbook")
    rival = textbook.make_app()
    with rival.app_context():
        token = textbook.create_access_token(ours.name_of(0))
    return {"ours": count, "textbook": _calls(rival, token)}


def _calls(app: Flask, token: str) -> int:
    environ = app.test_client()._request_from_builder_args(("/api/protected",), {}).environ  # noqa: SLF001 -- the same environ as a server's

    def call() -> None:
        status: list[str] = []
        answer = app.wsgi_app(
            {**environ, "HTTP_AUTHORIZATION": f"Bearer {token}"}, lambda line, _fields, _fault=None: status.append(line)
        )
        b"".join(answer)
        assert status == ["200 OK"], status

    for _ in range(10):
        call()
    profile = cProfile.Profile()
    profile.enable()
    for _ in range(CALLS):
        call()
    profile.disable()
    return round(pstats.Stats(profile).total_calls / CALLS)  # type: ignore[attr-defined]  # its stub lacks it


def today() -> str:
    """Return the date in UTC."""
    return datetime.now(UTC).date().isoformat()
