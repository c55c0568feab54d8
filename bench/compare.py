"""All programs under all loads, in rounds, one after another on the same core."""

import time
from collections.abc import Iterator, Mapping

from bench.load import Sample, send
from bench.process import cpu_of
from bench.programs import Place, Program

LOADS = ("protected", "rotation", "damped", "login", "logout")
# Sign-ins are few, so they get this long at least to be counted.
SIGN_INS = 3
Figures = dict[str, list[float]]


def measure(place: Place, programs: Mapping[str, Program], rounds: int, seconds: int) -> dict[str, dict[str, Figures]]:
    """Return, for each load and each program, the figures of every round."""
    found: dict[str, dict[str, Figures]] = {load: {} for load in LOADS}
    for program in programs.values():
        send(next(iter(program.feeds.values())), program.port, seconds=1)
    for number in range(rounds):
        for load, key, program in _turns(programs, number):
            long = max(seconds, SIGN_INS) if load == "login" else seconds
            for name, figure in _measure(place, program, load, long).items():
                found[load].setdefault(key, {}).setdefault(name, []).append(figure)
            shown = {name: values[-1] for name, values in found[load][key].items()}
            print(f"round {number + 1} {load:10} {key:22} {shown}", flush=True)
    return found


def _turns(programs: Mapping[str, Program], number: int) -> Iterator[tuple[str, str, Program]]:
    """Give what is measured in a round; each time another program begins."""
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
    time.sleep(0.05)  # for the log's last lines and the like, which are of the load too
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
