"""The documents match the program: settings, errors, links, commands, promises."""

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
PROMISES = [
    *(f"S{n}" for n in range(1, 16)),
    *(f"D{n}" for n in range(1, 6)),
    "L1",
    "L2",
    "X1",
    *(f"M{n}" for n in range(1, 8)),
    *(f"F{n}" for n in range(4, 8)),
]
NOT_KEPT = "Not kept yet"


def documents() -> list[Path]:
    return sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def table(path: Path, first_column: str) -> list[list[str]]:
    """Return the rows, cell by cell, of the table in `path` with that first column."""
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
    return as_row(name, default, setting.description)


def error_classes(base: type[TokenappError] = TokenappError) -> list[type[TokenappError]]:
    """Return the error classes of the program that have their own code."""
    classes = [each for child in base.__subclasses__() for each in (child, *error_classes(child))]
    return [each for each in classes if each.__module__.startswith("tokenapp.") and "code" in vars(each)]


def sections() -> dict[str, str]:
    """Return the text of ``docs/promises.md`` by promise; a heading may name several."""
    parts = re.split(r"^### (.+)$", (ROOT / "docs/promises.md").read_text(), flags=re.MULTILINE)
    pairs = zip(parts[1::2], parts[2::2], strict=True)
    return {promise: text for heading, text in pairs for promise in re.findall(r"\b[SDLXMF]\d+\b", heading)}


def named_tests(text: str) -> set[tuple[str, str]]:
    return set(re.findall(r"`(tests/(?:\w+/)*test_\w+\.py)::(\w+)`", text))


def defined_in(path: Path) -> set[str]:
    if not path.exists():
        return set()
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds)}


def demo_password() -> str:
    found = re.search(r"^DEMO_PASSWORD := (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert found
    return found[1]


def curl_lines() -> str:
    blocks = re.findall(r"^```sh\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    return str(next(block for block in blocks if "curl " in block))


def test_readme_lists_every_setting() -> None:
    assert [as_row(*row) for row in table(README, "Setting")] == [setting_row(setting) for setting in SETTINGS]


@pytest.mark.parametrize("name", ["README.md", "docs/errors.md"])
def test_error_codes_are_listed_with_their_statuses_and_messages(name: str) -> None:
    listed = [as_row(*row[:3]) for row in table(ROOT / name, "Code")]
    assert listed == [as_row(f"`{kind.code}`", str(kind.status), kind.message) for kind in error_classes()]


def test_every_error_code_has_a_cause_and_a_remedy() -> None:
    assert [row[0] for row in table(ROOT / "docs/errors.md", "Code") if len(row) != 5 or not all(row)] == []


def test_types_of_the_browser_client_list_every_error_code() -> None:
    types = (ROOT / "tokenapp/web/client/tokenapp.d.ts").read_text()
    listed = re.findall(r'^  \| "(\w+)"', types[types.index("type ErrorCode") :], re.MULTILINE)
    own = ["network_error", "timeout", "unknown", "cookies_blocked", "client_closed"]
    assert listed == [*own, *(kind.code for kind in error_classes())]


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_links_to_files_are_valid(path: Path) -> None:
    targets = re.findall(r"\]\((?!\w+:)([^)#\s]+)", path.read_text())
    assert [target for target in targets if not (path.parent / target).exists()] == []


def test_curl_commands_of_the_readme_work(databases: Databases, serve: Servers, tmp_path: Path) -> None:
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
    expected = r'Logged in successfully\..*"tokenType":"Bearer".*Welcome, demo!.*HTTP/1\.1 204'
    assert re.search(expected, done.stdout, re.DOTALL), done.stdout


@pytest.mark.parametrize("promise", PROMISES)
def test_every_promise_names_a_test_or_is_marked_as_not_kept(promise: str) -> None:
    text = sections()[promise]
    assert named_tests(text) or NOT_KEPT in text


def test_every_test_named_by_a_promise_exists() -> None:
    named = named_tests((ROOT / "docs/promises.md").read_text())
    assert sorted(f"{file}::{name}" for file, name in named if name not in defined_in(ROOT / file)) == []


def test_every_test_file_named_in_the_promises_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)", (ROOT / "docs/promises.md").read_text())
    assert sorted({file for file in named if not (ROOT / file).exists()}) == []
