"""The account page when its scripts or the service do not respond."""

import re
from collections.abc import Callable
from typing import Final

import pytest
from playwright.sync_api import Route, expect

from tests.support.account_scenes import NEW_PASSWORD, Site, Visitor, wait_for_start
from tests.support.app import PASSWORD

# Moves the animations, by which the style sheet waits, to a time in milliseconds.
MOVE_TO: Final = "time => document.getAnimations().forEach(each => { each.currentTime = time; })"
BROKEN: Final = {
    "lost": lambda route: route.abort(),
    "missing": lambda route: route.fulfill(status=404, body="{}"),
    "newer than the browser": lambda route: route.fulfill(content_type="text/javascript", body="const = 1"),
    "failing": lambda route: route.fulfill(content_type="text/javascript", body="throw new Error()"),
    "hanging": lambda _route: None,
}
# What the service may respond to the refresh with which the page starts.
RESPONSES: Final[dict[str, Callable[[Route], None]]] = {
    "nobody": lambda route: route.fulfill(status=401, json={"code": "refresh_token_missing", "message": ""}),
    "an error": lambda route: route.fulfill(status=400, json={"code": "invalid_request", "message": ""}),
}
# The vertical positions of what can be pressed.
TOPS: Final = """() => [...document.querySelectorAll("#view-sign-in :is(h1, label, input, .forgotten, button)")]
    .filter(each => !each.matches(".reveal")).map(each => [each.id, each.getBoundingClientRect().top])"""
# Delays what a click on a link does, as a busy browser may.
DELAY_CLICKS: Final = """
    let isDelayed = true;
    addEventListener("hashchange", (event) => isDelayed && event.stopImmediatePropagation());
    window.handleClicks = () => {
        isDelayed = false;
        dispatchEvent(new Event("hashchange"));
    };
"""


@pytest.mark.parametrize("fault", BROKEN)
def test_sentence_and_button_appear_without_scripts(visitor: Visitor, fault: str) -> None:
    visitor.sign_in()
    visitor.page.route("**/account.js", BROKEN[fault])
    visitor.page.goto(visitor.url, wait_until="commit")
    expect(visitor.page.locator("#view-loading .spinner")).to_be_visible()
    expect(visitor.page.locator("#late")).to_be_hidden()
    visitor.page.evaluate(MOVE_TO, 9000)
    expect(visitor.page.locator("#late")).to_contain_text("This page could not start.")
    expect(visitor.page.locator("#view-loading .spinner")).to_be_hidden()
    visitor.page.unroute("**/account.js")
    if fault != "hanging":  # then it has come now
        visitor.page.click("#late a")
    expect(visitor.page.locator("#view-account")).to_be_visible()
    expect(visitor.page.locator("#late")).to_be_hidden()


def test_button_of_the_form_is_disabled_until_the_scripts_have_started(visitor: Visitor) -> None:
    held: list[Route] = []
    visitor.page.route("**/account.js", lambda route: held.append(route))  # noqa: PLW0108 -- Playwright sets an attribute
    visitor.page.goto(visitor.url, wait_until="commit")
    button = visitor.page.locator("#sign-in [type=submit]")
    expect(button).to_be_disabled()
    visitor.page.fill("#username", visitor.name)
    held.pop().continue_()
    expect(button).to_be_enabled()
    expect(visitor.page.locator("#username")).to_have_value(visitor.name)


def test_nothing_moves_when_the_scripts_start(visitor: Visitor) -> None:
    held: list[Route] = []
    visitor.page.route("**/account.js", lambda route: held.append(route))  # noqa: PLW0108 -- see above
    visitor.page.goto(visitor.url, wait_until="commit")
    expect(visitor.page.locator("#late")).to_have_css("animation-name", "join")
    before = visitor.page.evaluate(TOPS)
    held.pop().continue_()
    wait_for_start(visitor.page)
    assert visitor.page.evaluate(TOPS) == before
    expect(visitor.page.locator("#sign-in-passkey")).to_be_enabled()


@pytest.mark.parametrize("response", RESPONSES)
def test_focus_stays_where_the_user_moves_it_before_the_service_has_answered(visitor: Visitor, response: str) -> None:
    visitor.hold_refreshes()
    visitor.open()
    visitor.wait_for_held_refresh()
    visitor.expect_focus("#username")
    visitor.page.focus(".skip")
    RESPONSES[response](visitor.held.pop())
    wait_for_start(visitor.page)
    visitor.expect_focus(".skip")


@pytest.mark.parametrize("response", RESPONSES)
def test_view_that_is_opened_before_the_service_has_answered_stays(correspondent: Visitor, response: str) -> None:
    correspondent.hold_refreshes()
    correspondent.open()
    correspondent.wait_for_held_refresh()
    correspondent.page.click('#view-sign-in [href="#register"]')
    correspondent.expect_focus("#register-email")
    correspondent.page.keyboard.type("typed")
    RESPONSES[response](correspondent.held.pop())
    wait_for_start(correspondent.page)
    correspondent.expect_focus("#register-email")
    expect(correspondent.page.locator("#register-email")).to_have_value("typed")


def test_view_opens_if_the_service_answers_at_the_moment_of_the_click(correspondent: Visitor) -> None:
    correspondent.page.add_init_script(DELAY_CLICKS)
    correspondent.hold_refreshes()
    correspondent.open()
    correspondent.wait_for_held_refresh()
    correspondent.page.click('#view-sign-in [href="#register"]')
    RESPONSES["nobody"](correspondent.held.pop())
    wait_for_start(correspondent.page)
    correspondent.page.evaluate("handleClicks()")
    correspondent.expect_focus("#register-email")


@pytest.mark.parametrize("cause", ["response", "patience"])
def test_step_of_a_sign_in_stays_when_the_start_ends_late(visitor: Visitor, cause: str) -> None:
    visitor.make_password_temporary()
    visitor.page.add_init_script(
        "Object.defineProperty(navigator, 'locks', { value: undefined })"
    )  # do not wait for one
    visitor.page.clock.install()
    visitor.hold_refreshes()
    visitor.open()
    visitor.wait_for_held_refresh()
    visitor.submit_sign_in(PASSWORD)
    visitor.page.clock.fast_forward(3100)
    visitor.expect_focus("#temporary-new")
    visitor.page.keyboard.type(NEW_PASSWORD)
    if cause == "response":
        RESPONSES["nobody"](visitor.held.pop())
    else:
        visitor.page.clock.fast_forward(5000)
    wait_for_start(visitor.page)
    visitor.expect_focus("#temporary-new")
    expect(visitor.page.locator("#temporary-new")).to_have_value(NEW_PASSWORD)
    visitor.context.unroute_all()  # which lets the held requests pass
    visitor.held.clear()
    visitor.page.keyboard.press("Enter")
    visitor.expect_text("#account-name", visitor.name)


def test_page_without_scripts_says_so(site: Site) -> None:
    context = site.browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{site.origin}/account")
    for selector in ("#view-loading", "#view-sign-in", "#late"):
        expect(page.locator(selector)).to_be_hidden()
    box = page.locator("noscript").bounding_box()  # Playwright cannot read its text
    assert box is not None
    assert box["height"] > 50
    context.close()


def test_service_that_hangs_is_reported_in_time(visitor: Visitor) -> None:
    visitor.sign_in()
    visitor.page.clock.install()
    visitor.hold_refreshes()
    visitor.open("#view-loading")
    visitor.wait_for_held_refresh()
    visitor.page.clock.fast_forward(8100)
    expect(visitor.page.locator("#view-unreachable")).to_be_visible()
    visitor.expect_text("#unreachable-text", re.compile("cannot be reached"))
    visitor.page.click("#unreachable-retry")
    visitor.expect_text("#unreachable-text", "Trying again…")
    visitor.page.clock.fast_forward(8100)
    expect(visitor.page.locator("#unreachable-retry")).to_have_attribute("aria-disabled", "false")
    visitor.context.unroute_all()  # which lets the held requests pass
    visitor.held.clear()
    expect(visitor.page.locator("#view-account")).to_be_visible()


def test_form_stays_for_the_user_who_types_while_the_service_hangs(visitor: Visitor) -> None:
    visitor.page.clock.install()
    visitor.hold_refreshes()
    visitor.open()
    visitor.wait_for_held_refresh()
    visitor.page.fill("#username", "typed")
    visitor.page.clock.fast_forward(8100)
    expect(visitor.page.locator("#username")).to_have_value("typed")
    expect(visitor.page.locator("#view-unreachable")).to_be_hidden()
    visitor.page.fill("#username", "")
    visitor.page.reload()
    visitor.wait_for_held_refresh()
    visitor.page.clock.fast_forward(8100)
    expect(visitor.page.locator("#view-unreachable")).to_be_visible()


def test_sign_in_that_hangs_is_reported_in_time(visitor: Visitor) -> None:
    visitor.page.clock.install()
    visitor.open()
    visitor.page.route("**/api/login", lambda route: visitor.held.append(route))  # noqa: PLW0108 -- see above
    visitor.submit_sign_in(PASSWORD)
    button = visitor.page.locator("#sign-in [type=submit]")
    expect(button).to_have_attribute("aria-busy", "true")
    assert visitor.page.evaluate("getComputedStyle(document.querySelector('[aria-busy]'), '::before').animationName")
    visitor.page.clock.fast_forward(10_100)
    visitor.expect_text("#sign-in .problem", "The service cannot be reached. Please try again.")
    expect(button).to_have_attribute("aria-busy", "false")
