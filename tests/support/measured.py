"""The service under gunicorn with its metrics, and what a scrape returns."""

import os
import re
import signal
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from prometheus_client.parser import text_string_to_metric_families

from tests.support.app import application, create_user
from tests.support.concurrency import wait_until
from tests.support.server import Server, free_port

Samples = dict[str, float]


class MeasuredServer(Server):
    """A server with two workers and metrics."""

    def __init__(self, database_url: str, log: Path, **settings: str) -> None:
        self.metrics_port = free_port()
        bind = f"127.0.0.1:{self.metrics_port}"
        super().__init__(
            database_url, {"WEB_CONCURRENCY": "2", "TOKENAPP_METRICS_BIND": bind, **settings}, free_port(), log
        )

    def __enter__(self) -> Self:
        super().__enter__()
        self.wait_for_workers()
        return self

    def scrape(self) -> Samples:
        """Return the value of each sample, by its name and labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=20) as response:
            return _parsed(response.read().decode())

    def counts(self, metric: str, label: str) -> dict[str, float]:
        """Return the counts above zero of a metric, by the value of its one label."""
        pattern = re.compile(rf"{metric}\{{{label}=(\w+)\}}")
        return {found[1]: value for key, value in self.scrape().items() if (found := pattern.fullmatch(key)) and value}

    def refreshes(self) -> dict[str, float]:
        """Return the counts of refreshes by outcome."""
        return self.counts("tokenapp_refreshes_total", "outcome")

    def wait_for_workers(self, *exited: int) -> None:
        """Wait until all workers run, and none of `exited` does."""
        number = int(self.settings["WEB_CONCURRENCY"])
        wait_until(
            lambda: len(self.workers()) == number and not {*exited} & {*self.workers()}, seconds=30, what="all workers"
        )

    def kill_worker(self) -> None:
        """Kill one worker, and wait until the master has replaced it."""
        victim = self.workers()[0]
        os.kill(victim, signal.SIGKILL)
        self.wait_for_workers(victim)

    @property
    def directory(self) -> Path:
        """The directory of the metrics that the workers share."""
        found = re.search(r"\S+/tokenapp-metrics-\w+", Path(f"/proc/{self.workers()[0]}/maps").read_text())
        assert found
        return Path(found[0])


@contextmanager
def measured(database_url: str, folder: Path, **settings: str) -> Iterator[MeasuredServer]:
    """Provide a server with metrics and the user alice; its log is in `folder`."""
    # With the server's settings: the decoy of unknown users has the cost of her hash.
    costs = {name: value for name, value in settings.items() if name.startswith("TOKENAPP_PASSWORD_")}
    with application(database_url, **costs) as app:
        create_user(app)
    with MeasuredServer(database_url, folder / "server.log", **settings) as server:
        yield server


def _parsed(text: str) -> Samples:
    samples: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            samples[f"{sample.name}{{{labels}}}"] = sample.value
    return samples
