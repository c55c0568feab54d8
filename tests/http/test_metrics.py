"""Metrics: exact over all workers, living and dead, on an address of their own; and a dashboard that fits them."""

import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.client import HTTPException
from pathlib import Path
from typing import Any, Self

import pytest
import sqlalchemy as sa
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import Databases
from tests.support.app import PASSWORD, ROOT, SETTINGS, create_user, environment, make_app
from tests.support.client import Client
from tests.support.concurrency import wait_until
from tests.support.server import Server, free_port
from tokenapp import config, db
from tokenapp.http import metrics
from tokenapp.models import Session
from tokenapp.throttle.lockout import FREE_FAILURES

DASHBOARD = ROOT / "docs/grafana-dashboard.json"
PAGE = ROOT / "docs/operations.md"
NAMES = {metric.name for metric in metrics.METRICS}
Samples = dict[str, float]


class Measured(Server):
    """The service with three workers and its metrics."""

    def __init__(self, database_url: str, log: Path, **settings: str) -> None:
        self.metrics_port = free_port()
        bind = f"127.0.0.1:{self.metrics_port}"
        super().__init__(
            database_url, {"WEB_CONCURRENCY": "3", "TOKENAPP_METRICS_BIND": bind, **settings}, free_port(), log
        )

    def scrape(self) -> Samples:
        """Return every sample by name and labels, as it is written."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=5) as answer:
            return parsed(answer.read().decode())

    def __enter__(self) -> Self:
        """Start the server and wait for all of its workers: it answers as soon as there is one."""
        super().__enter__()
        self.wait_for_workers()
        return self

    def wait_for_workers(self, *gone: int) -> None:
        """Wait until there are as many workers as there should be, none of them one of those."""
        wanted = int(self.settings["WEB_CONCURRENCY"])
        wait_until(
            lambda: len(self.workers()) == wanted and not {*gone} & {*self.workers()}, seconds=20, what="all workers"
        )

    def kill_a_worker(self) -> None:
        """End one worker as a crash does, and wait for the one in its place."""
        victim = self.workers()[0]
        os.kill(victim, signal.SIGKILL)
        self.wait_for_workers(victim)


def parsed(text: str) -> Samples:
    samples: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            samples[f"{sample.name}{{{labels}}}"] = sample.value
    return samples


def of(samples: Samples, name: str, label: str) -> dict[str, float]:
    """Return the counts above zero of one metric by its one label."""
    found = re.compile(rf"{name}\{{{label}=(\w+)\}}")
    return {match[1]: value for key, value in samples.items() if (match := found.fullmatch(key)) and value}


@pytest.fixture
def served(database_url: str, tmp_path: Path) -> Iterator[Measured]:
    """Give a server with the user alice, with metrics."""
    with measured(database_url, tmp_path) as server:
        yield server


@pytest.fixture
def served_once(databases: Databases, tmp_path: Path) -> Iterator[Measured]:
    """Give the same on one kind of database, for what has nothing to do with it."""
    with measured(databases("sqlite"), tmp_path) as server:
        yield server


@contextmanager
def measured(url: str, folder: Path, **settings: str) -> Iterator[Measured]:
    app = make_app(url)
    create_user(app)
    with app.app_context():
        db.db.engine.dispose()
    with Measured(url, folder / "log", **settings) as server:
        yield server


@contextmanager
def database_of(server: Server) -> Iterator[None]:
    """Let the block change the server's database."""
    app = make_app(server.database_url)
    with app.app_context():
        yield
        db.db.engine.dispose()


def change(**values: Any) -> None:
    """Change all sessions."""
    db.execute_now(sa.update(Session).values(values))


def execute(statement: str) -> None:
    db.execute_now(sa.text(statement))


def test_each_outcome_of_a_refresh_is_counted_once(served: Measured) -> None:
    client = served.client
    first = client.login()
    second = client.refresh(first.cookie)
    client.refresh(first.cookie)
    client.refresh(second.cookie)
    with database_of(served):
        change(rotated_at=datetime.now(UTC) - timedelta(hours=1))
    client.refresh(first.cookie)
    client.refresh(second.cookie)
    client.refresh(None)
    client.refresh("malformed")
    newest = client.refresh(client.login().cookie)
    with database_of(served):
        change(generation=0, current_jti="that of the backup")
    client.refresh(newest.cookie)
    lapsed = client.login()
    with database_of(served):
        change(expires_at=datetime.now(UTC) - timedelta(seconds=1))
    client.refresh(lapsed.cookie)
    with database_of(served):
        execute("ALTER TABLE sessions RENAME TO gone")
    client.refresh(lapsed.cookie)
    counted = of(served.scrape(), "tokenapp_refreshes_total", "outcome")
    assert counted == dict.fromkeys(metrics.REFRESHES, 1) | {"rotated": 2}


def test_each_result_of_a_sign_in_is_counted_once(served: Measured) -> None:
    client = served.client
    client.login()
    client.send("POST", "/api/login", body=b"{}")
    for _ in range(FREE_FAILURES + 1):
        client.login(password="wrong")
    client.login()
    with database_of(served):
        execute("ALTER TABLE throttles RENAME TO gone")
    client.login()
    counted = of(served.scrape(), "tokenapp_sign_ins_total", "result")
    assert counted == dict.fromkeys(metrics.SIGN_INS, 1) | {"invalid": FREE_FAILURES + 1}


def test_counts_are_exact_over_workers_living_and_dead(served_once: Measured) -> None:
    server, sent = served_once, 0
    for _ in range(3):
        with ThreadPoolExecutor(8) as pool:
            assert {reply.status for reply in pool.map(server.client.refresh, [None] * 100)} == {401}
        sent += 100
        server.kill_a_worker()
        samples = server.scrape()
        assert of(samples, "tokenapp_refreshes_total", "outcome") == {"missing": sent}
        key = "method=POST,route=/api/token,status=4xx}"
        assert samples[f"tokenapp_request_seconds_count{{{key}"] == sent
        assert samples[f"tokenapp_request_seconds_bucket{{le=+Inf,{key}"] == sent
        assert samples[f"tokenapp_request_seconds_bucket{{le=5.0,{key}"] == sent


def test_no_count_is_seen_to_go_back_while_workers_die(served_once: Measured) -> None:
    server, over = served_once, threading.Event()

    def look() -> list[float]:
        seen = []
        while not over.is_set():
            seen.append(of(server.scrape(), "tokenapp_refreshes_total", "outcome").get("missing", 0))
        return seen

    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(look)
        try:
            for _ in range(5):
                for _ in range(20):
                    server.client.refresh(None)
                server.kill_a_worker()
        finally:
            over.set()
        seen = looking.result()
    assert seen == sorted(seen)
    assert of(server.scrape(), "tokenapp_refreshes_total", "outcome") == {"missing": 100}


def test_dead_workers_leave_no_files_and_no_gauges(served_once: Measured) -> None:
    server = served_once
    server.client.login()
    for _ in range(3):
        server.kill_a_worker()
    server.client.login()
    alive = {str(pid) for pid in (0, server.master, *server.workers())}
    files = list(folder_of(server).iterdir())
    assert files
    assert {re.findall(r"_(\d+)\.db", file.name)[0] for file in files} <= alive


def test_a_file_that_a_worker_has_only_begun_disturbs_nobody(served_once: Measured) -> None:
    server, folder = served_once, folder_of(served_once)
    server.client.refresh(None)
    begun = [folder / f"summary_{pid}.db" for pid in server.workers()]
    for file in begun:
        file.touch()
    assert of(server.scrape(), "tokenapp_refreshes_total", "outcome") == {"missing": 1}
    server.kill_a_worker()
    assert of(server.scrape(), "tokenapp_refreshes_total", "outcome") == {"missing": 1}
    assert not begun[0].exists()


def folder_of(server: Server) -> Path:
    environ = Path(f"/proc/{server.workers()[0]}/maps").read_text()
    found = re.search(r"\S+/tokenapp-metrics-\w+", environ)
    assert found
    return Path(found[0])


def test_the_hash_queue_is_seen_and_forgets_those_who_waited_in_a_worker_that_died(
    databases: Databases, tmp_path: Path
) -> None:
    slow = {"TOKENAPP_PASSWORD_MEMORY": "65536", "TOKENAPP_PASSWORD_PASSES": "30", "WEB_CONCURRENCY": "1"}
    with measured(databases("sqlite"), tmp_path, **slow) as server, ThreadPoolExecutor(4) as pool:
        server.client.login("nobody")  # the first one also makes the hash that stands for unknown users
        waiting = [pool.submit(server.client.login, f"nobody{number}") for number in range(4)]
        # On a slow machine the first one's hash is still at work, although it was answered.
        wait_until(lambda: server.scrape()["tokenapp_hash_queue{}"] >= 4, what="a queue of four")
        server.kill_a_worker()
        wait_until(lambda: server.scrape()["tokenapp_hash_queue{}"] == 0, what="an empty queue")
        # Whoever was answered before the end of that worker had waited for too long.
        assert all(
            isinstance(each.exception(), OSError | HTTPException) or each.result().status == 503 for each in waiting
        )


def test_each_hash_is_timed(served_once: Measured) -> None:
    for password in ("wrong", "wrong as well", PASSWORD):
        served_once.client.login(password=password)
    samples = served_once.scrape()
    assert samples["tokenapp_hash_seconds_count{}"] == 3
    assert samples["tokenapp_hash_seconds_sum{}"] > 0


def test_the_keys_are_counted_by_use_and_state(databases: Databases, tmp_path: Path) -> None:
    former = "a former secret that is still accepted"
    own = {
        "ACCESS_TOKEN_SECRET": secrets.token_urlsafe(48),
        "ACCESS_TOKEN_SECRET_FALLBACKS": former,
    }
    with measured(databases("sqlite"), tmp_path, **own) as server:
        server.client.login()
        samples = server.scrape()
        keys = {key: value for key, value in samples.items() if key.startswith("tokenapp_signing_keys")}
        assert keys == {
            "tokenapp_signing_keys{state=signing,use=access}": 1,
            "tokenapp_signing_keys{state=verifying,use=access}": 1,
            "tokenapp_signing_keys{state=signing,use=refresh}": 1,
            "tokenapp_signing_keys{state=verifying,use=refresh}": 0,
        }


def test_the_list_of_ended_sessions_is_seen_with_its_age(served: Measured) -> None:
    client = served.client
    reply, other = client.login(), client.login()
    client.logout(reply.cookie)

    def listed() -> bool:
        client.protected(other.json["accessToken"])
        return served.scrape()["tokenapp_revoked_sessions_known{}"] == 1

    wait_until(listed, what="the ended session on the list")
    read = served.scrape()["tokenapp_revoked_sessions_read_timestamp_seconds{}"]
    assert 0 <= time.time() - read < 10


def test_callers_cannot_invent_labels(served_once: Measured) -> None:
    for path in ("/made-up", "/api/sessions/made-up", "/docs/made-up"):
        for method in ("GET", "MADEUP", "DELETE"):
            served_once.client.send(method, path)
    labels = {key for key in served_once.scrape() if key.startswith("tokenapp_request_seconds_count")}
    assert not [key for key in labels if "made" in key.lower()]
    assert "tokenapp_request_seconds_count{method=other,route=unknown,status=4xx}" in labels
    assert "tokenapp_request_seconds_count{method=DELETE,route=/api/sessions/<sid>,status=4xx}" in labels


def test_the_listener_serves_metrics_and_nothing_else_and_the_service_has_none(served_once: Measured) -> None:
    server = served_once
    listener = Client(server.metrics_port)
    assert "tokenapp_build_info{python=" in "".join(server.scrape())
    reply = listener.send("GET", "/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert (
        reply.header("Content-Type")
        == "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores"
    )
    assert (listener.send("GET", "/other").status, listener.send("POST", "/metrics").status) == (404, 501)
    assert reply.header("Server") == "tokenapp"
    assert server.client.send("GET", "/metrics").status == 404


def test_only_the_master_holds_the_address(served_once: Measured) -> None:
    server = served_once
    listening = rf"^ *\d+: \w+:{server.metrics_port:04X} \w+:0000 0A (?:\S+ +){{5}}(\d+) "
    (inode,) = re.findall(listening, Path("/proc/net/tcp").read_text(), re.MULTILINE)
    holders = {
        pid
        for pid in (server.master, *server.workers())
        if f"socket:[{inode}]" in {str(file.readlink()) for file in Path(f"/proc/{pid}/fd").iterdir()}
    }
    assert holders == {server.master}


def test_nothing_is_left_of_the_files_when_the_server_has_ended(databases: Databases, tmp_path: Path) -> None:
    with measured(databases("sqlite"), tmp_path) as server:
        folder = folder_of(server)
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()


def test_a_reload_keeps_the_counts_and_the_listener(served_once: Measured) -> None:
    server = served_once
    server.client.refresh(None)
    before = server.workers()
    os.kill(server.master, signal.SIGHUP)
    server.wait_for_workers(*before)
    server.client.refresh(None)
    assert of(server.scrape(), "tokenapp_refreshes_total", "outcome") == {"missing": 2}


def test_an_address_that_is_taken_ends_the_start_with_a_clear_fault(databases: Databases) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run_gunicorn(databases("sqlite"), f"127.0.0.1:{port}")
    assert ended.returncode != 0
    fault = "tokenapp cannot start:\n  - TOKENAPP_METRICS_BIND cannot be listened on: Address already in use\n"
    assert ended.stderr.endswith(fault)


def run_gunicorn(url: str, bind: str) -> subprocess.CompletedProcess[str]:
    env = environment(DATABASE_URL=url, PORT=str(free_port()), TOKENAPP_METRICS_BIND=bind)
    command = [sys.executable, "-m", "gunicorn"]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("bind", ["9464", ":9464", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "a b:1", "[x]:1"])
def test_an_address_that_is_none_is_a_fault_in_the_settings(tmp_path: Path, bind: str) -> None:
    with pytest.raises(config.ConfigError, match="TOKENAPP_METRICS_BIND must be an address and a port such as"):
        config.load({**SETTINGS, "TOKENAPP_METRICS_BIND": bind}, tmp_path)


def test_the_port_of_the_service_itself_is_a_fault_in_the_settings(tmp_path: Path) -> None:
    with pytest.raises(config.ConfigError, match="TOKENAPP_METRICS_BIND has the same port as PORT"):
        config.load({**SETTINGS, "PORT": "4000", "TOKENAPP_METRICS_BIND": "[::1]:4000"}, tmp_path)


@pytest.mark.parametrize("bind", ["", "127.0.0.1:9464"])
def test_without_a_server_that_has_prepared_nothing_of_prometheus_is_loaded(databases: Databases, bind: str) -> None:
    program = "import sys, wsgi; print('prometheus_client' in sys.modules, len(wsgi.app.after_request_funcs[None]))"
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environment(DATABASE_URL=databases("sqlite"), TOKENAPP_METRICS_BIND=bind),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert ran.stdout.split()[0] == "False"


def test_the_dashboard_shows_every_metric_and_none_that_is_not_there() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    named = {
        re.sub("_(bucket|sum|count)$", "", name) for query in queries for name in re.findall(r"tokenapp_\w+", query)
    }
    assert named == NAMES
    labels = {label for metric in metrics.METRICS for label in metric.labels} | {"le", "job", "instance"}
    grouped = {
        label.strip()
        for query in queries
        for group in re.findall(r"by \(([^)]*)\)", query)
        for label in group.split(",")
    }
    assert grouped <= labels


def test_the_page_for_operators_lists_every_metric_with_its_labels_and_its_meaning() -> None:
    rows = re.findall(r"^\| `(tokenapp_\w+)` \| (.*?) \| (.*?) \|", PAGE.read_text(), re.MULTILINE)
    assert rows == [
        (each.name, ", ".join(f"`{label}`" for label in each.labels), each.help) for each in metrics.METRICS
    ]
