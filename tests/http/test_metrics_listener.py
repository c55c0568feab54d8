"""The listener for metrics: its address, settings and documentation."""

import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Databases
from tests.support.app import ROOT, SETTINGS, environment
from tests.support.client import Client
from tests.support.metrics_server import MetricsServer, metrics_folder, run_metrics_server
from tests.support.server import free_port
from tokenapp import config
from tokenapp.http import metrics

DASHBOARD = ROOT / "docs/grafana-dashboard.json"
PAGE = ROOT / "docs/operations.md"
NAMES = {metric.name for metric in metrics.METRICS}


def test_metrics_are_served_by_their_own_listener_only(metrics_server_sqlite: MetricsServer) -> None:
    server = metrics_server_sqlite
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


def test_only_the_master_process_listens_for_scrapes(metrics_server_sqlite: MetricsServer) -> None:
    server = metrics_server_sqlite
    listening = rf"^ *\d+: \w+:{server.metrics_port:04X} \w+:0000 0A (?:\S+ +){{5}}(\d+) "
    (inode,) = re.findall(listening, Path("/proc/net/tcp").read_text(), re.MULTILINE)
    holders = {
        pid
        for pid in (server.master, *server.workers())
        if f"socket:[{inode}]" in {str(file.readlink()) for file in Path(f"/proc/{pid}/fd").iterdir()}
    }
    assert holders == {server.master}


def test_files_are_private_and_deleted_when_the_server_stops(databases: Databases, tmp_path: Path) -> None:
    with run_metrics_server(databases("sqlite"), tmp_path) as server:
        folder = metrics_folder(server)
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()


def test_address_in_use_prevents_the_start_with_a_clear_error(databases: Databases) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        finished = run_gunicorn(databases("sqlite"), f"127.0.0.1:{port}")
    assert finished.returncode != 0
    error = "tokenapp cannot start:\n  - TOKENAPP_METRICS_BIND cannot be listened on: Address already in use\n"
    assert finished.stderr.endswith(error)


def run_gunicorn(url: str, bind: str) -> subprocess.CompletedProcess[str]:
    env = environment(DATABASE_URL=url, PORT=str(free_port()), TOKENAPP_METRICS_BIND=bind)
    command = [sys.executable, "-m", "gunicorn"]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("bind", ["9464", ":9464", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "a b:1", "[x]:1"])
def test_invalid_address_is_a_configuration_error(tmp_path: Path, bind: str) -> None:
    with pytest.raises(config.ConfigError, match="TOKENAPP_METRICS_BIND must be an address and a port such as"):
        config.load({**SETTINGS, "TOKENAPP_METRICS_BIND": bind}, tmp_path)


def test_port_of_the_service_itself_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(config.ConfigError, match="TOKENAPP_METRICS_BIND has the same port as PORT"):
        config.load({**SETTINGS, "PORT": "4000", "TOKENAPP_METRICS_BIND": "[::1]:4000"}, tmp_path)


@pytest.mark.parametrize("bind", ["", "127.0.0.1:9464"])
def test_prometheus_is_not_loaded_unless_the_server_prepared_metrics(databases: Databases, bind: str) -> None:
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


def test_dashboard_shows_exactly_the_existing_metrics() -> None:
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


def test_operations_guide_lists_every_metric_with_labels_and_meaning() -> None:
    rows = re.findall(r"^\| `(tokenapp_\w+)` \| (.*?) \| (.*?) \|", PAGE.read_text(), re.MULTILINE)
    assert rows == [
        (each.name, ", ".join(f"`{label}`" for label in each.labels), each.help) for each in metrics.METRICS
    ]
