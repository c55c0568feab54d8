"""The account page in each of its states: accessibility, layout and console."""

import fcntl
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Page

from tests.browser.conftest import new_visitor
from tests.support.account_scenes import SCENES, Site, Visitor, device_signed_out, loading
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
OVERFLOW: Final = "document.documentElement.scrollWidth - innerWidth"


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Give the source of axe, which is installed once for all test processes."""
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


@dataclass(frozen=True)
class State:
    """A state of the page, and what was measured in it."""

    visitor: Visitor
    overflow: dict[str, int]
    errors: list[str]
    hosts: set[str]


@pytest.fixture(scope="module", params=SCENES)
def state(site: Site, request: pytest.FixtureRequest) -> Iterator[State]:
    """Bring the page into a state, and measure it."""
    visitor = new_visitor(site)
    SCENES[request.param](visitor)
    page = visitor.page
    page.set_viewport_size({"width": 320, "height": 640})
    overflow = {"at 320 pixels": page.evaluate(OVERFLOW)}
    page.set_viewport_size({"width": 640, "height": 640})
    page.evaluate("document.documentElement.style.fontSize = '200%'")
    overflow["with text at 200 %"] = page.evaluate(OVERFLOW)
    page.evaluate("document.documentElement.style.fontSize = ''")
    page.set_viewport_size({"width": 1000, "height": 720})
    violations = page.evaluate("window.violations")
    yield State(visitor, overflow, visitor.errors + violations, visitor.hosts)
    visitor.close()


def run_axe(page: Page, axe: str) -> list[str]:
    """Return the violations that axe finds in light and dark."""
    page.evaluate(axe)
    found: list[str] = []
    for scheme, rules in RULES.items():
        page.emulate_media(color_scheme=scheme)
        found += [f"{scheme}: {each}" for each in page.evaluate(RUN_AXE, rules)]
    return found


@may_install_axe
def test_axe_finds_no_violation(state: State, axe: str) -> None:
    assert run_axe(state.visitor.page, axe) == []


def test_page_fits_a_small_screen_and_large_text(state: State) -> None:
    assert {size: pixels for size, pixels in state.overflow.items() if pixels > 0} == {}


def test_console_shows_no_error(state: State) -> None:
    assert state.errors == []


def test_no_other_host_is_called(state: State) -> None:
    assert state.hosts == {f"localhost:{state.visitor.site.server.port}"}


@may_install_axe
def test_axe_finds_a_lack_of_contrast(visitor: Visitor, axe: str) -> None:
    device_signed_out(visitor)
    visitor.page.evaluate("document.querySelector('#account-name').style.color = '#777'")
    visitor.page.evaluate("document.querySelector('#account-name').style.background = '#999'")
    found = " ".join(run_axe(visitor.page, axe))
    assert all(f"{scheme}: color-contrast" in found for scheme in RULES)


def test_reduced_motion_stops_the_animation(visitor: Visitor) -> None:
    loading(visitor)
    animation = "getComputedStyle(document.querySelector('.spinner')).animationName"
    before = visitor.page.evaluate(animation)
    visitor.page.emulate_media(reduced_motion="reduce")
    assert (before, visitor.page.evaluate(animation)) == ("turn", "none")


def test_password_managers_find_the_fields(visitor: Visitor) -> None:
    visitor.open()
    script = "form => [...document.querySelectorAll(form + ' input')].map(each => each.autocomplete)"
    found = {form: visitor.page.evaluate(script, form) for form in ("#sign-in", "#change", "#again")}
    assert found == {
        "#sign-in": ["username", "current-password"],
        "#change": ["username", "current-password", "new-password"],
        "#again": ["username", "current-password"],
    }
