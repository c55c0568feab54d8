"""Metrics: counts and gauges that are exact across all workers."""

import os
import re
import secrets
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.client import HTTPException
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from tests.conftest import Databases
from tests.support.app import PASSWORD, make_app
from tests.support.concurrency import wait_until
from tests.support.metrics_server import MetricsServer, counts_of, metrics_folder, run_metrics_server
from tests.support.server import Server
from tokenapp import db
from tokenapp.http import metrics
from tokenapp.models import Session
from tokenapp.throttle.lockout import FREE_FAILURES


@contextmanager
def database_of(server: Server) -> Iterator[None]:
    """Run the block with access to the database of the server."""
    app = make_app(server.database_url)
    with app.app_context():
        yield
        db.db.engine.dispose()


def change(**values: Any) -> None:
    """Set columns of all sessions."""
    db.execute_now(sa.update(Session).values(values))


def execute(statement: str) -> None:
    db.execute_now(sa.text(statement))


def test_each_outcome_of_a_refresh_is_counted_once(metrics_server: MetricsServer) -> None:
    client = metrics_server.client
    first = client.login()
    second = client.refresh(first.cookie)
    client.refresh(first.cookie)
    client.refresh(second.cookie)
    with database_of(metrics_server):
        change(rotated_at=datetime.now(UTC) - timedelta(hours=1))
    client.refresh(first.cookie)
    client.refresh(second.cookie)
    client.refresh(None)
    client.refresh("malformed")
    newest = client.refresh(client.login().cookie)
    with database_of(metrics_server):
        change(generation=0, current_jti="from a backup")
    client.refresh(newest.cookie)
    lapsed = client.login()
    with database_of(metrics_server):
        change(expires_at=datetime.now(UTC) - timedelta(seconds=1))
    client.refresh(lapsed.cookie)
    with database_of(metrics_server):
        execute("ALTER TABLE sessions RENAME TO gone")
    client.refresh(lapsed.cookie)
    counted = counts_of(metrics_server.scrape(), "tokenapp_refreshes_total", "outcome")
    assert counted == dict.fromkeys(metrics.REFRESHES, 1) | {"rotated": 2}


def test_each_result_of_a_sign_in_is_counted_once(metrics_server: MetricsServer) -> None:
    client = metrics_server.client
    client.login()
    client.send("POST", "/api/login", body=b"{}")
    for _ in range(FREE_FAILURES + 1):
        client.login(password="wrong")
    client.login()
    with database_of(metrics_server):
        execute("ALTER TABLE throttles RENAME TO gone")
    client.login()
    counted = counts_of(metrics_server.scrape(), "tokenapp_sign_ins_total", "result")
    assert counted == dict.fromkeys(metrics.SIGN_INS, 1) | {"invalid": FREE_FAILURES + 1}


def test_counts_include_running_and_dead_workers(metrics_server_sqlite: MetricsServer) -> None:
    server, sent = metrics_server_sqlite, 0
    for _ in range(3):
        with ThreadPoolExecutor(8) as pool:
            assert {reply.status for reply in pool.map(server.client.refresh, [None] * 100)} == {401}
        sent += 100
        server.kill_a_worker()
        samples = server.scrape()
        assert counts_of(samples, "tokenapp_refreshes_total", "outcome") == {"missing": sent}
        key = "method=POST,route=/api/token,status=4xx}"
        assert samples[f"tokenapp_request_seconds_count{{{key}"] == sent
        assert samples[f"tokenapp_request_seconds_bucket{{le=+Inf,{key}"] == sent
        assert samples[f"tokenapp_request_seconds_bucket{{le=5.0,{key}"] == sent


def test_counts_never_decrease_while_workers_die(metrics_server_sqlite: MetricsServer) -> None:
    server, finished = metrics_server_sqlite, threading.Event()

    def scrape_repeatedly() -> list[float]:
        seen = []
        while not finished.is_set():
            seen.append(counts_of(server.scrape(), "tokenapp_refreshes_total", "outcome").get("missing", 0))
        return seen

    with ThreadPoolExecutor(1) as pool:
        scraping = pool.submit(scrape_repeatedly)
        try:
            for _ in range(5):
                for _ in range(20):
                    server.client.refresh(None)
                server.kill_a_worker()
        finally:
            finished.set()
        seen = scraping.result()
    assert seen == sorted(seen)
    assert counts_of(server.scrape(), "tokenapp_refreshes_total", "outcome") == {"missing": 100}


def test_dead_workers_leave_no_files(metrics_server_sqlite: MetricsServer) -> None:
    server = metrics_server_sqlite
    server.client.login()
    for _ in range(3):
        server.kill_a_worker()
    server.client.login()
    alive = {str(pid) for pid in (0, server.master, *server.workers())}
    files = list(metrics_folder(server).iterdir())
    assert files
    assert {re.findall(r"_(\d+)\.db", file.name)[0] for file in files} <= alive


def test_empty_file_of_a_worker_does_not_affect_the_counts(metrics_server_sqlite: MetricsServer) -> None:
    server, folder = metrics_server_sqlite, metrics_folder(metrics_server_sqlite)
    server.client.refresh(None)
    empty_files = [folder / f"summary_{pid}.db" for pid in server.workers()]
    for file in empty_files:
        file.touch()
    assert counts_of(server.scrape(), "tokenapp_refreshes_total", "outcome") == {"missing": 1}
    server.kill_a_worker()
    assert counts_of(server.scrape(), "tokenapp_refreshes_total", "outcome") == {"missing": 1}
    assert not empty_files[0].exists()


def test_hash_queue_excludes_waiting_requests_of_a_dead_worker(databases: Databases, tmp_path: Path) -> None:
    slow = {
        "TOKENAPP_PASSWORD_MEMORY": "65536",
        "TOKENAPP_PASSWORD_PASSES": "16",
        "WEB_CONCURRENCY": "1",
        "TOKENAPP_THREADS": "16",
    }
    with run_metrics_server(databases("sqlite"), tmp_path, **slow) as server, ThreadPoolExecutor(4) as pool:
        # The first sign-in also creates the decoy hash, which has the cost of the hash of alice.
        server.client.login("unknown")
        waiting = [pool.submit(server.client.login, f"unknown{number}") for number in range(4)]
        # On a slow machine the first hash may still be computed after its response was sent.
        wait_until(lambda: server.scrape()["tokenapp_hash_queue{}"] >= 4, what="a queue of four")
        server.kill_a_worker()
        wait_until(lambda: server.scrape()["tokenapp_hash_queue{}"] == 0, what="an empty queue")
        # A request that got a response before the worker was killed had waited too long.
        assert all(
            isinstance(each.exception(), OSError | HTTPException) or each.result().status == 503 for each in waiting
        )


def test_duration_of_each_hash_is_measured(metrics_server_sqlite: MetricsServer) -> None:
    for password in ("wrong", "wrong as well", PASSWORD):
        metrics_server_sqlite.client.login(password=password)
    samples = metrics_server_sqlite.scrape()
    assert samples["tokenapp_hash_seconds_count{}"] == 3
    assert samples["tokenapp_hash_seconds_sum{}"] > 0


def test_signing_keys_are_counted_by_use_and_state(databases: Databases, tmp_path: Path) -> None:
    former = "a former secret that is still accepted"
    own = {
        "ACCESS_TOKEN_SECRET": secrets.token_urlsafe(48),
        "ACCESS_TOKEN_SECRET_FALLBACKS": former,
    }
    with run_metrics_server(databases("sqlite"), tmp_path, **own) as server:
        server.client.login()
        samples = server.scrape()
        keys = {key: value for key, value in samples.items() if key.startswith("tokenapp_signing_keys")}
        assert keys == {
            "tokenapp_signing_keys{state=signing,use=access}": 1,
            "tokenapp_signing_keys{state=verifying,use=access}": 1,
            "tokenapp_signing_keys{state=signing,use=refresh}": 1,
            "tokenapp_signing_keys{state=verifying,use=refresh}": 0,
        }


def test_size_and_age_of_the_revocation_list_are_measured(metrics_server: MetricsServer) -> None:
    client = metrics_server.client
    reply, other = client.login(), client.login()
    client.logout(reply.cookie)

    def listed() -> bool:
        client.protected(other.json["accessToken"])
        return metrics_server.scrape()["tokenapp_revoked_sessions_known{}"] == 1

    wait_until(listed, what="the session on the revocation list")
    read = metrics_server.scrape()["tokenapp_revoked_sessions_read_timestamp_seconds{}"]
    assert 0 <= time.time() - read < 10


def test_clients_cannot_create_labels(metrics_server_sqlite: MetricsServer) -> None:
    for path in ("/made-up", "/api/sessions/made-up", "/docs/made-up"):
        for method in ("GET", "MADEUP", "DELETE"):
            metrics_server_sqlite.client.send(method, path)
    labels = {key for key in metrics_server_sqlite.scrape() if key.startswith("tokenapp_request_seconds_count")}
    assert not [key for key in labels if "made" in key.lower()]
    assert "tokenapp_request_seconds_count{method=other,route=unknown,status=4xx}" in labels
    assert "tokenapp_request_seconds_count{method=DELETE,route=/api/sessions/<sid>,status=4xx}" in labels


def test_reload_keeps_the_counts_and_the_listener(metrics_server_sqlite: MetricsServer) -> None:
    server = metrics_server_sqlite
    server.client.refresh(None)
    before = server.workers()
    os.kill(server.master, signal.SIGHUP)
    server.wait_for_workers(*before)
    server.client.refresh(None)
    assert counts_of(server.scrape(), "tokenapp_refreshes_total", "outcome") == {"missing": 2}
