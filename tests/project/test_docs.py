"""The documents say what the program does: settings, error codes, links, the curl lines, the tests behind promises."""

import ast
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Databases, Servers
from tests.support.app import ROOT, create_user, make_app
from tokenapp.config import SETTINGS, Setting
from tokenapp.db import db
from tokenapp.errors import TokenappError

README = ROOT / "README.md"
PROMISES = [*(f"S{n}" for n in range(1, 14)), *(f"D{n}" for n in range(1, 6)), "L1", "L2", "X1"]
UNKEPT = "Not kept yet"


def documents() -> list[Path]:
    return sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def table(path: Path, first_column: str) -> list[list[str]]:
    """Return the rows, cell by cell, of the table in `path` whose first column has that name."""
    lines = path.read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {first_column} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def as_row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def setting_row(setting: Setting) -> str:
    name = f"`{setting.name}`" + (" (`_FILE`)" if setting.secret else "")
    default = f"`{setting.default}`" if setting.default else "none" if setting.default == "" else "see below"
    return as_row(name, default, setting.help)


def refusals(kind: type[TokenappError] = TokenappError) -> list[type[TokenappError]]:
    """Return every refusal of the program, and none that a test has made."""
    below = [each for child in kind.__subclasses__() for each in (child, *refusals(child))]
    return [each for each in below if each.__module__.startswith("tokenapp.")]


def sections() -> dict[str, str]:
    """Return the text of ``docs/promises.md`` by promise; a heading may name several."""
    parts = re.split(r"^### (.+)$", (ROOT / "docs/promises.md").read_text(), flags=re.MULTILINE)
    pairs = zip(parts[1::2], parts[2::2], strict=True)
    return {promise: text for heading, text in pairs for promise in re.findall(r"\b[SDLX]\d+\b", heading)}


def named_tests(text: str) -> set[tuple[str, str]]:
    return set(re.findall(r"`(tests/test_\w+\.py)::(\w+)`", text))


def defined_in(path: Path) -> set[str]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds)}


def demo_password() -> str:
    found = re.search(r"^DEMO_PASSWORD := (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert found
    return found[1]


def curl_lines() -> str:
    blocks = re.findall(r"^```sh\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    return str(next(block for block in blocks if "curl " in block))


def test_the_settings_table_of_the_readme_is_that_of_the_program() -> None:
    assert [as_row(*row) for row in table(README, "Setting")] == [setting_row(setting) for setting in SETTINGS]


@pytest.mark.parametrize("name", ["README.md", "docs/errors.md"])
def test_the_error_codes_are_listed_with_their_statuses_and_messages(name: str) -> None:
    listed = [as_row(*row[:3]) for row in table(ROOT / name, "Code")]
    assert listed == [as_row(f"`{kind.code}`", str(kind.status), kind.message) for kind in refusals()]


def test_each_error_code_has_its_cause_and_its_remedy() -> None:
    assert [row[0] for row in table(ROOT / "docs/errors.md", "Code") if len(row) != 5 or not all(row)] == []


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_every_link_to_a_file_leads_somewhere(path: Path) -> None:
    targets = re.findall(r"\]\((?!\w+:)([^)#\s]+)", path.read_text())
    assert [target for target in targets if not (path.parent / target).exists()] == []


def test_the_curl_lines_of_the_readme_work(databases: Databases, serve: Servers, tmp_path: Path) -> None:
    if shutil.which("curl") is None or shutil.which("bash") is None:
        (pytest.fail if os.environ.get("REQUIRE_SERVERS") else pytest.skip)("curl or bash is not installed")
    url = databases("sqlite")
    app = make_app(url)
    create_user(app, "demo", demo_password())
    with app.app_context():
        db.engine.dispose()
    lines = curl_lines().replace(":3005/", f":{serve(url).port}/")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", lines],
        env={**os.environ, "TMPDIR": str(tmp_path), "no_proxy": "localhost"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    told = r'Logged in successfully\..*"tokenType":"Bearer".*Welcome, demo!.*HTTP/1\.1 204'
    assert re.search(told, done.stdout, re.DOTALL), done.stdout


@pytest.mark.parametrize("promise", PROMISES)
def test_every_promise_is_shown_by_a_test_or_says_that_it_is_not_kept(promise: str) -> None:
    text = sections()[promise]
    assert named_tests(text) or UNKEPT in text


def test_every_test_that_a_promise_names_exists() -> None:
    named = named_tests((ROOT / "docs/promises.md").read_text())
    assert sorted(f"{file}::{name}" for file, name in named if name not in defined_in(ROOT / file)) == []
