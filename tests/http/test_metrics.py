"""What is counted and measured, and the dashboard and docs of the metrics."""

import json
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.conftest import Databases
from tests.support.access_keys import create_key
from tests.support.app import PASSWORD, ROOT, application, environment
from tests.support.bound_device import Browser
from tests.support.client import sign_in
from tests.support.concurrency import wait_until
from tests.support.measured import MeasuredServer, measured
from tests.support.server import Server
from tokenapp import access_keys, db
from tokenapp.http import metrics
from tokenapp.models import Session
from tokenapp.throttle.lockout import FREE_FAILURES

DASHBOARD = ROOT / "docs/grafana-dashboard.json"
PAGE = ROOT / "docs/operations.md"
NAMES = {metric.name for metric in metrics.METRICS}


@pytest.fixture
def server(database_url: str, tmp_path: Path) -> Iterator[MeasuredServer]:
    """Provide a server with metrics on each kind of database."""
    with measured(database_url, tmp_path) as server:
        yield server


@pytest.fixture
def sqlite_server(databases: Databases, tmp_path: Path) -> Iterator[MeasuredServer]:
    """Provide a server with metrics on SQLite."""
    with measured(databases("sqlite"), tmp_path) as server:
        yield server


@contextmanager
def database_of(server: Server) -> Iterator[None]:
    """Use the server's database in the block."""
    with application(server.database_url) as app, app.app_context():
        yield


def update_sessions(**values: Any) -> None:
    db.execute_now(sa.update(Session).values(values))


def rename_table(name: str) -> None:
    db.execute_now(sa.text(f"ALTER TABLE {name} RENAME TO renamed"))


def test_each_outcome_of_a_refresh_is_counted_once(server: MeasuredServer) -> None:
    client = server.client
    first = client.login()
    second = client.refresh(first.cookie)
    client.refresh(first.cookie)
    client.refresh(second.cookie)
    with database_of(server):
        update_sessions(rotated_at=datetime.now(UTC) - timedelta(hours=1))
    client.refresh(first.cookie)
    client.refresh(second.cookie)
    client.refresh(None)
    client.refresh("malformed")
    newest = client.refresh(client.login().cookie)
    with database_of(server):
        update_sessions(generation=0, current_jti="that of the backup")
    client.refresh(newest.cookie)
    expired = client.login()
    with database_of(server):
        update_sessions(expires_at=datetime.now(UTC) - timedelta(seconds=1))
    client.refresh(expired.cookie)
    with database_of(server):
        rename_table("sessions")
    client.refresh(expired.cookie)
    assert server.refreshes() == dict.fromkeys(set(metrics.REFRESHES) - {"unproved"}, 1) | {"rotated": 2}


def test_access_key_is_not_counted_as_a_refresh_token(sqlite_server: MeasuredServer) -> None:
    key = create_key(sign_in(sqlite_server.port))["key"]
    for given in (key, access_keys.generate(), "tokenapp_"):
        sqlite_server.client.send("POST", "/api/token", bearer=given)
    assert sqlite_server.refreshes() == {}


def test_evidence_of_each_bound_refresh_is_counted(databases: Databases, tmp_path: Path) -> None:
    with measured(databases("sqlite"), tmp_path, TOKENAPP_DEVICE_BINDING="enforce") as server:
        browser = Browser(server.port)
        browser.sign_in()
        browser.refresh()
        browser.register()
        cookie, browser.bound = browser.bound, None
        browser.refresh()
        browser.prove()
        browser.bound = cookie
        browser.refresh()
        browser.bound = None
        browser.refresh(skipped="unreachable")
        browser.refresh()
        with database_of(server):
            update_sessions(proved_at=datetime.now(UTC) - timedelta(hours=1))
        browser.refresh(skipped="unreachable")
        shown = server.counts("tokenapp_bound_refreshes_total", "evidence")
        assert shown == dict.fromkeys(metrics.EVIDENCE, 1)
        assert server.refreshes()["unproved"] == 1


def test_each_result_of_a_sign_in_is_counted_once(server: MeasuredServer) -> None:
    client = server.client
    client.login()
    client.send("POST", "/api/login", body=b"{}")
    for _ in range(FREE_FAILURES + 1):
        client.login(password="wrong")
    client.login()
    with database_of(server):
        rename_table("throttles")
    client.login()
    counts = server.counts("tokenapp_sign_ins_total", "result")
    assert counts == dict.fromkeys(metrics.SIGN_INS, 1) | {"invalid": FREE_FAILURES + 1}


def test_hash_queue_excludes_passwords_of_a_worker_that_died(databases: Databases, tmp_path: Path) -> None:
    slow = {
        "TOKENAPP_PASSWORD_MEMORY": "65536",
        "TOKENAPP_PASSWORD_PASSES": "16",
        "TOKENAPP_THREADS": "16",
        "WEB_CONCURRENCY": "1",
    }
    with measured(databases("sqlite"), tmp_path, **slow) as server, ThreadPoolExecutor(4) as pool:
        server.client.login("unknown")  # the first sign-in also computes the decoy
        waiting = [pool.submit(server.client.login, f"unknown{number}") for number in range(4)]
        # The first sign-in may have got its response while its hash was still being computed.
        wait_until(lambda: server.scrape()["tokenapp_hash_queue{}"] >= 4, what="a queue of four")
        server.kill_worker()
        wait_until(lambda: server.scrape()["tokenapp_hash_queue{}"] == 0, what="an empty queue")
        # A sign-in that got a response before the worker died had waited for too long.
        assert all(
            isinstance(each.exception(), OSError | HTTPException) or each.result().status == 503 for each in waiting
        )


def test_each_hash_is_timed(sqlite_server: MeasuredServer) -> None:
    for password in ("wrong", "wrong as well", PASSWORD):
        sqlite_server.client.login(password=password)
    samples = sqlite_server.scrape()
    assert samples["tokenapp_hash_seconds_count{}"] == 3
    assert samples["tokenapp_hash_seconds_sum{}"] > 0


def test_keys_are_counted_by_use_and_state(databases: Databases, tmp_path: Path) -> None:
    own = {
        "ACCESS_TOKEN_SECRET": secrets.token_urlsafe(48),
        "ACCESS_TOKEN_SECRET_FALLBACKS": "a former secret that is still accepted",
    }
    with measured(databases("sqlite"), tmp_path, **own) as server:
        server.client.login()
        samples = server.scrape()
    assert {key: value for key, value in samples.items() if key.startswith("tokenapp_signing_keys")} == {
        "tokenapp_signing_keys{state=signing,use=access}": 1,
        "tokenapp_signing_keys{state=verifying,use=access}": 1,
        "tokenapp_signing_keys{state=signing,use=refresh}": 1,
        "tokenapp_signing_keys{state=verifying,use=refresh}": 0,
    }


def test_size_and_age_of_the_revocation_list_are_measured(server: MeasuredServer) -> None:
    revoked, other = sign_in(server.port), sign_in(server.port)
    revoked.logout()

    def listed() -> bool:
        other.protected()
        return server.scrape()["tokenapp_revoked_sessions_known{}"] == 1

    before = time.time()
    wait_until(listed, what="the revoked session on the list")
    read_at = server.scrape()["tokenapp_revoked_sessions_read_timestamp_seconds{}"]
    assert before - 10 < read_at <= time.time()


def test_clients_cannot_create_labels(sqlite_server: MeasuredServer) -> None:
    for path in ("/made-up", "/api/sessions/made-up", "/docs/made-up"):
        for method in ("GET", "MADEUP", "DELETE"):
            sqlite_server.client.send(method, path)
    labels = {key for key in sqlite_server.scrape() if key.startswith("tokenapp_request_seconds_count")}
    assert not [key for key in labels if "made" in key.lower()]
    assert "tokenapp_request_seconds_count{method=other,route=unknown,status=4xx}" in labels
    assert "tokenapp_request_seconds_count{method=DELETE,route=/api/sessions/<sid>,status=4xx}" in labels


@pytest.mark.parametrize("bind", ["", "127.0.0.1:9464"])
def test_prometheus_client_is_not_imported_outside_gunicorn(databases: Databases, bind: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys, wsgi; print('prometheus_client' in sys.modules)"],
        cwd=ROOT,
        env=environment(DATABASE_URL=databases("sqlite"), TOKENAPP_METRICS_BIND=bind),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == ["False"]


def test_dashboard_shows_exactly_the_metrics_and_their_labels() -> None:
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


def test_operations_page_lists_each_metric_with_labels_and_help() -> None:
    rows = re.findall(r"^\| `(tokenapp_\w+)` \| (.*?) \| (.*?) \|", PAGE.read_text(), re.MULTILINE)
    assert rows == [
        (each.name, ", ".join(f"`{label}`" for label in each.labels), each.help) for each in metrics.METRICS
    ]
