"""Read the log lines of an application in this process."""

import json
from typing import Any

import pytest

Captured = pytest.CaptureFixture[str]


def read_lines(capfd: Captured) -> list[dict[str, Any]]:
    """Return the lines logged since the last call."""
    return [json.loads(line) for line in capfd.readouterr().err.splitlines()]


def read_line(capfd: Captured) -> dict[str, Any]:
    """Return the only line logged since the last call."""
    (line,) = read_lines(capfd)
    return line
