"""The wheel and the source distribution, installed and run outside a checkout."""

import email
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from configparser import ConfigParser
from contextlib import contextmanager
from pathlib import Path
from zipfile import ZipFile

import pytest

import tokenapp
from tests.support.app import PASSWORD, ROOT, environment
from tests.support.client import Client, sign_in
from tests.support.concurrency import wait_until
from tests.support.server import free_port
from tokenapp.config import SETTINGS

SOURCES = ("tokenapp", "tokenapp_guard", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")
COMPILED = shutil.ignore_patterns("__pycache__")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the source distribution from a copy, and the wheel from that."""
    copy, built = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("built")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=COMPILED)
        else:
            shutil.copy(ROOT / name, copy / name)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(built), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list(built.glob("tokenapp-*.tar.gz"))) == 1
    (path,) = built.glob("tokenapp-*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel in a new virtual environment, beside the pinned libraries."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin/python"), "install", "--quiet"]
    options = ["--disable-pip-version-check", "--no-cache-dir", "--no-deps", "--no-index"]
    subprocess.run([*pip, *options, str(wheel)], check=True, timeout=100)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "pinned.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return an empty folder to run commands in."""
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty"


def variables(**settings: str) -> dict[str, str]:
    """Return an environment in which neither checkout nor database is named."""
    return {name: text for name, text in environment(**settings).items() if name != "PYTHONPATH"}


def run(installed: Path, folder: Path, *command: str, stdin: str = "", **settings: str) -> str:
    """Run an installed program in `folder`; return its output."""
    done = subprocess.run(
        [installed / "bin" / command[0], *command[1:]],
        cwd=folder,
        env=variables(**settings),
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def serving(installed: Path, folder: Path, *command: str, **settings: str) -> Iterator[int]:
    """Run a server in `folder`; yield its port."""
    port = free_port()
    with (
        (folder.parent / "log").open("wb") as log,
        subprocess.Popen(
            [installed / "bin" / command[0], *command[1:]],
            cwd=folder,
            env=variables(PORT=str(port), **settings),
            stderr=log,
        ) as process,
    ):
        try:
            wait_until(lambda: answers(port), seconds=30, what="the server")
            yield port
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(40) == 0


def answers(port: int) -> bool:
    try:
        return Client(port, timeout=2).send("GET", "/healthz").status == 200
    except OSError:
        return False


def test_installed_service_creates_its_tables_and_serves(installed: Path, folder: Path) -> None:
    site = sorted(path for path in installed.rglob("*") if "__pycache__" not in path.parts)
    run(installed, folder, "tokenapp", "db", "upgrade")
    run(installed, folder, "tokenapp", "users", "create", "alice", stdin=f"{PASSWORD}\n")
    with serving(installed, folder, "tokenapp", "serve") as port:
        assert sign_in(port).refresh().status == 200
        assert Client(port).send("GET", "/readyz").status == 200
        assert Client(port).send("GET", "/account").status == 200
    assert (folder / "instance/tokenapp.db").is_file()
    assert sorted(path for path in installed.rglob("*") if "__pycache__" not in path.parts) == site


def test_installed_service_uses_the_instance_folder_of_the_setting(installed: Path, folder: Path) -> None:
    elsewhere = folder.parent / "elsewhere"
    run(installed, folder, "python", "-m", "tokenapp", "db", "upgrade", TOKENAPP_INSTANCE_PATH=str(elsewhere))
    assert (elsewhere / "tokenapp.db").is_file()
    assert list(folder.iterdir()) == []


def test_flask_command_works_with_the_installed_package(installed: Path, folder: Path) -> None:
    flask = ("python", "-m", "flask", "--app", "tokenapp")
    run(installed, folder, *flask, "db", "upgrade")
    run(installed, folder, *flask, "db", "check")
    with serving(installed, folder, *flask, "serve"):
        pass


@pytest.mark.parametrize("command", [["-m", "tokenapp"], ["-m", "flask", "--app", "tokenapp"]], ids=" ".join)
def test_command_lists_all_problems_of_the_settings(installed: Path, folder: Path, command: list[str]) -> None:
    names = {setting.name for setting in SETTINGS}
    done = subprocess.run(
        [installed / "bin/python", *command, "users", "list"],
        cwd=folder,
        env={name: text for name, text in variables().items() if name not in names},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode != 0
    assert "  - SECRET_KEY is not set" in done.stderr
    assert "  - TOKENAPP_ISSUER is not set" in done.stderr
    assert "Traceback" not in done.stderr


def test_wheel_has_all_files_and_the_version_of_the_program(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        metadata = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        version = email.message_from_bytes(archive.read(metadata))["Version"]
    folders = (ROOT / "tokenapp", ROOT / "tokenapp_guard")
    files = {path for folder in folders for path in folder.rglob("*") if path.is_file()}
    assert names == {os.fspath(path.relative_to(ROOT)) for path in files if "__pycache__" not in path.parts}
    assert version == tokenapp.__version__


def test_guard_does_not_import_the_service(installed: Path, folder: Path) -> None:
    program = (
        "import sys, tokenapp_guard; print(tokenapp_guard.__file__);"
        "print(sorted({'tokenapp', 'sqlalchemy', 'flask_jwt_extended', 'msgspec'} & sys.modules.keys()))"
    )
    path, imported = run(installed, folder, "python", "-c", program).splitlines()
    assert Path(path).is_relative_to(installed)
    assert imported == "[]"


def test_only_the_dependencies_of_the_guard_are_required(installed: Path) -> None:
    (metadata,) = installed.rglob("tokenapp-*.dist-info/METADATA")
    required = email.message_from_string(metadata.read_text()).get_all("Requires-Dist", [])
    assert sorted(each for each in required if "extra ==" not in each) == ["flask>=3.1", "pyjwt[crypto]>=2.15"]


@pytest.mark.parametrize(
    "command", [["tokenapp", "serve"], ["flask", "--app", "tokenapp", "users", "list"]], ids=" ".join
)
def test_without_the_extra_the_service_says_what_to_install(
    installed: Path, folder: Path, tmp_path: Path, command: list[str]
) -> None:
    (site,) = installed.glob("lib/python*/site-packages")
    pinned = Path(sysconfig.get_path("purelib"))
    (tmp_path / "guard").mkdir()
    for name in ("flask", "werkzeug", "jinja2", "markupsafe", "click", "itsdangerous", "blinker"):
        (tmp_path / "guard" / name).symlink_to(pinned / name)
    done = subprocess.run(
        [installed / "bin/python", "-S", "-m", *command],  # without the folder of the pinned libraries
        cwd=folder,
        env=variables() | {"PYTHONPATH": f"{site}:{tmp_path / 'guard'}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert re.fullmatch(
        r"The service needs \w+, which is not installed: pip install 'tokenapp\[service\]'\n", done.stderr
    )


def test_extra_service_lists_the_direct_requirements() -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    service = setup["options.extras_require"]["service"].split("\n")
    assert [line for line in service if line] == (ROOT / "requirements.in").read_text().split()
