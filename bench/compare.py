"""Measure all programs under all loads, in rounds, in turn on the same core."""

import time
from collections.abc import Iterator, Mapping

from bench.load import Sample, send
from bench.process import cpu_of
from bench.programs import Place, Program

LOADS = ("protected", "rotation", "damped", "login", "logout")
# Sign-ins are slow: a shorter round would contain too few of them.
MIN_SIGN_IN_SECONDS = 3
Figures = dict[str, list[float]]


def measure(place: Place, programs: Mapping[str, Program], rounds: int, seconds: int) -> dict[str, dict[str, Figures]]:
    """Return the figures of every round for each load and each program."""
    found: dict[str, dict[str, Figures]] = {load: {} for load in LOADS}
    for program in programs.values():
        send(next(iter(program.feeds.values())), program.port, seconds=1)
    for number in range(rounds):
        for load, key, program in _measurements(programs, number):
            duration = max(seconds, MIN_SIGN_IN_SECONDS) if load == "login" else seconds
            for name, figure in _measure(place, program, load, duration).items():
                found[load].setdefault(key, {}).setdefault(name, []).append(figure)
            shown = {name: values[-1] for name, values in found[load][key].items()}
            print(f"round {number + 1} {load:10} {key:22} {shown}", flush=True)
    return found


def _measurements(programs: Mapping[str, Program], number: int) -> Iterator[tuple[str, str, Program]]:
    """Yield the measurements of a round; each round starts with another program."""
    keys = list(programs)
    keys = keys[number % len(keys) :] + keys[: number % len(keys)]
    for load in LOADS:
        for key in keys:
            if load in programs[key].feeds or load in programs[key].before:
                yield load, key, programs[key]


def _measure(place: Place, program: Program, load: str, seconds: int) -> dict[str, float]:
    if load in program.before:
        program.before[load]()
    server = place.postgres.processes()[0] if place.postgres and program.database == "postgresql" else None
    before, before_database = program.tree.cpu(), cpu_of(server) if server else 0.0
    sample = send(program.feeds[load], program.port, seconds=seconds)
    time.sleep(0.05)  # the last log lines and similar work belong to the load
    used, used_database = program.tree.cpu() - before, (cpu_of(server) if server else 0.0) - before_database
    return _figures(sample, used, used_database)


def _figures(sample: Sample, used: float, used_database: float) -> dict[str, float]:
    return {
        "cpu_us": round(used / sample.requests * 1e6, 1),
        "database_us": round(used_database / sample.requests * 1e6, 1),
        "rate": round(sample.requests / sample.seconds, 1),
        "p50_ms": round(sample.p50_ms, 3),
        "p99_ms": round(sample.p99_ms, 3),
    }
