"""The commands and the program of docs/access-keys.md work as printed."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Databases, Servers
from tests.support.access_keys import create_key
from tests.support.app import ROOT, application, create_user
from tests.support.client import Client, sign_in
from tokenapp import access_keys

GUIDE = (ROOT / "docs/access-keys.md").read_text()


def block(language: str, containing: str) -> str:
    """Return the code block of the guide that contains a text."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    return str(next(each for each in found if containing in each))


def test_api_is_called_from_ci_in_three_lines(databases: Databases, serve: Servers) -> None:
    if shutil.which("curl") is None or shutil.which("bash") is None:
        (pytest.fail if os.environ.get("REQUIRE_SERVERS") else pytest.skip)("curl or bash is not installed")
    url = databases("sqlite")
    with application(url) as app:
        create_user(app)
    port = serve(url).port
    key = create_key(sign_in(port))["key"]
    lines = block("sh", "/orders") + block("sh", "token=$TOKENAPP_KEY")
    assert len(block("sh", "/orders").splitlines()) == 3
    lines = lines.replace("https://api.example.com/orders", f"http://localhost:{port}/api/protected")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", lines.replace("https://login.example.com", f"http://localhost:{port}")],
        env={**os.environ, "TOKENAPP_KEY": key, "no_proxy": "localhost"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "Welcome, alice!" in done.stdout
    assert Client(port).send("POST", "/api/token", bearer=key).status == 403, "the last line revokes it"


def test_hook_finds_keys_and_nothing_else(tmp_path: Path) -> None:
    program, key = tmp_path / "find_keys.py", access_keys.generate()
    program.write_text(block("python", "def is_key"))
    (tmp_path / "bad.env").write_text(f"KEY={key}\n")
    (tmp_path / "good.env").write_text(f"KEY={key[:-1]}{'0' if key[-1] != '0' else '1'}\n{key}0\n_{key}\n")
    shown = [
        subprocess.run([sys.executable, program, name], cwd=tmp_path, capture_output=True, text=True, check=False)
        for name in ("good.env", "bad.env")
    ]
    assert [each.returncode for each in shown] == [0, 1], [each.stderr for each in shown]
    assert "bad.env contains an access key" in shown[1].stdout
    assert key not in shown[1].stdout
