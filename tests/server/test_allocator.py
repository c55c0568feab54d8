"""What a server holds in memory: what it needs, and no more once there is nothing to do."""

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

COST = {"TOKENAPP_PASSWORD_MEMORY": "19456", "TOKENAPP_PASSWORD_PASSES": "1"}
FOR_OPERATORS = ("alembic", "flask_migrate", "mako", "pygments", "rich", "tokenapp.cli.output", "tokenapp.cli.users")


def private(pid: int) -> float:
    """Return the megabytes that a process shares with no other."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1000


def test_a_worker_gives_the_memory_for_hashes_back_after_a_burst_of_sign_ins(databases: Databases) -> None:
    url = databases("sqlite")
    with application(url, **COST) as app:
        create_user(app)
    with Server(url, {**COST, "WEB_CONCURRENCY": "1"}) as server:
        client, worker = Client(server.port), server.workers()[0]

        def burst() -> None:
            assert {reply.status for reply in at_once(*[client.login] * 8)} == {200}

        assert client.refresh("rubbish").status == 403
        before = private(worker)  # sign-ins need 4 MB more for themselves, and a block takes 20
        for _ in range(2):
            burst()
            wait_until(lambda: private(worker) < before + 12, what="the return of the memory for hashes")


def test_a_server_loads_nothing_that_only_operators_need() -> None:
    program = (
        "import runpy, sys; runpy.run_path('gunicorn.conf.py'); import wsgi;"
        f"print(*[name for name in {FOR_OPERATORS} if sys.modules.get(name)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


def test_workers_are_forked_with_models_that_are_ready() -> None:
    program = (
        "import runpy; server = runpy.run_path('gunicorn.conf.py'); import wsgi; server['when_ready'](None);"
        "from tokenapp import models; print(models.User.__mapper__.configured)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True"]


def test_nothing_is_done_where_the_c_library_has_no_such_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda _name: object())
    allocator.set_up()
    allocator.give_back()
