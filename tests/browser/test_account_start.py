"""The account page when its scripts or the service do not respond."""

import re
from typing import Final

import pytest
from playwright.sync_api import Route, expect

from tests.support.account_scenes import Site, Visitor
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
