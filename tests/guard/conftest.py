"""The service under gunicorn, and in this process on the same database."""

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from flask import Flask

from tests.conftest import Databases, Servers
from tests.support.app import ROOT, create_user, make_app
from tests.support.programs import absent, find_program
from tests.support.server import Server


@pytest.fixture
def app(databases: Databases) -> Flask:
    """Return the application on the server's database, with one user."""
    app = make_app(databases("sqlite"))
    create_user(app)
    return app


@pytest.fixture
def service(app: Flask, serve: Servers) -> Server:
    """Start the service under gunicorn."""
    return serve(app.config["TOKENAPP"].database_url.render_as_string(hide_password=False))


@pytest.fixture(scope="session")
def node_guard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the npm package once for all test processes; give its folder.

    It contains the programs of the tests as well.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with (folder / "guard-node.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "guard-node").exists():
            _install(tmp_path_factory.mktemp("guard") / "node").rename(folder / "guard-node")
    return folder / "guard-node"


def _install(folder: Path) -> Path:
    shutil.copytree(ROOT / "guard-node", folder, ignore=shutil.ignore_patterns("node_modules"))
    shutil.copytree(ROOT / "tests/guard/node", folder, dirs_exist_ok=True)
    command = [find_program("npm"), "ci", "--prefer-offline", "--ignore-scripts", "--no-audit", "--no-fund"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)
    except subprocess.TimeoutExpired:
        absent("npm did not install the dependencies of the guard in time")
    if done.returncode:
        absent(f"npm cannot install the dependencies of the guard: {done.stderr[-500:]}")
    return folder
