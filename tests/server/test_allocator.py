"""Memory of a server: modules it loads, and memory it returns when idle."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Databases
from tests.support.app import ROOT, application, create_user, environment
from tests.support.client import Client
from tests.support.concurrency import at_once, wait_until
from tests.support.server import Server
from tokenapp.server import allocator

HASH_COST = {"TOKENAPP_PASSWORD_MEMORY": "19456", "TOKENAPP_PASSWORD_PASSES": "1"}
OPERATOR_MODULES = ("alembic", "flask_migrate", "mako", "pygments", "rich", "tokenapp.cli.output", "tokenapp.cli.users")


def private_memory(pid: int) -> float:
    """Return the memory that a process does not share, in megabytes."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1000


def test_worker_returns_hash_memory_after_a_burst_of_sign_ins(databases: Databases) -> None:
    url = databases("sqlite")
    with application(url, **HASH_COST) as app:
        create_user(app)
    with Server(url, {**HASH_COST, "WEB_CONCURRENCY": "1"}) as server:
        client, worker = Client(server.port), server.workers()[0]

        def burst() -> None:
            assert {reply.status for reply in at_once(*[client.login] * 8)} == {200}

        assert client.refresh("malformed").status == 403
        before = private_memory(worker)  # the sign-ins keep 4 MB; the memory of one hash is 20 MB
        for _ in range(2):
            burst()
            wait_until(lambda: private_memory(worker) < before + 12, what="the release of the hash memory")


def test_server_does_not_load_modules_of_operator_commands() -> None:
    program = (
        "import runpy, sys; runpy.run_path('gunicorn.conf.py'); import wsgi;"
        f"print(*[name for name in {OPERATOR_MODULES} if sys.modules.get(name)])"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment(), capture_output=True, text=True, check=True
    )
    assert finished.stdout.split() == []


def test_models_are_configured_before_workers_are_forked() -> None:
    program = (
        "import runpy; server = runpy.run_path('gunicorn.conf.py'); import wsgi; server['when_ready'](None);"
        "from tokenapp import models; print(models.User.__mapper__.configured)"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment(), capture_output=True, text=True, check=True
    )
    assert finished.stdout.split() == ["True"]


def test_c_library_without_the_functions_is_tolerated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda _name: object())
    allocator.set_up()
    allocator.give_back()
