"""Compare checkouts of this service with each other, in one run.

    python -m bench.versions old=/path/to/a/checkout new=. --kind sqlite --load rotation --rounds 7 --seconds 3

All of them run at the same time, and each is under load in turn. So other work on the machine affects all alike:
compare the ratios, which are medians of the rounds. A checkout is run by the Python of its own `.venv` if it has one.
Further settings of one checkout follow its folder: `old=/path,TOKENAPP_THREADS=8`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Final

from bench.process import Tree
from tests.support.app import PASSWORD, ROOT, environment
from tests.support.client import Client
from tests.support.concurrency import at_once, wait_until
from tests.support.postgres import Postgres
from tests.support.server import free_port

SCRIPT: Final = Path(__file__).with_name("session.lua")
LOADS: Final = ("protected", "rotation", "login")
BURST: Final = 16  # sign-ins at the same time
FIGURES: Final = ("cpu_us", "rate", "p50_ms", "p99_ms", "pss_mb")
SETTINGS: Final = {"TOKENAPP_REFRESH_GRACE": "0", "TOKENAPP_THREADS": "4", "TOKENAPP_ISSUER": "http://tokenapp.bench"}


@dataclass
class Version:
    """A checkout of this service, and the figures of its rounds."""

    name: str
    folder: Path
    settings: dict[str, str]
    port: int = field(default_factory=free_port)
    figures: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    tree: Tree | None = None

    @property
    def python(self) -> str:
        """The interpreter."""
        own = self.folder / ".venv/bin/python"
        return str(own) if own.exists() else sys.executable

    def start(self, stack: ExitStack, url: str, cores: str, log: Path) -> float:
        """Create tables and a user, start the server, and return its start time.

        This is the number of seconds until the first response.
        """
        env = environment(DATABASE_URL=url, PORT=str(self.port), **{**SETTINGS, **self.settings})
        env["PYTHONPATH"] = str(self.folder)
        env.pop("PYTHONDONTWRITEBYTECODE", None)  # compiling at the start would cost some versions time and memory
        for arguments in (("db", "upgrade"), ("users", "create", "alice")):
            command = [self.python, "-m", "flask", "--app", "wsgi", *arguments]
            subprocess.run(
                command, cwd=self.folder, env=env, input=PASSWORD, text=True, capture_output=True, check=True
            )
        command = [self.python, "-m", "gunicorn", "-c", str(self.folder / "gunicorn.conf.py")]
        self.tree = stack.enter_context(Tree(command, env=env, log=log, cores=cores, folder=self.folder))
        wait_until(self.responds, seconds=60, what=self.name)
        return time.perf_counter() - self.tree.began

    def responds(self) -> bool:
        """Return whether the server responds."""
        try:
            return Client(self.port, timeout=5).send("GET", "/healthz").status == 200
        except OSError:
            return False

    def measure(self, load: str, seconds: int, connections: int) -> dict[str, float]:
        """Put the server under `load` for some seconds and return the figures."""
        assert self.tree is not None
        if load != "login":
            clients = [Client(self.port) for _ in range(connections)]
            assert {client.login().status for client in clients} == {200}
            values = [str(client.token if load == "protected" else client.cookie) for client in clients]
        used = self.tree.cpu()
        seen = burst(self.port, seconds) if load == "login" else send(self.port, load, values, seconds)
        time.sleep(0.05)
        used = self.tree.cpu() - used
        return {
            "cpu_us": used / seen["requests"] * 1e6,
            "rate": seen["requests"] / seen["microseconds"] * 1e6,
            "p50_ms": seen["p50_us"] / 1e3,
            "p99_ms": seen["p99_us"] / 1e3,
            "pss_mb": self.tree.pss(),
        }


def send(port: int, load: str, credentials: list[str], seconds: int) -> dict[str, float]:
    """Send requests with wrk, from one keep-alive connection for each credential."""
    number = len(credentials)
    command = ["taskset", "-c", str((os.cpu_count() or 1) - 1), "wrk", f"-t{number}", f"-c{number}", f"-d{seconds}s"]
    command += ["--timeout", "10s", "-s", str(SCRIPT), f"http://127.0.0.1:{port}", "--", load, "refreshToken"]
    done = subprocess.run([*command, *credentials], capture_output=True, text=True, timeout=seconds + 60, check=True)
    seen: dict[str, float] = json.loads(done.stdout.partition("RESULT ")[2])
    assert seen["errors"] == seen["broken"] == 0, seen
    return seen


def burst(port: int, seconds: int) -> dict[str, float]:
    """Sign in again and again, with several clients at the same time."""
    until = time.monotonic() + seconds

    def repeat() -> list[float]:
        took = []
        while time.monotonic() < until:
            response = Client(port).login()
            assert response.status in {200, 503}, response.body  # 503: too many are waiting
            if response.status == 200:
                took.append(response.seconds * 1e6)
        return took

    began = time.monotonic()
    took = sorted(chain.from_iterable(at_once(*[repeat] * BURST)))
    return {
        "requests": len(took),
        "microseconds": (time.monotonic() - began) * 1e6,
        "p50_us": took[len(took) // 2],
        "p99_us": took[len(took) * 99 // 100],
    }


def table(versions: list[Version], load: str) -> str:
    """Return a table of the medians, with the median ratios to the first version."""
    lines = [f"{load:18}" + "".join(f"{name:>18}" for name in FIGURES)]
    for version in versions:
        cells = ""
        for name in FIGURES:
            mine, first = version.figures[load][name], versions[0].figures[load][name]
            ratio = statistics.median(each / other for each, other in zip(mine, first, strict=True))
            cells += f"{statistics.median(mine):11.2f} ({ratio:.2f})"
        lines.append(f"{version.name:18}{cells}")
    return "\n".join(lines)


def main() -> None:
    """Measure, and print a table for each load."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", nargs="+", metavar="NAME=FOLDER[,SETTING=VALUE…]")
    parser.add_argument("--kind", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--load", choices=LOADS, action="append", help="default: protected and rotation")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--settle", type=float, default=0, help="seconds of rest before memory is read once more")
    options = parser.parse_args()
    loads = options.load or ["protected", "rotation"]
    versions = []
    for given in options.checkouts:
        (name, folder), *more = (part.split("=", 1) for part in given.split(","))
        versions.append(Version(name, ROOT if folder == "." else Path(folder), dict(more)))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        postgres = None
        if options.kind == "postgresql":
            (folder / "postgresql").mkdir()
            postgres = Postgres(folder / "postgresql")
            postgres.create()
            stack.callback(postgres.stop, "immediate")
        for number, version in enumerate(versions):
            version.settings.setdefault("WEB_CONCURRENCY", str(options.workers))
            url = postgres.create_database(f"v{number}") if postgres else f"sqlite:///{folder}/{number}.db"
            cores = "0" if options.workers == 1 else f"0-{(os.cpu_count() or 1) - 1}"
            took = version.start(stack, url, cores, folder / f"{number}.log")
            assert version.tree is not None
            print(f"{version.name}: first response after {took:.2f} s, {version.tree.cpu():.2f} s of CPU", flush=True)
        for number in range(options.rounds):
            for load in loads:
                for version in versions[number % len(versions) :] + versions[: number % len(versions)]:
                    for name, figure in version.measure(load, options.seconds, options.connections).items():
                        version.figures.setdefault(load, {}).setdefault(name, []).append(figure)
            print(f"round {number + 1} of {options.rounds}, load {os.getloadavg()[0]:.1f}", flush=True)
        print(*(table(versions, load) for load in loads), sep="\n")
        if options.settle:
            time.sleep(options.settle)
            print(*(f"{each.name}: PSS {each.tree.pss():.1f} MB" for each in versions if each.tree), sep="\n")


if __name__ == "__main__":
    main()
