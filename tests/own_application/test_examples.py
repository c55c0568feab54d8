"""The examples of docs/own-application.md, run as the guide says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Databases
from tests.support.app import PASSWORD, ROOT, application, create_user, environment
from tests.support.client import Client, sign_in
from tests.support.concurrency import wait_until
from tests.support.server import Server, free_port

EXAMPLE = ROOT / "examples/own-application"
GUNICORN = (sys.executable, "-m", "gunicorn", "--config", "python:tokenapp.server.configuration")
COMMANDS = {"db upgrade", "db upgrade --directory migrations"}


def run(url: str, *arguments: str) -> str:
    """Run the flask command in the folder of the example."""
    done = subprocess.run(
        [sys.executable, "-m", "flask", "--app", "shop", *arguments],
        cwd=EXAMPLE,
        env=environment(DATABASE_URL=url),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def serve(url: str, log: Path, application: str, **settings: str) -> Server:
    """Return a server that runs a module of the example."""
    command = (*GUNICORN, "--pythonpath", str(EXAMPLE), application)
    return Server(url, settings, log=log, command=command)


@pytest.fixture
def url(database_url: str) -> str:
    """Return the URL of a database with the tables of the service, and one user."""
    with application(database_url) as app:
        create_user(app)
    return database_url


def test_shop_in_the_application_of_the_service(url: str, tmp_path: Path) -> None:
    service = run(url, "db", "current")
    run(url, "db", "upgrade", "--directory", "migrations")
    assert run(url, "db", "current") == service
    with serve(url, tmp_path / "log", "shop:create_app()") as server:
        client = sign_in(server.port)
        token = client.token
        assert client.send("POST", "/orders", payload={"article": "lamp"}, bearer=token).status == 201
        assert client.send("GET", "/orders", bearer=token).json == {"of": "alice", "articles": ["lamp"]}
        rejected = client.send("POST", "/orders", payload={"article": "unicorn"}, bearer=token)
        assert rejected.problem == (409, "conflict", "Unicorns are sold out.")
        assert client.send("DELETE", "/orders", bearer=token).status == 204
        assert client.send("GET", "/orders", bearer=token).json["articles"] == []
        assert client.send("GET", "/readyz").status == 200
        client.logout()

        def is_rejected() -> bool:
            return client.send("GET", "/orders", bearer=token).status == 403

        wait_until(is_rejected, seconds=20, what="the revocation")
    run(url, "db", "check", "--directory", "migrations")


def test_service_below_a_path_of_a_shop(databases: Databases, tmp_path: Path) -> None:
    url, port = databases("sqlite"), free_port()
    with application(url) as app:
        create_user(app)
    issuer = f"http://localhost:{port}/auth"
    server = serve(url, tmp_path / "log", "mounted:application", TOKENAPP_ISSUER=issuer)
    server.port, server.health = port, "/auth/healthz"
    with server:
        client = Client(port)
        login = client.send("POST", "/auth/api/login", payload={"username": "alice", "password": PASSWORD})
        assert login.status == 200
        assert client.send("GET", "/orders", bearer=login.json["accessToken"]).json == {"of": "alice"}
        assert client.send("GET", "/orders").status == 401
        assert client.send("GET", "/auth/account").status == 200
        assert client.send("GET", "/healthz").status == 404
        refreshed = client.send("POST", "/auth/api/token", cookie=login.cookie)
        assert refreshed.status == 200


def test_guide_shows_the_files_of_the_examples() -> None:
    text = (ROOT / "docs/own-application.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    files = [(EXAMPLE / name).read_text() for name in ("shop.py", "mounted.py", "migrations/env.py")]
    assert blocks
    for block in blocks:
        assert any(block in file for file in files), block
    assert {" ".join(each.split()) for each in re.findall(r"flask --app shop ([a-z -]+)", text)} >= COMMANDS
