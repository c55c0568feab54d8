"""The files of docs/deploy: settings, wrapper and systemd units."""

import configparser
import os
import re
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.server.conftest import PRODUCTION
from tests.support.app import ROOT
from tests.support.tls import adapted
from tokenapp import config

FILES = ROOT / "docs/deploy"
UNITS = sorted(path.name for kind in ("service", "socket", "timer") for path in FILES.glob(f"*.{kind}"))


def test_all_files_name_the_default_port() -> None:
    default = next(setting.default for setting in config.SETTINGS if setting.name == "PORT")
    for name in ("nginx.conf", "tokenapp.socket"):
        assert set(re.findall(r"127\.0\.0\.1:(\d+)", (FILES / name).read_text())) == {default}, name


def test_settings_file_is_valid_and_contains_no_secret(tmp_path: Path) -> None:
    secret = tmp_path / "secret_key"
    secret.write_text(secrets.token_urlsafe(48))
    text = adapted((FILES / "tokenapp.env.example").read_text(), {"/etc/tokenapp/secret_key": str(secret)})
    values = dict(line.split("=", 1) for line in text.splitlines() if line and not line.startswith("#"))
    assert config.load(values, tmp_path).production
    secret_names = {setting.name for setting in config.SETTINGS if setting.secret} - {"DATABASE_URL"}
    assert not secret_names & values.keys()
    assert not re.search(r"[\s'\"$`\\]", "".join(values.values()))


def test_flask_wrapper_uses_the_settings_of_the_service(database: str, tmp_path: Path) -> None:
    programs, settings = tmp_path / "opt/.venv/bin", tmp_path / "tokenapp.env"
    programs.mkdir(parents=True)
    (programs / "flask").write_text(f'#!/bin/sh\ncd {ROOT}\nexec "{sys.executable}" -m flask "$@"\n')
    (programs / "flask").chmod(0o755)
    settings.write_text(
        "".join(f"{name}={value}\n" for name, value in {**PRODUCTION, "DATABASE_URL": database}.items())
    )
    pairs = {
        "user=tokenapp": 'user="$(id -un)"',
        "/etc/tokenapp/tokenapp.env": str(settings),
        "cd /opt/tokenapp": f"cd {tmp_path}/opt",
    }
    script = adapted((FILES / "tokenapp-flask").read_text(), pairs)
    clean = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["sh", "-c", script, "sh", "users", "list"], env=clean, capture_output=True, text=True, check=False
    )
    assert (done.returncode, "alice" in done.stdout) == (0, True), done.stderr


@pytest.mark.parametrize("name", UNITS)
def test_unit_is_well_formed_and_runs_commands_of_the_service(name: str) -> None:
    unit = configparser.RawConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[method-assign,assignment]  # documented; it keeps the case of names
    unit.read_string((FILES / name).read_text())
    kind = {"service": "Service", "socket": "Socket", "timer": "Timer"}[name.rpartition(".")[2]]
    assert set(unit.sections()) <= {"Unit", kind, "Install"}
    assert (kind in unit, unit["Unit"]["Description"] != "") == (True, True)
    if kind == "Service":
        assert re.fullmatch(r"/opt/tokenapp/\.venv/bin/(gunicorn|flask [a-z]+ prune( --yes)?)", unit[kind]["ExecStart"])
        assert (unit[kind]["User"], unit[kind]["WorkingDirectory"]) == ("tokenapp", "/opt/tokenapp")


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    for name in UNITS:
        text = (FILES / name).read_text()
        text = re.sub(r"/opt/tokenapp/\.venv/bin/(gunicorn|flask)", sys.executable, text)
        (tmp_path / name).write_text(text.replace("/opt/tokenapp", str(ROOT)))
    done = subprocess.run(
        [analyze, "verify", *(tmp_path / name for name in UNITS)],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert [line for line in done.stderr.splitlines() if str(tmp_path) in line or "tokenapp" in line] == []


def test_systemd_stops_later_than_gunicorn() -> None:
    graceful = re.search(
        r"^graceful_timeout = (\d+)$", (ROOT / "tokenapp/server/configuration.py").read_text(), re.MULTILINE
    )
    limit = re.search(r"^TimeoutStopSec=(\d+)$", (FILES / "tokenapp.service").read_text(), re.MULTILINE)
    assert graceful
    assert limit
    assert int(limit[1]) > int(graceful[1])
