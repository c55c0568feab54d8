"""Compare this service with common alternatives, and write docs/benchmarks.

    python -m bench --rounds 5 --seconds 2

All programs are measured in the same run. Figures of earlier runs are not used.
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
    """Measure the parts and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2, help="duration of each load in each round")
    parser.add_argument("--folder", type=Path, default=report.FOLDER, help="folder of the report")
    parser.add_argument("--resume", action="store_true", help="keep the parts that an interrupted run has measured")
    parser.add_argument("--part", choices=PARTS, help="measure only this part; continue later with --resume")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    partial = options.folder / "partial.json"
    found = json.loads(partial.read_text()) if options.resume and partial.exists() else {}
    found.setdefault("about", {**about(options.rounds, options.seconds), "sittings": 0, "minutes": 0.0})
    found["about"]["sittings"] += 1
    for part in [options.part] if options.part else [each for each in PARTS if each not in found]:
        began = time.monotonic()
        found |= measure(part, found["about"]["rounds"], found["about"]["seconds"])
        found["about"]["minutes"] = round(found["about"]["minutes"] + (time.monotonic() - began) / 60, 1)
        partial.write_text(report.as_json(found))
    if all(part in found for part in PARTS):
        write(found, options.folder)
        partial.unlink()


def write(found: dict[str, Any], folder: Path) -> None:
    """Write the figures, the page and the plots."""
    (folder / "results.json").write_text(report.as_json(found))
    (folder / "README.md").write_text(report.page(found))
    plots.draw(found, folder)
    print(report.targets_table(found))


def measure(part: str, rounds: int, seconds: int) -> dict[str, Any]:
    """Measure one part and return its figures."""
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
    # One round more than measured: wrk takes an extra request at its start, and a margin is needed.
    with _place(seconds * (rounds + 1)) as place:
        found = parts[part](place)
    if part != "loads":
        print(found, flush=True)
    return found


def loads(place: Place, rounds: int, seconds: int) -> dict[str, Any]:
    """Return the figures of each load for each program."""
    programs = start_all(place)
    return {
        "programs": {key: {"title": each.title, "database": each.database} for key, each in programs.items()},
        "loads": compare.measure(place, programs, rounds, seconds),
        "pss_mb": {key: round(each.tree.pss(), 1) for key, each in programs.items()},
    }


class _place(ExitStack):  # noqa: N801 -- used like a function
    """A temporary folder for the programs; both are cleaned up at the end."""

    def __init__(self, seconds: int) -> None:
        super().__init__()
        self._seconds = seconds

    def __enter__(self) -> Place:  # type: ignore[override]  # it returns the place, not the stack
        super().__enter__()
        folder = Path(self.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        folder.chmod(0o755)  # PostgreSQL runs as another user and needs access to its subfolder
        return Place(self, folder, self._seconds)


def about(rounds: int, seconds: int) -> dict[str, Any]:
    """Return the date, the options, the machine and the versions."""
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
            **_program_versions(),
            **_package_versions(),
        },
    }


def _program_versions() -> dict[str, str]:
    found = Postgres.find_programs()
    postgres = _output_of([str(found / "postgres"), "--version"]).split()[2] if found else "none"
    return {"PostgreSQL": postgres, "Node": _output_of(["node", "--version"]).removeprefix("v")}


def _package_versions() -> dict[str, str]:
    express = json.loads((EXPRESS / "package.json").read_text())["dependencies"]
    return {**{name: version(name) for name in PACKAGES}, **express}


def _output_of(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main()
