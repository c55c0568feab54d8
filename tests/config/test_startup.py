"""Programs that are started with invalid settings."""

import subprocess
import sys
from typing import Final

import pytest

from tests.support.app import ROOT, environment
from tests.support.settings import INVALID, LEAK
from tokenapp.config import SETTINGS

SETTING_NAMES: Final = {setting.name for setting in SETTINGS}


def start(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run Python with `settings` and no other settings."""
    clean = {name: value for name, value in environment().items() if name not in SETTING_NAMES}
    command, env = [sys.executable, *arguments], {**clean, **settings}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)


def assert_lists_all(output: str) -> None:
    """Check that `output` lists all problems of `INVALID` and shows no secret."""
    assert all(f"  - {name} " in output for name in INVALID)
    assert LEAK not in output


def test_wsgi_prints_the_list_of_problems_and_nothing_else() -> None:
    done = start("-c", "import wsgi", **INVALID)
    assert done.returncode == 1
    assert_lists_all(done.stderr)
    assert done.stderr.startswith("tokenapp cannot start:\n  - ")
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("arguments", [["gunicorn"], ["flask", "routes"]], ids=["gunicorn", "flask"])
def test_no_program_starts_with_invalid_settings(arguments: list[str]) -> None:
    # gunicorn itself reads WEB_CONCURRENCY first, and has its own message if it is not a number.
    done = start("-m", *arguments, **{**INVALID, "WEB_CONCURRENCY": "0"})
    assert done.returncode != 0
    assert_lists_all(done.stdout + done.stderr)
