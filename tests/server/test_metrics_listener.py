"""The listener of the metrics, and the counts of workers that have exited."""

import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import Databases
from tests.support.app import ROOT, SETTINGS, environment
from tests.support.client import Client
from tests.support.concurrency import wait_until
from tests.support.measured import MeasuredServer, measured
from tests.support.server import children_of, free_port
from tokenapp import config
from tokenapp.server import metrics_listener


@pytest.fixture
def server(databases: Databases, tmp_path: Path) -> Iterator[MeasuredServer]:
    """Provide a server with metrics."""
    with measured(databases("sqlite"), tmp_path) as server:
        yield server


def test_counts_are_exact_over_running_and_dead_workers(server: MeasuredServer) -> None:
    sent = 0
    for _ in range(3):
        with ThreadPoolExecutor(8) as pool:
            assert {response.status for response in pool.map(server.client.refresh, [None] * 100)} == {401}
        sent += 100
        server.kill_worker()
        samples = server.scrape()
        assert server.refreshes() == {"missing": sent}
        labels = "method=POST,route=/api/token,status=4xx}"
        assert samples[f"tokenapp_request_seconds_count{{{labels}"] == sent
        assert samples[f"tokenapp_request_seconds_bucket{{le=+Inf,{labels}"] == sent
        assert samples[f"tokenapp_request_seconds_bucket{{le=5.0,{labels}"] == sent


def test_counts_never_decrease_while_workers_die(server: MeasuredServer) -> None:
    over = threading.Event()

    def scrape() -> list[float]:
        seen = []
        while not over.is_set():
            seen.append(server.refreshes().get("missing", 0))
        return seen

    with ThreadPoolExecutor(1) as pool:
        scraping = pool.submit(scrape)
        try:
            for _ in range(5):
                for _ in range(20):
                    server.client.refresh(None)
                server.kill_worker()
        finally:
            over.set()
        seen = scraping.result()
    assert seen == sorted(seen)
    assert server.refreshes() == {"missing": 100}


def test_files_of_dead_workers_are_removed(server: MeasuredServer) -> None:
    server.client.login()
    for _ in range(3):
        server.kill_worker()
    server.client.login()
    running = {str(pid) for pid in (0, server.master, *server.workers())}
    files = list(server.directory.iterdir())
    assert files
    assert {re.findall(r"_(\d+)\.db", file.name)[0] for file in files} <= running


def test_file_without_content_is_ignored(server: MeasuredServer) -> None:
    server.client.refresh(None)
    files = [server.directory / f"summary_{pid}.db" for pid in server.workers()]
    for file in files:
        file.touch()
    assert server.refreshes() == {"missing": 1}
    server.kill_worker()
    assert server.refreshes() == {"missing": 1}
    assert not files[0].exists()


def test_metrics_are_served_by_the_listener_only(server: MeasuredServer) -> None:
    listener = Client(server.metrics_port)
    assert "tokenapp_build_info{python=" in "".join(server.scrape())
    response = listener.send("GET", "/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    kind = "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores"
    assert response.header("Content-Type") == kind
    assert listener.send("POST", "/metrics").status == 405
    assert server.client.send("GET", "/metrics").status == 404


def test_failed_scrape_is_one_line_in_the_log(server: MeasuredServer) -> None:
    with socket.create_connection(("127.0.0.1", server.metrics_port)) as connection:
        # Closing the connection with a time of zero resets it.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    wait_until(lambda: "a scrape failed" in server.log.read_text(), what="the line")
    assert "Traceback" not in server.log.read_text()


def test_only_the_master_holds_the_address(server: MeasuredServer) -> None:
    listening = rf"^ *\d+: \w+:{server.metrics_port:04X} \w+:0000 0A (?:\S+ +){{5}}(\d+) "
    (inode,) = re.findall(listening, Path("/proc/net/tcp").read_text(), re.MULTILINE)
    holders = {
        pid
        for pid in (server.master, *server.workers())
        if f"socket:[{inode}]" in {str(file.readlink()) for file in Path(f"/proc/{pid}/fd").iterdir()}
    }
    assert holders == {server.master}


def test_directory_is_private_and_removed_at_the_end(databases: Databases, tmp_path: Path) -> None:
    with measured(databases("sqlite"), tmp_path) as server:
        directory = server.directory
        assert directory.stat().st_mode & 0o777 == 0o700
    assert not directory.exists()


def test_directories_of_killed_servers_are_removed(tmp_path: Path) -> None:
    leftover, running, new = (tmp_path / f"tokenapp-metrics-{name}" for name in ("leftover", "running", "new"))
    for directory in (leftover, running, new):
        directory.mkdir()
    for directory in (leftover, running):
        os.utime(directory, (0, 0))
    handle = os.open(running, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    metrics_listener._remove_leftovers(tmp_path)
    os.close(handle)
    assert [directory.exists() for directory in (leftover, running, new)] == [False, True, True]


def test_reload_keeps_the_counts_and_the_listener(server: MeasuredServer) -> None:
    server.client.refresh(None)
    before = server.workers()
    os.kill(server.master, signal.SIGHUP)
    server.wait_for_workers(*before)
    server.client.refresh(None)
    assert server.refreshes() == {"missing": 2}


def test_master_that_replaces_another_gets_the_address(databases: Databases, tmp_path: Path) -> None:
    server = MeasuredServer(databases("sqlite"), tmp_path / "server.log")
    # Started with -m, gunicorn would find its own package `http` in place of Python's when it starts again.
    server.command = (sys.executable, str(Path(sys.executable).with_name("gunicorn")))
    with server:
        workers = server.workers()
        os.kill(server.master, signal.SIGUSR2)
        wait_until(lambda: len(server.workers()) > len(workers), seconds=30, what="the new master")
        (successor,) = set(server.workers()) - set(workers)
        try:
            wait_until(lambda: len(children_of(successor)) == len(workers), seconds=30, what="the new workers")
            os.kill(server.master, signal.SIGTERM)
            assert server.wait() == 0
            server.client.refresh(None)

            def is_served() -> bool:
                with suppress(OSError):
                    return server.refreshes() == {"missing": 1}
                return False

            wait_until(is_served, what="the metrics of the new master")
        finally:
            os.kill(successor, signal.SIGTERM)
            wait_until(
                lambda: not Path(f"/proc/{successor}/fd/1").exists(), seconds=40, what="the end of the new master"
            )


def test_address_in_use_is_a_startup_error(databases: Databases) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        env = environment(DATABASE_URL=databases("sqlite"), PORT=str(free_port()), TOKENAPP_METRICS_BIND=bind)
        command = [sys.executable, "-m", "gunicorn"]
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    error = "tokenapp cannot start:\n  - TOKENAPP_METRICS_BIND cannot be listened on: Address already in use\n"
    assert done.stderr.endswith(error)


@pytest.mark.parametrize("bind", ["9464", ":9464", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "a b:1", "[x]:1"])
def test_invalid_address_is_an_error_in_the_settings(tmp_path: Path, bind: str) -> None:
    with pytest.raises(config.ConfigError, match="TOKENAPP_METRICS_BIND must be an address and a port such as"):
        config.load({**SETTINGS, "TOKENAPP_METRICS_BIND": bind}, tmp_path)


def test_port_of_the_service_is_an_error_in_the_settings(tmp_path: Path) -> None:
    with pytest.raises(config.ConfigError, match="TOKENAPP_METRICS_BIND has the same port as PORT"):
        config.load({**SETTINGS, "PORT": "4000", "TOKENAPP_METRICS_BIND": "[::1]:4000"}, tmp_path)
