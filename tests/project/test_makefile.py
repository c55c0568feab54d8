"""The environments that make uses."""

import platform
import re
import subprocess
import sys

from tests.support.app import ROOT


def environment_of(*arguments: str) -> str:
    """Return the folder of the virtual environment that make would use."""
    done = subprocess.run(
        ["make", "--silent", "--eval=show: ; @echo $(VENV)", "show", *arguments],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.strip()


def test_named_python_gets_an_environment_of_its_own() -> None:
    assert environment_of() == ".venv"
    assert environment_of(f"PYTHON={sys.executable}") == f".venv-{platform.python_version()}"
    assert environment_of(f"PYTHON={sys.executable}", "VENV=/elsewhere") == "/elsewhere"


def test_files_that_other_versions_of_python_run_exist() -> None:
    (listed,) = re.findall(r'^portable="(.*?)"', (ROOT / ".ci/run").read_text(), re.MULTILINE | re.DOTALL)
    names = listed.replace("\\\n", " ").split()
    assert "\n" not in listed.replace("\\\n", " "), "make would take the second line for a command"
    assert [name for name in names if not (ROOT / name).exists()] == []
