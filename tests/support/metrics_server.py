"""A server with metrics, and its samples."""

import os
import re
import signal
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from prometheus_client.parser import text_string_to_metric_families

from tests.support.app import create_user, make_app
from tests.support.concurrency import wait_until
from tests.support.server import Server, free_port
from tokenapp import db

Samples = dict[str, float]


class MetricsServer(Server):
    """A server with three workers that exposes metrics."""

    def __init__(self, database_url: str, log: Path, **settings: str) -> None:
        self.metrics_port = free_port()
        bind = f"127.0.0.1:{self.metrics_port}"
        super().__init__(
            database_url, {"WEB_CONCURRENCY": "3", "TOKENAPP_METRICS_BIND": bind, **settings}, free_port(), log
        )

    def scrape(self) -> Samples:
        """Return the value of each sample by its name and labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=5) as response:
            return parse_samples(response.read().decode())

    def __enter__(self) -> Self:
        """Start the server and wait for all workers, not only for the first."""
        super().__enter__()
        self.wait_for_workers()
        return self

    def wait_for_workers(self, *gone: int) -> None:
        """Wait until all workers run and those with the ids `gone` do not."""
        wanted = int(self.settings["WEB_CONCURRENCY"])
        wait_until(
            lambda: len(self.workers()) == wanted and not {*gone} & {*self.workers()}, seconds=20, what="all workers"
        )

    def kill_a_worker(self) -> None:
        """Kill one worker and wait for its replacement."""
        victim = self.workers()[0]
        os.kill(victim, signal.SIGKILL)
        self.wait_for_workers(victim)


@contextmanager
def run_metrics_server(url: str, folder: Path, **settings: str) -> Iterator[MetricsServer]:
    """Start a server with metrics, on a database with the user alice."""
    app = make_app(url, **settings)
    create_user(app)
    with app.app_context():
        db.db.engine.dispose()
    with MetricsServer(url, folder / "log", **settings) as server:
        yield server


def metrics_folder(server: Server) -> Path:
    """Return the folder of the metric files, from the memory map of a worker."""
    maps = Path(f"/proc/{server.workers()[0]}/maps").read_text()
    found = re.search(r"\S+/tokenapp-metrics-\w+", maps)
    assert found
    return Path(found[0])


def parse_samples(text: str) -> Samples:
    """Parse the text format of Prometheus."""
    samples: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            samples[f"{sample.name}{{{labels}}}"] = sample.value
    return samples


def counts_of(samples: Samples, name: str, label: str) -> dict[str, float]:
    """Return the non-zero values of a metric by the value of its only label."""
    found = re.compile(rf"{name}\{{{label}=(\w+)\}}")
    return {match[1]: value for key, value in samples.items() if (match := found.fullmatch(key)) and value}
