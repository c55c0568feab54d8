"""The commands in docs/ run as written, and have the stated effects."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import flask_jwt_extended
import psycopg
import pytest
from flask import Flask
from sqlalchemy.engine import make_url
from werkzeug.security import generate_password_hash

from tests.conftest import Databases, Servers
from tests.support.app import PASSWORD, ROOT, application, create_user, environment, make_app
from tests.support.client import Client, sign_in
from tests.support.server import Server
from tokenapp import config
from tokenapp.db import db

DOCS = ROOT / "docs"
GUIDES = sorted([*ROOT.glob("*.md"), *DOCS.glob("**/*.md")])
NAMES = ("untouched", "refreshed", "signed out")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FLASK_COMMANDS = {"routes", "run", "shell"}


def blocks(path: Path, language: str = "sh") -> list[str]:
    """Return the code blocks of a language."""
    return [text for kind, text in BLOCK.findall(path.read_text()) if kind == language]


def block(name: str, title: str) -> str:
    """Return the commands under the comment `title` in a guide."""
    return next(text for text in blocks(DOCS / name) if text.startswith(f"# {title}\n"))


@dataclass
class Machine:
    """A host for the commands of a guide, with its own folders and systemctl."""

    folder: Path
    database_url: str
    variables: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for each in ("bin", "lib", "backups", "work"):
            (self.folder / each).mkdir()
        command = f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m flask --app wsgi "$@"\n'
        called = f'#!/bin/sh\necho "systemctl $*" >> {self.folder}/called\n'
        for name, text in (("flask", command), ("tokenapp-flask", command), ("systemctl", called)):
            (self.folder / "bin" / name).write_text(text)
            (self.folder / "bin" / name).chmod(0o755)

    def run(self, commands: str) -> str:
        """Run commands in the folders of this host; return their output."""
        for old, new in (
            ("/var/lib/tokenapp", f"{self.folder}/lib"),
            ("/var/backups/tokenapp", f"{self.folder}/backups"),
            ("install -o tokenapp -g tokenapp ", "install "),
        ):
            commands = commands.replace(old, new)
        env = environment(DATABASE_URL=self.database_url) | dict(self.variables)
        env["PATH"] = f"{self.folder}/bin:{env['PATH']}"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands],
            cwd=self.folder / "work",
            env=env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def machine(request: pytest.FixtureRequest, databases: Databases, tmp_path: Path) -> Machine:
    """Return a host with the service's database where the guide expects it."""
    need("bash", "sqlite3" if request.param == "SQLite" else "pg_dump")
    url = databases(request.param.lower())
    if request.param == "PostgreSQL":
        return Machine(tmp_path, url, {"KIND": request.param})
    machine = Machine(tmp_path, f"sqlite:///{tmp_path}/lib/tokenapp.db", {"KIND": request.param})
    shutil.copy(url.removeprefix("sqlite:///"), tmp_path / "lib/tokenapp.db")
    return machine


def need(*programs: str) -> None:
    """Skip the test if a program is missing; fail if ``REQUIRE_SERVERS`` is set."""
    missing = [name for name in programs if shutil.which(name) is None]
    if missing:
        (pytest.fail if os.environ.get("REQUIRE_SERVERS") else pytest.skip)(f"{', '.join(missing)} is not installed")


def back_up_and_continue(machine: Machine) -> dict[str, Client]:
    """Back up, change the sessions afterwards, and return their clients."""
    with application(machine.database_url) as app:
        create_user(app)
        clients = {name: sign_in(app) for name in NAMES}
        machine.run(block("backup.md", f"back up {machine.variables['KIND']}"))
        assert clients["refreshed"].refresh().status == 200
        kept = clients["signed out"].cookie
        assert clients["signed out"].logout().status == 204
        assert clients["signed out"].refresh(kept).status == 403
        clients["signed out"].cookie = kept
        clients["opened"] = sign_in(app)
    return clients


def refreshes(app: Flask, clients: Mapping[str, Client]) -> dict[str, int]:
    """Refresh every session with the application; return the statuses."""
    for client in clients.values():
        client.target = app
    return {name: client.refresh().status for name, client in clients.items()}


def test_restore_leaves_no_session_live(machine: Machine) -> None:
    clients = back_up_and_continue(machine)
    machine.run(block("backup.md", f"restore {machine.variables['KIND']}"))
    assert [line.split()[1] for line in (machine.folder / "called").read_text().splitlines()] == ["stop", "start"]
    with application(machine.database_url) as app:
        assert refreshes(app, clients) == dict.fromkeys(clients, 403)
        assert {name: clients[name].protected().status for name in NAMES} == dict.fromkeys(NAMES, 403)
        assert clients["opened"].protected().status == 200
        assert sign_in(app).refresh().status == 200


def test_retired_key_invalidates_tokens_of_sessions_missing_in_the_backup(machine: Machine) -> None:
    clients = back_up_and_continue(machine)
    machine.run(block("backup.md", f"restore {machine.variables['KIND']}"))
    kid = re.findall(r'"kid":\s*"([^"]+)",\s*"use":\s*"access"', machine.run("flask keys list --json"))[0]
    machine.run(f"flask keys retire {kid} --now --yes")
    with application(machine.database_url) as app:
        clients["opened"].target = app
        assert clients["opened"].protected().status == 403


def test_restore_without_revocation_affects_sessions_as_documented(machine: Machine) -> None:
    clients = back_up_and_continue(machine)
    line = "tokenapp-flask sessions revoke --everyone --yes\n"
    restore = block("backup.md", f"restore {machine.variables['KIND']}")
    assert line in restore
    machine.run(restore.replace(line, ""))
    with application(machine.database_url) as app:
        assert refreshes(app, clients) == {"untouched": 200, "refreshed": 403, "signed out": 200, "opened": 403}
        assert clients["opened"].protected().status == 200
    assert machine.run("flask events list --kind refresh_ahead").count("refresh_ahead") == 1
    assert "Revoked 3 sessions." in machine.run(block("backup.md", "revoke all sessions"))
    with application(machine.database_url) as app:
        assert set(refreshes(app, clients).values()) == {403}


@pytest.mark.parametrize("kind", ["SQLite", "PostgreSQL"])
def test_exported_users_sign_in_with_their_passwords(kind: str, databases: Databases, tmp_path: Path) -> None:
    need("bash", "sqlite3" if kind == "SQLite" else "psql")
    old = f"{tmp_path}/old.db" if kind == "SQLite" else databases("postgresql")
    variables = {"OLD_DATABASE" if kind == "SQLite" else "OLD_DATABASE_URL": old}
    machine = Machine(tmp_path, databases("sqlite"), variables)
    hashed = generate_password_hash(PASSWORD, "scrypt:1024:8:1")
    rows = "CREATE TABLE users (id integer, username text, password_hash text);"
    rows += f"INSERT INTO users VALUES (1, 'alice', '{hashed}'), (2, 'Bob, the builder', '{hashed}')"
    if kind == "SQLite":
        subprocess.run(["sqlite3", old, rows], check=True)
    else:
        with psycopg.connect(old) as connection:
            connection.execute("DROP TABLE users CASCADE")
            for statement in rows.split(";"):
                connection.execute(statement.encode())
    machine.run(block("moving.md", f"export from {kind}"))
    assert (machine.folder / "work/users.csv").stat().st_mode & 0o077 == 0
    assert "Imported 2 users; found 0 invalid lines." in machine.run(block("moving.md", "import"))
    assert list((machine.folder / "work").iterdir()) == []
    with application(machine.database_url) as app:
        assert sign_in(app).refresh().status == 200


@pytest.fixture
def service(databases: Databases, serve: Servers) -> Server:
    """Start the service with one user."""
    url = databases("sqlite")
    with application(url) as app:
        create_user(app)
    return serve(url)


def test_views_of_flask_jwt_extended_accept_our_access_tokens(service: Server) -> None:
    app = Flask("old")
    address = f"http://localhost:{service.port}"
    code = blocks(DOCS / "moving.md", "python")[0]
    assert "https://login.example.com" in code
    exec(code.replace("https://login.example.com", address), {"app": app})  # noqa: S102 -- from our own docs

    @app.get("/me")
    @flask_jwt_extended.jwt_required()  # type: ignore[untyped-decorator]  # the library has no types for it
    def me() -> dict[str, Any]:
        return {"sub": flask_jwt_extended.get_jwt_identity(), "name": flask_jwt_extended.get_jwt()["username"]}

    def get_me(token: str) -> Any:
        return app.test_client().get("/me", headers={"Authorization": f"Bearer {token}"})

    client = sign_in(service.port)
    assert client.token
    assert get_me(client.token).get_json()["name"] == "alice"
    forged = client.token[:-8] + "AAAAAAAA"
    assert [get_me(token).status_code for token in (str(client.cookie), forged)] == [422, 422]


def test_names_of_the_library_in_the_guide_exist() -> None:
    text = (DOCS / "moving.md").read_text()
    library = Path(flask_jwt_extended.__file__).parent
    source = "".join(path.read_text() for path in library.glob("*.py"))
    named = set(re.findall(r"\bJWT_[A-Z_]+|\b\w+_loader\b|\b(?:un)?set_jwt_cookies|\bcreate_\w+|\bget_jwt\w*", text))
    assert sorted(name for name in named if name not in source) == []


@contextmanager
def superuser(url: str) -> Iterator[dict[str, str]]:
    """Yield the variables for psql; drop what the guide created at the end."""
    parts = make_url(url)
    admin = url.replace(f"/{parts.database}", "/postgres")
    try:
        yield {"PGHOST": str(parts.host), "PGPORT": str(parts.port), "PGUSER": "postgres", "PGDATABASE": "postgres"}
    finally:
        with psycopg.connect(admin, autocommit=True) as connection:
            connection.execute("DROP DATABASE IF EXISTS tokenapp WITH (FORCE)")
            connection.execute("DROP ROLE IF EXISTS tokenapp")
            connection.execute("DROP ROLE IF EXISTS tokenapp_owner")


def test_service_runs_with_exactly_the_documented_privileges(databases: Databases, tmp_path: Path) -> None:
    need("bash", "psql")
    url = databases("postgresql")
    host = f"127.0.0.1:{make_url(url).port}"
    roles, commands = blocks(DOCS / "postgresql.md")
    with superuser(url) as variables:
        machine = Machine(tmp_path, url, variables)
        machine.run(roles)
        assert "@db.internal/" in commands
        machine.run(f"echo {shlex.quote(PASSWORD)} > in; {{ {commands} }} < in".replace("db.internal", host))
        ours = f"postgresql://tokenapp@{host}/tokenapp"
        with application(ours) as app:
            client = sign_in(app)
            assert (client.refresh().status, client.protected().status) == (200, 200)
            assert app.test_client().get("/readyz").status_code == 200
        with application(ours) as app:
            pruned = [
                app.test_cli_runner().invoke(args=args)
                for args in (["sessions", "prune"], ["events", "prune", "--yes"])
            ]
            assert [done.exit_code for done in pruned] == [0, 0], [done.output for done in pruned]
        with psycopg.connect(ours) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("DROP TABLE sessions")


def test_guide_lists_every_setting_as_shared_or_per_host() -> None:
    text = (DOCS / "postgresql.md").read_text().partition("## Settings")[2].partition("To change a secret")[0]
    firsts = "".join(line.split("|")[1] for line in text.splitlines() if line.startswith("|"))
    named = Counter(re.findall(r"`([A-Z_]+)`", firsts + text.partition("Each host's own:")[2]))
    assert named == Counter(setting.name for setting in config.SETTINGS)


def test_worker_opens_at_most_the_documented_connections(databases: Databases) -> None:
    times = "\N{MULTIPLICATION SIGN}"
    assert f"WEB_CONCURRENCY {times} (TOKENAPP_THREADS {times} 2 + 2)" in (DOCS / "postgresql.md").read_text()
    app = make_app(databases("sqlite"), TOKENAPP_THREADS="5")
    with app.app_context():
        pool: Any = db.engine.pool
        assert pool.size() + pool._max_overflow == 5 * 2 + 2
        db.engine.dispose()


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: path.name)
def test_shell_commands_have_valid_syntax(path: Path) -> None:
    for text in blocks(path):
        done = subprocess.run(["sh", "-n"], input=text, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def named_commands(path: Path) -> list[list[str]]:
    """Return the words after ``flask`` in shell blocks and inline code."""
    text = path.read_text()
    code = [line for each in blocks(path) for line in each.splitlines() if not line.startswith("#")]
    code += re.findall(r"`([^`\n]+)`", BLOCK.sub("", text))
    found = (re.search(r"(?:^|[\s/;-])flask ([a-z].*)", line) for line in code)
    return [re.split(r"\s+[#<>|]", match[1])[0].split() for match in found if match]


@pytest.mark.parametrize("path", [path for path in GUIDES if named_commands(path)], ids=lambda path: path.name)
def test_flask_commands_in_guides_exist_with_their_options(path: Path, tmp_path: Path) -> None:
    app = make_app(f"sqlite:///{tmp_path}/never-opened.db")
    for words in named_commands(path):
        for alternative in alternatives(words):
            check_command(app, alternative)


def alternatives(words: list[str]) -> Iterator[list[str]]:
    """Expand ``users list|show`` into one command per alternative."""
    for position, word in enumerate(words):
        if "|" in word and not word.startswith("<"):
            for each in word.split("|"):
                yield from alternatives([*words[:position], each, *words[position + 1 :]])
            return
    yield words


def check_command(app: Flask, words: list[str]) -> None:
    """Check that the groups, the command and its options exist."""
    command: click.Command = app.cli
    rest = list(words)
    if rest[0] == "db" or rest[0] in FLASK_COMMANDS:
        return  # of another package
    with click.Context(command) as context:
        while isinstance(command, click.Group):
            if not rest:
                return  # the guide names the whole group
            word = rest.pop(0)
            found = command.get_command(context, word)
            assert found is not None, f"flask {' '.join(words)}: no {word}"
            command = found
        known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    wrong = [word for word in rest if word.startswith("--") and word.partition("=")[0] not in known]
    assert wrong == [], f"flask {' '.join(words)}"
