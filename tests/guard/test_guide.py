"""The examples of docs/other-services.md and of the npm package's README work."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.test import RequestFactory, override_settings

from tests.guard.stacks import ensure_django, serve_asgi
from tests.support.app import ROOT
from tests.support.client import Client, sign_in
from tests.support.guarded import issuer_of
from tests.support.programs import find_program
from tests.support.server import Server
from tokenapp_guard.django import GuardMiddleware

GUIDE = ROOT / "docs/other-services.md"
README = ROOT / "guard-node/README.md"


def programs(path: Path, language: str, server: Server) -> list[str]:
    """Return the programs in a document, for the tokens of a server."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL)
    return [program.replace("https://login.example.com", issuer_of(server)) for program in found]


def execute(program: str, names: dict[str, Any] | None = None) -> dict[str, Any]:
    """Run a program in Python; return its names."""
    names = {"__name__": "guide"} if names is None else names
    exec(program, names)  # noqa: S102 -- from our own docs
    return names


def test_examples_in_python_work(service: Server) -> None:
    flask, cors, fastapi, settings, views = programs(GUIDE, "python", service)
    bearer = {"Authorization": f"Bearer {sign_in(service.port).token}"}
    check_flask(flask, cors, bearer)
    token = bearer["Authorization"].removeprefix("Bearer ")
    app = execute(fastapi)["app"]
    assert app.openapi()["paths"]["/orders"]["get"]["security"] == [{"HTTPBearer": []}]
    with serve_asgi(app) as port:
        check(Client(port), token)
    check_django(execute(settings), execute(views), bearer)


def check(client: Client, token: str) -> None:
    """Check an application with the views /orders and, for admins, /reports."""
    assert client.send("GET", "/orders", bearer=token).json == {"for": "alice"}
    assert client.send("GET", "/orders").code == "access_token_missing"
    assert client.send("GET", "/reports", bearer=token).code == "insufficient_scope"


def check_flask(program: str, cors: str, bearer: dict[str, str]) -> None:
    names = execute(program)
    execute(cors, names)
    client = names["app"].test_client()
    assert client.get("/orders", headers=bearer).json == {"for": "alice"}
    assert client.get("/orders").status_code == 401
    assert client.get("/reports", headers=bearer).status_code == 403
    for origin, allowed in (("https://app.example.com", True), ("https://other.example.com", False)):
        asked = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}
        preflight = client.options("/orders", headers={"Origin": origin, **asked})
        response = client.get("/orders", headers={"Origin": origin, **bearer})
        for each in (preflight, response):
            assert (each.headers.get("Access-Control-Allow-Origin") == origin) is allowed
        if allowed:
            assert preflight.headers["Access-Control-Allow-Headers"].lower() == "authorization"


def check_django(settings: dict[str, Any], views: dict[str, Any], bearer: dict[str, str]) -> None:
    ensure_django()
    assert settings["MIDDLEWARE"] == ["tokenapp_guard.django.GuardMiddleware"]
    with override_settings(TOKENAPP_GUARD=settings["TOKENAPP_GUARD"]):
        respond = GuardMiddleware(views["reports"])
        assert respond(RequestFactory().get("/", headers=bearer)).status_code == 403
        assert respond(RequestFactory().get("/")).status_code == 401


@contextmanager
def run_node(folder: Path, name: str, program: str) -> Iterator[int]:
    """Run a program that makes the Express application `app`; yield its port."""
    (folder / name).write_text(
        program + "\nconst server = app.listen(0, '127.0.0.1', () => console.log(server.address().port))\n"
    )
    with subprocess.Popen([find_program("node"), name], cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


def test_examples_in_javascript_work(service: Server, node_guard: Path) -> None:
    token = sign_in(service.port).token or ""
    for path in (GUIDE, README):
        with run_node(node_guard, "guide.mjs", programs(path, "js", service)[0]) as port:
            check(Client(port), token)
