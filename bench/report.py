"""Build the report from the figures alone, so that both always agree."""

import json
import statistics
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench.compare import LOADS
from bench.prose import GRANIAN, NOTES, PAGE, WORDS

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "benchmarks"


@dataclass(frozen=True)
class Target:
    """A bound for a figure, in `unit`: an upper bound, or a lower one if `at_least`."""

    figure: str
    bound: float
    unit: str
    compute: Callable[[dict[str, Any]], float]
    at_least: bool = False

    def holds(self, value: float) -> bool:
        """Return whether the target is reached."""
        return value >= self.bound if self.at_least else value <= self.bound

    def words(self) -> str:
        """Return the target in the format of the table."""
        return f"{'≥' if self.at_least else '≤'} {self.bound:g}{self.unit}"


def _cpu(load: str, rival: str, bound: float) -> Iterator[Target]:
    kinds = [("ours-sqlite", f"{rival}-sqlite", "SQLite"), ("ours-postgresql", f"{rival}-postgresql", "PostgreSQL")]
    if load == "rotation":
        kinds.insert(1, ("ours-sqlite", f"{rival}-wal", "SQLite, the other with our file settings"))
    for mine, theirs, name in kinds:
        compute = partial(ratio, load=load, mine=mine, theirs=theirs)
        yield Target(f"{load.capitalize()}, CPU µs, {name}", bound, f" times {rival}", compute)


def ratio(found: dict[str, Any], *, load: str, mine: str, theirs: str) -> float:
    """Return the median of the rounds' ratios of two programs' CPU times."""
    figures = [found["loads"][load][key]["cpu_us"] for key in (mine, theirs)]
    return middle(one / other for one, other in zip(*figures, strict=True))


def _crowd(found: dict[str, Any]) -> float:
    rates = found["crowd"]["rate"]
    return middle(rates["ours"]) / middle(rates["express"])


# These were set before the first measurement.
TARGETS: tuple[Target, ...] = (
    *_cpu("protected", "textbook", 0.55),
    *_cpu("rotation", "textbook", 0.25),
    *_cpu("rotation", "simplejwt", 0.3),
    Target("Refreshes per second, 100,000 live sessions", 3, " times Express", _crowd, at_least=True),
    Target(
        "1,000 protected/s with 10 sign-ins/s: p99 of protected",
        10,
        " ms",
        lambda found: found["mixed"]["protected"]["p99_ms"],
    ),
    Target("Four workers, PSS, before the first request", 120, " MB", lambda found: found["memory"]["4"]["started_mb"]),
    Target("Four workers, PSS, after load", 120, " MB", lambda found: found["memory"]["4"]["used_mb"]),
    Target("Python function calls per protected request", 700, "", lambda found: found["calls"]["ours"]),
)


def as_json(found: dict[str, Any]) -> str:
    """Return the figures as JSON."""
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def middle(values: Iterable[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def targets_table(found: dict[str, Any]) -> str:
    """Return the table of targets with their measured values."""
    rows = []
    for target in TARGETS:
        value = target.compute(found)
        shown = f"{value:.2f}" if value < 20 else f"{value:,.0f}"
        rows.append((target.figure, target.words(), shown, "yes" if target.holds(value) else "**no**"))
    return table(("Figure", "Target", "Measured", "Reached"), rows)


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a Markdown table; all columns but the first are right-aligned."""
    lines = [head, ("---", *("---:" for _ in head[1:])), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def load_table(found: dict[str, Any], load: str) -> str:
    """Return the table of a load with a row for each program."""
    rows = []
    for key, figures in found["loads"][load].items():
        cpu = figures["cpu_us"]
        database = found["programs"][key]["database"]
        apart = f"{middle(figures['database_us']):.0f}" if database == "postgresql" else ""
        rows.append(
            (
                name_of(found, key),
                f"{middle(cpu):,.0f}",
                f"{min(cpu):,.0f} to {max(cpu):,.0f}",
                apart,
                f"{middle(figures['rate']):,.0f}",
                f"{middle(figures['p50_ms']):.2f}",
                f"{middle(figures['p99_ms']):.2f}",
            )
        )
    head = ("Program", "CPU µs", "lowest to highest", "PostgreSQL's own CPU µs", "requests/s", "p50 ms", "p99 ms")
    return table(head, rows)


def name_of(found: dict[str, Any], key: str) -> str:
    """Return the name of a program in tables and plots."""
    about = found["programs"][key]
    title = about["title"] + {"hs256": " (HS256)", "wal": " (our file settings)"}.get(key.rpartition("-")[2], "")
    kind = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "memory": "in memory"}[about["database"]]
    return f"{title}, {kind}"


def memory_tables(found: dict[str, Any]) -> str:
    """Return the tables of the workers' memory and of all programs' memory."""
    rows = [
        (f"{workers} worker{'s' * (workers != '1')}", f"{figures['started_mb']:.0f}", f"{figures['used_mb']:.0f}")
        for workers, figures in found["memory"].items()
    ]
    others = [(name_of(found, key), f"{megabytes:.0f}") for key, megabytes in found["pss_mb"].items()]
    ours = table(("tokenapp, SQLite", "before the first request, MB", "after load, idle again, MB"), rows)
    return f"{ours}\n\n{table(('Program, one worker, after all loads above', 'PSS in MB'), others)}"


def page(found: dict[str, Any]) -> str:
    """Return the page of the report."""
    about, crowd, mixed, start = (found[name] for name in ("about", "crowd", "mixed", "start"))
    return PAGE.format(
        **{
            name: about[name] for name in ("date", "machine", "rounds", "seconds", "minutes", "sittings", "load_before")
        },
        versions=", ".join(f"{name} {number}" for name, number in about["versions"].items()),
        targets=targets_table(found),
        granian=GRANIAN if "granian-sqlite" in found["programs"] else "",
        loads="\n\n".join(f"## {WORDS[load]}\n\n{NOTES[load]}\n\n{load_table(found, load)}" for load in LOADS),
        sessions=crowd["sessions"],
        tokens=crowd["tokens"],
        ours_rate=middle(crowd["rate"]["ours"]),
        express_rate=middle(crowd["rate"]["express"]),
        ours_mb=crowd["pss_mb"]["ours"],
        express_mb=crowd["pss_mb"]["express"],
        mixed_seconds=mixed["seconds"],
        mixed_workers=mixed["workers"],
        mixed=mixed_table(mixed),
        memory=memory_tables(found),
        healthz=middle(start["healthz_s"]),
        first_login=middle(start["login_s"]),
        imports=table(("Package", "ms"), [(each["package"], f"{each['ms']:.0f}") for each in found["imports"]]),
        our_calls=found["calls"]["ours"],
        instructions=instructions_table(found["instructions"]),
        floor=floor_of(found["instructions"]["ours"]) / found["instructions"]["textbook"]["rotation"],
        quarter=found["instructions"]["textbook"]["rotation"] / 4,
        textbook_calls=found["calls"]["textbook"],
    )


def floor_of(ours: dict[str, float]) -> float:
    """Return the cost of a rotation that this service cannot reduce.

    It consists of an empty view, the signatures and the statement.
    """
    return ours["flask"] + ours["es256"] + 2 * ours["hs256"] + ours["sqlite"]


def instructions_table(found: dict[str, dict[str, float]]) -> str:
    """Return the table of the parts of a rotation."""
    ours = found["ours"]
    parts = (
        ("Flask and Werkzeug, for a view that does nothing", ours["flask"]),
        ("The access token's signature (ES256, OpenSSL)", ours["es256"]),
        ("The refresh tokens' signatures (HS256): verify the old one, create the new one", 2 * ours["hs256"]),
        ("SQLite: the statement and its commit", ours["sqlite"]),
        ("Connection pool, conversion of values and row, write queue", ours["row"] - ours["sqlite"]),
        (
            "The rest: cookie, request checks, claims, headers, log line",
            ours["rotation"] - floor_of(ours) - ours["row"] + ours["sqlite"],
        ),
        ("**Total**", ours["rotation"]),
        ("The textbook program", found["textbook"]["rotation"]),
    )
    return table(("Part of a rotation", "thousand instructions"), [(name, f"{count:,.0f}") for name, count in parts])


def mixed_table(mixed: dict[str, Any]) -> str:
    """Return the table of response times beside sign-ins."""
    times = ("p50_ms", "p99_ms", "p999_ms", "max_ms")
    rows = [
        (
            route,
            str(mixed[route]["requests"]),
            str(mixed[route]["refused"]),
            *(f"{mixed[route][name]:.2f}" for name in times),
        )
        for route in ("protected", "login")
    ]
    return table(("Route", "requests", "rejected (503)", "p50 ms", "p99 ms", "p99.9 ms", "highest ms"), rows)
