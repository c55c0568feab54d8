"""axe-core, which finds faults of accessibility in a page."""

import fcntl
import os
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Page

from tests.support.programs import absent, find_program

AXE: Final = "axe-core@4.14.1"
INSTALLATION_TIMEOUT: Final = 60
# Either this process installs axe, or it waits for another one that does.
may_install_axe = pytest.mark.timeout(120 + 2 * INSTALLATION_TIMEOUT)
RUN_AXE: Final = """
    async rules => (await axe.run({ resultTypes: ["violations"], ...rules })).violations
        .map(each => `${each.id}: ${each.nodes.map(node => node.html).join(" ")}`)
"""
# The dark scheme differs in its colours only.
RULES: Final[dict[Any, dict[str, Any]]] = {"light": {}, "dark": {"runOnly": ["color-contrast"]}}


def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the source of axe, which is installed once for all test processes."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with (folder / "axe.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "axe").exists():
            installed = tmp_path_factory.mktemp("axe")
            install_axe(installed)
            installed.rename(folder / "axe")
    return (folder / "axe/node_modules/axe-core/axe.min.js").read_text()


def install_axe(folder: Path) -> None:
    """Install axe, or skip the test if npm cannot install it."""
    options = ["--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline"]
    command = [find_program("npm"), "install", "--prefix", str(folder), *options, AXE]
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=INSTALLATION_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        absent(f"npm did not install {AXE} within {INSTALLATION_TIMEOUT} s")
    if done.returncode:
        absent(f"npm cannot install {AXE}: {done.stderr[-500:]}")


def run_axe(page: Page, axe: str) -> list[str]:
    """Return the violations that axe finds in light and dark."""
    page.evaluate(axe)
    found: list[str] = []
    for scheme, rules in RULES.items():
        page.emulate_media(color_scheme=scheme)
        found += [f"{scheme}: {each}" for each in page.evaluate(RUN_AXE, rules)]
    page.emulate_media(color_scheme="light")
    return found
