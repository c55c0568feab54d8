"""Measures this service beside what people use today, and writes docs/benchmarks.

    python -m bench --rounds 5 --seconds 2

Everything is started, loaded and compared in this one run; nothing is kept from the run before.
"""

import argparse
import json
import os
import platform
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench import compare, extras, plots, report
from bench.instructions import instructions
from bench.programs import EXPRESS, Place, start_all
from tests.support.postgres import Postgres

PACKAGES = (
    *(
        "flask",
        "gunicorn",
        "granian",
        "sqlalchemy",
        "psycopg",
        "cryptography",
        "pyjwt",
        "flask-jwt-extended",
        "flask-sqlalchemy",
    ),
    *("django", "djangorestframework", "djangorestframework-simplejwt"),
)


PARTS = ("loads", "crowd", "mixed", "memory", "start", "calls", "instructions")


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2, help="of each load in each round")
    parser.add_argument("--folder", type=Path, default=report.FOLDER, help="where the report is written")
    parser.add_argument("--resume", action="store_true", help="keep the parts that a run that was cut off has measured")
    parser.add_argument("--part", choices=PARTS, help="measure this part alone, and resume later")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    kept = options.folder / "partial.json"
    found = json.loads(kept.read_text()) if options.resume and kept.exists() else {}
    found.setdefault("about", {**about(options.rounds, options.seconds), "sittings": 0, "minutes": 0.0})
    found["about"]["sittings"] += 1
    for part in [options.part] if options.part else [each for each in PARTS if each not in found]:
        began = time.monotonic()
        found |= measure(part, found["about"]["rounds"], found["about"]["seconds"])
        found["about"]["minutes"] = round(found["about"]["minutes"] + (time.monotonic() - began) / 60, 1)
        kept.write_text(report.as_json(found))
    if all(part in found for part in PARTS):
        write(found, options.folder)
        kept.unlink()


def write(found: dict[str, Any], folder: Path) -> None:
    """Write the report."""
    (folder / "results.json").write_text(report.as_json(found))
    (folder / "README.md").write_text(report.page(found))
    plots.draw(found, folder)
    print(report.targets_table(found))


def measure(part: str, rounds: int, seconds: int) -> dict[str, Any]:
    """Return the figures of one part."""
    few = min(rounds, 3)
    parts: dict[str, Callable[[Place], dict[str, Any]]] = {
        "loads": lambda place: loads(place, rounds, seconds),
        "crowd": lambda place: {"crowd": extras.crowd(place, few, seconds)},
        "mixed": lambda place: {"mixed": extras.mixed(place, 5 * seconds)},
        "memory": lambda place: {"memory": extras.memory(place)},
        "start": lambda place: {"start": extras.start(place, rounds)},
        "calls": lambda place: {"calls": extras.calls(place), "imports": extras.imports()},
        "instructions": lambda place: {"instructions": instructions(place)},
    }
    # Tokens are made for the rounds, for one more (wrk asks for a request to look at), and for a margin.
    with _place(seconds * (rounds + 1)) as place:
        found = parts[part](place)
    if part != "loads":
        print(found, flush=True)
    return found


def loads(place: Place, rounds: int, seconds: int) -> dict[str, Any]:
    """Return what each load costs each program."""
    programs = start_all(place)
    return {
        "programs": {key: {"title": each.title, "database": each.database} for key, each in programs.items()},
        "loads": compare.measure(place, programs, rounds, seconds),
        "pss_mb": {key: round(each.tree.pss(), 1) for key, each in programs.items()},
    }


class _place(ExitStack):  # noqa: N801 -- used as a function is
    """A folder in which programs are started, and which goes with them."""

    def __init__(self, seconds: int) -> None:
        super().__init__()
        self._seconds = seconds

    def __enter__(self) -> Place:  # type: ignore[override]  # it gives what stands on it
        super().__enter__()
        folder = Path(self.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        folder.chmod(0o755)  # PostgreSQL runs as another user, who must get to its own part
        return Place(self, folder, self._seconds)


def about(rounds: int, seconds: int) -> dict[str, Any]:
    """Return when, where and with what it was measured."""
    cpu = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "date": extras.today(),
        "rounds": rounds,
        "seconds": seconds,
        "machine": f"{len(cpu)} cores ({cpu[0]}), {memory:.0f} GiB, Linux {platform.release()}",
        "load_before": round(os.getloadavg()[0], 2),
        "versions": {
            "Python": platform.python_version(),
            "SQLite": sqlite3.sqlite_version,
            **_programs(),
            **_packages(),
        },
    }


def _programs() -> dict[str, str]:
    found = Postgres.find_programs()
    postgres = _says([str(found / "postgres"), "--version"]).split()[2] if found else "none"
    return {"PostgreSQL": postgres, "Node": _says(["node", "--version"]).removeprefix("v")}


def _packages() -> dict[str, str]:
    express = json.loads((EXPRESS / "package.json").read_text())["dependencies"]
    return {**{name: version(name) for name in PACKAGES}, **express}


def _says(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main()
