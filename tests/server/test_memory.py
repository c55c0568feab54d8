"""The memory of a server."""

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
FOR_OPERATORS = ("alembic", "flask_migrate", "mako", "pygments", "rich", "tokenapp.cli")


def private_megabytes(pid: int) -> float:
    """Return the size of the memory that a process shares with no other."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1000


def run(program: str) -> list[str]:
    """Run a program in a worker's environment, and return the words it prints."""
    done = subprocess.run(
        [sys.executable, "-c", f"import runpy; server = runpy.run_path('gunicorn.conf.py'); import wsgi; {program}"],
        cwd=ROOT,
        env=environment(SERVER_SOFTWARE="gunicorn"),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def test_memory_for_hashes_is_released_after_a_burst_of_sign_ins(databases: Databases) -> None:
    url = databases("sqlite")
    with application(url, **COST) as app:
        create_user(app)
    with Server(url, {**COST, "WEB_CONCURRENCY": "1", "TOKENAPP_THREADS": "16"}) as server:
        client, worker = Client(server.port), server.workers()[0]
        assert client.refresh("malformed").status == 403
        before = private_megabytes(worker)
        for _ in range(2):
            assert {response.status for response in at_once(*[client.login] * 8)} == {200}
            # The first sign-ins take 4 MB for other things. A block for a hash has 20 MB.
            wait_until(lambda: private_megabytes(worker) < before + 12, seconds=30, what="the release of the memory")


def test_server_imports_nothing_that_only_commands_need() -> None:
    assert run(f"import sys; print(*[name for name in {FOR_OPERATORS} if name in sys.modules])") == []


def test_models_are_configured_before_the_workers_are_forked() -> None:
    program = "server['when_ready'](None); from tokenapp import models; print(models.User.__mapper__.configured)"
    assert run(program) == ["True"]


def test_other_c_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda _name: object())
    allocator.set_up()
    allocator.give_back()
