"""The commands of the README's first part, as a newcomer types them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Databases, Servers
from tests.support.app import PASSWORD, ROOT, create_user, make_app
from tests.support.programs import find_program


def block(heading: str) -> str:
    """Return the first shell block below a heading of the README."""
    text = (ROOT / "README.md").read_text().partition(f"\n## {heading}\n")[2]
    return re.split(r"^```(?:sh)?\n", text, maxsplit=2, flags=re.MULTILINE)[1]


def run(commands: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run commands in a shell, and stop at the first that fails."""
    return subprocess.run(
        [find_program("bash"), "-euo", "pipefail", "-c", commands],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(folder), "no_proxy": "localhost", **variables},
        input=f"{PASSWORD}\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_output_of_every_curl_command_ends_with_a_line_end(
    databases: Databases, serve: Servers, tmp_path: Path
) -> None:
    find_program("curl")
    url = databases("sqlite")
    create_user(make_app(url), "demo", "only-for-trying-it-here")
    first, *rest = block("Sign in with curl").strip().split("\n")
    first = first.replace(":3005/", f":{serve(url).port}/")
    shown = [line if line.startswith("token=") else f"{line}; echo END" for line in rest]
    done = run("\n".join([first, *shown]), tmp_path)
    outputs = done.stdout.split("END\n")[:-1]
    assert len(outputs) == 4
    assert all(output.endswith("\n") for output in outputs)


def test_deploy_commands_work_on_a_machine_without_folders_for_the_service(
    databases: Databases, tmp_path: Path
) -> None:
    commands = block("Deploy")
    # The environment of the tests stands in for the one that the first two lines make.
    for old, new in (
        ("python3 -m venv .venv\n.venv/bin/pip install -r requirements.txt\n", ""),
        ("/etc/tokenapp", f"{tmp_path}/etc/tokenapp"),
        ("/var/lib/tokenapp", f"{tmp_path}/lib/tokenapp"),
        ("postgresql://tokenapp@db.internal/tokenapp", databases("postgresql")),
        (".venv/bin/flask", f"{sys.executable} -m flask --app wsgi"),
        (".venv/bin/gunicorn", f"{sys.executable} -m gunicorn --check-config"),
    ):
        assert old in commands
        commands = commands.replace(old, new)
    done = run(commands, tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "etc/tokenapp/secret_key").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("variables", [{}, {"PORT": "8080"}, {"PORT": "8080", "SCRIPT_NAME": "/auth"}])
def test_address_that_make_run_prints_is_that_of_the_settings(variables: dict[str, str], tmp_path: Path) -> None:
    (line,) = re.findall(r'^\t@(echo "tokenapp: .*")$', (ROOT / "Makefile").read_text(), re.MULTILINE)
    done = run(line.replace("$$", "$"), tmp_path, **variables)
    address = f"http://localhost:{variables.get('PORT', '3005')}{variables.get('SCRIPT_NAME', '')}"
    assert done.stdout.startswith(f"tokenapp: {address} ")
