"""Programs of the system that tests start."""

import os
import shutil

import pytest


def find_program(name: str) -> str:
    """Return the path of a program, or skip the test if it is not installed.

    With ``REQUIRE_SERVERS`` in the environment the test fails instead.
    """
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    if found is None:
        absent(f"{name} is not installed")
    return str(found)


def absent(reason: str) -> None:
    """Skip the test, or fail it if ``REQUIRE_SERVERS`` is set."""
    (pytest.fail if os.environ.get("REQUIRE_SERVERS") else pytest.skip)(reason)
