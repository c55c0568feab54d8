"""The style that CONTRIBUTING asks for, as far as a program can judge it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.app import ROOT

FOLDERS = ("tokenapp", "tokenapp_guard", "tests", "bench")
LONGEST_SUMMARY = 79
LONGEST_TEST_FILE = 400


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of each docstring of a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield node.body[0].lineno, text


@pytest.mark.parametrize("folder", FOLDERS)
def test_first_line_of_each_docstring_is_short(folder: str) -> None:
    long = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line, text in docstrings(path)
        if len(text.split("\n")[0]) > LONGEST_SUMMARY
    ]
    assert long == []


def test_no_test_file_is_long() -> None:
    long = [path.name for path in (ROOT / "tests").rglob("*.py") if path.read_text().count("\n") > LONGEST_TEST_FILE]
    assert long == []
