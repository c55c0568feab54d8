"""The account page in each of its states: accessibility, layout and console."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import pytest

from tests.browser.conftest import new_visitor
from tests.support.account_scenes import SCENES, Site, Visitor, device_signed_out, loading
from tests.support.axe import RULES, may_install_axe, run_axe

OVERFLOW: Final = "document.documentElement.scrollWidth - innerWidth"


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
        "#sign-in": ["username webauthn", "current-password"],
        "#change": ["username", "current-password", "new-password"],
        "#again": ["username", "current-password", "one-time-code"],
    }
