"""What ``pip install`` of this repository brings to other applications."""

import email
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

from tests.support.app import ROOT

SOURCES = ("tokenapp", "tokenapp_guard", "setup.cfg", "pyproject.toml")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install a copy of the sources, without what they need, into a folder of its own; return the folder."""
    copy, target = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("installed")
    for name in SOURCES:
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, copy / name)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-cache-dir"]
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--target", str(target), str(copy)]
    subprocess.run([*pip, *options], check=True, timeout=100)
    return target


def test_the_guard_is_installed_and_needs_nothing_of_the_service(installed: Path) -> None:
    program = (
        "import sys, tokenapp_guard; print(tokenapp_guard.__file__);"
        "print(sorted({'tokenapp', 'sqlalchemy', 'flask_jwt_extended', 'msgspec'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(installed)},
        cwd=installed,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.splitlines() == [str(installed / "tokenapp_guard/__init__.py"), "[]"]


def test_only_what_the_guard_needs_is_required(installed: Path) -> None:
    (metadata,) = installed.glob("tokenapp-*.dist-info/METADATA")
    required = email.message_from_string(metadata.read_text()).get_all("Requires-Dist", [])
    assert sorted(each for each in required if "extra ==" not in each) == ["flask>=3.1", "pyjwt[crypto]>=2.15"]


def test_files_that_are_no_programs_are_installed_too(installed: Path) -> None:
    for name in (
        "web/docs/index.html",
        "web/client/tokenapp.js",
        "web/account/account.html",
        "web/account/account.js",
        "password_rule/common.txt",
        "password_rule/common.LICENSE.txt",
    ):
        assert (installed / "tokenapp" / name).is_file()


def test_the_service_requires_what_is_pinned_for_it() -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    wanted = setup["options.extras_require"]["service"].split("\n")
    assert [line for line in wanted if line] == (ROOT / "requirements.in").read_text().split()
