"""Help, version and settings of the command line."""

import os
import subprocess
import sys

import pytest

from tests.conftest import Databases
from tests.support.app import ROOT, SETTINGS, create_user, make_app
from tests.support.service_clients import register
from tokenapp import __version__, cli

BROKEN = {"PORT": "0", "TOKENAPP_NO_SUCH_THING": "1", "DATABASE_URL": "mysql://x/y"}
COMMANDS = sorted([*(str(command.name) for command in cli.COMMANDS), "version"])


def command(*arguments: str, module: str = "flask", **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a command with only these settings in its environment."""
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8", **settings}
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "settings"),
    [
        ("--help", {}),
        ("users --help", BROKEN),
        ("users delete --help", {}),
        ("doctor --help", BROKEN),
        ("db --help", {}),
        ("db upgrade --help", BROKEN),
    ],
)
def test_help_needs_no_valid_settings(arguments: str, settings: dict[str, str]) -> None:
    shown = command(*arguments.split(), **settings)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "Usage: " in shown.stdout


@pytest.mark.parametrize("module", ["flask", "tokenapp"])
def test_help_lists_the_commands_for_operators_only(module: str) -> None:
    lines = command("--help", module=module).stdout.partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in lines] == COMMANDS
    assert max(map(len, lines)) <= 80


def test_help_lists_the_migrations_for_operators_only() -> None:
    lines = command("db", "--help").stdout.partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in lines] == ["current", "upgrade"]


def test_commands_for_developers_still_work() -> None:
    assert "Usage: " in command("routes", "--help").stdout
    assert "Usage: " in command("db", "migrate", "--help").stdout


@pytest.mark.parametrize("arguments", ["users list", "doctor", "db upgrade", "serve"])
def test_command_without_settings_ends_with_all_problems(arguments: str) -> None:
    ended = command(*arguments.split(), PORT="0")
    assert (ended.returncode, ended.stdout) == (1, "")
    lines = ended.stderr.splitlines()
    assert lines[0] == "tokenapp cannot start:"
    assert {line.split()[1] for line in lines[1:]} == {"PORT", "SECRET_KEY", "TOKENAPP_ISSUER"}


@pytest.mark.parametrize(
    ("module", "argument", "settings"),
    [("flask", "version", {}), ("tokenapp", "version", {"PORT": "0"}), ("tokenapp", "--version", {"PORT": "0"})],
)
def test_version_needs_no_valid_settings(module: str, argument: str, settings: dict[str, str]) -> None:
    shown = command(argument, module=module, **settings)
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, f"tokenapp {__version__}\n", "")


@pytest.fixture(scope="module")
def names(databases: Databases) -> str:
    """Return a database with three users and two clients."""
    url = databases("sqlite")
    app = make_app(url)
    for name in ("alice", "alan", "bob"):
        create_user(app, name)
    for name in ("shop", "forum"):
        register(app, name)
    return url


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("users show al", ["alan", "alice"]),
        ("sessions why b", ["bob"]),
        ("events list --user al", ["alan", "alice"]),
        ("clients rotate s", ["shop"]),
        ("us", ["users"]),
    ],
)
def test_names_are_completed(names: str, words: str, expected: list[str]) -> None:
    shown = make_app(names).test_cli_runner().invoke(args=[], env=asking_for(words), prog_name="flask")
    assert sorted(shown.stdout.split()) == [f"plain,{name}" for name in expected]


def test_names_are_completed_in_a_process_of_its_own(names: str) -> None:
    assert completions("users show al", names) == ["plain,alan", "plain,alice"]


def test_completion_without_a_database_is_silent() -> None:
    assert completions("users show al", "postgresql://postgres@127.0.0.1:1/none") == []


def asking_for(words: str) -> dict[str, str]:
    """Return the variables by which click's script for bash asks."""
    line = f"flask {words}"
    return {"_FLASK_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)}


def completions(words: str, url: str) -> list[str]:
    """Return what bash would be offered, the way click's script asks for it."""
    settings = SETTINGS | {"DATABASE_URL": url} | asking_for(words)
    code = "import sys; from flask.cli import cli; cli.main(prog_name='flask')"
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **settings}
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert shown.stderr == ""
    return sorted(shown.stdout.split())
