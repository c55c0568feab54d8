"""The files ``.env`` and ``.flaskenv``, which server and commands read alike."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.app import PRODUCTION, ROOT
from tokenapp.config import ConfigError, env_files


def run_in(folder: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a folder, with no other settings than these."""
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **settings}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False
    )


def write(folder: Path, name: str = ".env", **settings: str) -> None:
    """Write a file of settings."""
    lines = [f'{variable}="{value}"\n' for variable, value in settings.items()]
    (folder / name).write_text("".join(lines))


def server_settings(folder: Path, **settings: str) -> str:
    """Return the port and the database with which gunicorn would start, or the error."""
    code = "import tokenapp.server.configuration as c; print(c._settings.port, c._settings.database_url.database)"
    ran = run_in(folder, "-c", code, **settings)
    return ran.stdout.strip() or ran.stderr.strip()


def command_settings(folder: Path, *options: str, **settings: str) -> str:
    """Return the same of a command."""
    code = "from tokenapp import config; s = config.current(); print(s.port, s.database_url.database)"
    (folder / "wsgi.py").write_text("from tokenapp.wsgi import app\n")
    (folder / "show.py").write_text(code)
    ran = run_in(folder, "-m", "flask", *options, "shell", PYTHONSTARTUP=str(folder / "show.py"), **settings)
    printed = [line for line in ran.stdout.splitlines() if line.endswith(".db")]
    return printed[0] if printed else ran.stderr.strip()


@pytest.mark.parametrize("read", [server_settings, command_settings])
@pytest.mark.parametrize("name", [".env", ".flaskenv"])
def test_file_in_the_current_folder_is_read(tmp_path: Path, name: str, read: Callable[..., str]) -> None:
    write(tmp_path, name, **PRODUCTION, PORT="4001", DATABASE_URL=f"sqlite:///{tmp_path}/a.db")
    assert read(tmp_path) == f"4001 {tmp_path}/a.db"


@pytest.mark.parametrize("read", [server_settings, command_settings])
def test_environment_has_precedence(tmp_path: Path, read: Callable[..., str]) -> None:
    write(tmp_path, **PRODUCTION, PORT="4001", DATABASE_URL=f"sqlite:///{tmp_path}/a.db")
    assert read(tmp_path, PORT="4002") == f"4002 {tmp_path}/a.db"


@pytest.mark.parametrize("read", [server_settings, command_settings])
def test_file_in_a_parent_folder_is_not_read(tmp_path: Path, read: Callable[..., str]) -> None:
    write(tmp_path, PORT="4001", OTHER="1")
    folder = tmp_path / "here"
    folder.mkdir()
    settings = PRODUCTION | {"DATABASE_URL": f"sqlite:///{tmp_path}/a.db", "PORT": "4002"}
    assert read(folder, **settings) == f"4002 {tmp_path}/a.db"


def test_setting_from_a_parent_folder_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    write(tmp_path, DATABASE_URL=f"sqlite:///{tmp_path}/other.db")
    folder = tmp_path / "here"
    folder.mkdir()
    problem = command_settings(folder, **PRODUCTION)
    assert problem.startswith("tokenapp cannot start:\n  - DATABASE_URL is from " + str(tmp_path / ".env"))
    assert not (tmp_path / "other.db").exists()


def test_file_that_a_command_is_given_may_be_anywhere(tmp_path: Path) -> None:
    write(tmp_path, DATABASE_URL=f"sqlite:///{tmp_path}/other.db")
    folder = tmp_path / "here"
    folder.mkdir()
    shown = command_settings(folder, "--env-file", str(tmp_path / ".env"), **PRODUCTION)
    assert shown == f"3005 {tmp_path}/other.db"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("PORT=4001\n".encode("utf-16"), "it is not UTF-8 text; save it as UTF-8"),
        ("PORT=4001\n".encode("utf-16-le"), "it contains U+0000, as UTF-16 text does; save it as UTF-8"),
        (b"OTHER=1\n\nPORT 4001\n", "line 3 is not NAME=value"),
        (b'OTHER=1\nPORT="4001\n', "line 2 is not NAME=value"),
        (b"'A=B'=1\n", "'A=B' or its value has a character that no variable can have"),
    ],
    ids=["UTF-16", "UTF-16 without BOM", "no assignment", "open quote", "name"],
)
def test_malformed_file_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, problem: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".env").write_bytes(content)
    with pytest.raises(ConfigError) as raised:
        env_files.load()
    assert raised.value.problems == [f".env cannot be read: {problem}"]


def test_folder_and_broken_link_are_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".env").mkdir()
    with pytest.raises(ConfigError, match=r"\.env cannot be read: Is a directory"):
        env_files.load()
    Path(".env/pyvenv.cfg").touch()
    env_files.load()  # a virtual environment of that name is ignored
    Path(".flaskenv").symlink_to("missing")
    with pytest.raises(ConfigError, match=r"\.flaskenv cannot be read: No such file"):
        env_files.load()


@pytest.mark.parametrize("options", [[], ["--env-file", "other.env"]], ids=["own", "given"])
def test_command_ends_with_the_error_about_its_file(tmp_path: Path, options: list[str]) -> None:
    (tmp_path / [".env", *options][-1]).write_bytes(b"PORT=\xff\n")
    ran = run_in(tmp_path, "-m", "tokenapp", *options, "users", "list", **PRODUCTION)
    assert ran.returncode == 1
    assert re.fullmatch(r"tokenapp cannot start:\n  - .+ cannot be read: .+\n", ran.stderr)


def test_server_ends_with_the_error_about_its_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"PORT=\xff\n")
    assert server_settings(tmp_path, **PRODUCTION).endswith(
        ".env cannot be read: it is not UTF-8 text; save it as UTF-8"
    )


def test_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"\xef\xbb\xbfPORT=4001\n")
    assert server_settings(tmp_path, **PRODUCTION, DATABASE_URL=f"sqlite:///{tmp_path}/a.db").startswith("4001 ")


def test_files_can_be_switched_off(tmp_path: Path) -> None:
    write(tmp_path, PORT="4001")
    settings = PRODUCTION | {"DATABASE_URL": f"sqlite:///{tmp_path}/a.db", "FLASK_SKIP_DOTENV": "1"}
    assert server_settings(tmp_path, **settings).startswith("3005 ")
