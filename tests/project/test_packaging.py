"""The package that ``pip install`` makes of this repository."""

import email
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

from tests.support.app import ROOT, environment

SOURCES = ("tokenapp", "tokenapp_guard", "setup.cfg", "pyproject.toml")
COMPILED = shutil.ignore_patterns("__pycache__")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install a copy of the sources without dependencies; return the folder."""
    copy, target = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("installed")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=COMPILED)
        else:
            shutil.copy(ROOT / name, copy / name)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-cache-dir"]
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--target", str(target), str(copy)]
    subprocess.run([*pip, *options], check=True, timeout=100)
    return target


def test_guard_does_not_import_the_service(installed: Path) -> None:
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


def test_only_the_dependencies_of_the_guard_are_required(installed: Path) -> None:
    (metadata,) = installed.glob("tokenapp-*.dist-info/METADATA")
    required = email.message_from_string(metadata.read_text()).get_all("Requires-Dist", [])
    assert sorted(each for each in required if "extra ==" not in each) == ["flask>=3.1", "pyjwt[crypto]>=2.15"]


@pytest.mark.parametrize("folder", ["web", "migrations"])
def test_all_files_of_a_data_folder_are_installed(installed: Path, folder: str) -> None:
    def files(package: Path) -> list[Path]:
        found = (path.relative_to(package) for path in (package / folder).rglob("*") if path.is_file())
        return sorted(path for path in found if "__pycache__" not in path.parts)

    assert files(installed / "tokenapp") == files(ROOT / "tokenapp") != []


def test_installed_package_creates_its_tables(installed: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/new.db"
    for arguments in (["db", "upgrade"], ["db", "check"]):
        done = subprocess.run(
            [sys.executable, "-m", "flask", "--app", "tokenapp", *arguments],
            env=environment(DATABASE_URL=url) | {"PYTHONPATH": str(installed)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
    assert str(ROOT) not in done.stdout + done.stderr
    assert (tmp_path / "new.db").is_file()


def test_extra_service_lists_the_direct_requirements() -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    service = setup["options.extras_require"]["service"].split("\n")
    assert [line for line in service if line] == (ROOT / "requirements.in").read_text().split()
