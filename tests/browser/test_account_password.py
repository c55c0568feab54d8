"""The account page: changing the password."""

import re
from functools import partial

from playwright.sync_api import Page, expect

from tests.support.account_scenes import (
    NEW_PASSWORD,
    OTHERS,
    WEAK_PASSWORD,
    WRONG_PASSWORD,
    Site,
    Visitor,
    wait_for_start,
)
from tests.support.app import PASSWORD
from tests.support.concurrency import wait_until

GUESSED = re.compile("This password is too easy to guess.")


def test_rejected_password_is_reported_with_the_reason(visitor: Visitor) -> None:
    visitor.sign_in()
    for new, reason in (
        ("too short", "The password must have at least 15 characters."),
        (WEAK_PASSWORD, GUESSED),
        (f"{visitor.name} password", GUESSED),
        ("long " * 300, "The password is too long. Use at most 1,000 characters."),
        (PASSWORD, "The new password must differ from the current one."),
    ):
        visitor.change_password(new)
        visitor.expect_text("#new-error", reason)
        visitor.expect_focus("#new")


def test_wrong_current_password_is_reported_at_its_field(visitor: Visitor) -> None:
    visitor.sign_in()
    visitor.change_password(NEW_PASSWORD, current=WRONG_PASSWORD)
    visitor.expect_text("#current-error", "This password is wrong. Please try again.")
    visitor.expect_focus("#current")


def test_changed_password_signs_out_other_devices_and_applies_to_the_next_sign_in(visitor: Visitor) -> None:
    (client,) = visitor.sign_in_elsewhere(OTHERS["curl"])
    visitor.sign_in()
    visitor.change_password(NEW_PASSWORD)
    expect(visitor.page.locator("#change-done")).to_contain_text("was changed")
    visitor.open_tab("devices")
    expect(visitor.page.locator("#devices-empty")).to_be_visible()
    assert client.refresh().status == 403
    assert visitor.page.input_value("#new") == ""
    visitor.page.click("#sign-out")
    visitor.submit_sign_in(NEW_PASSWORD)
    expect(visitor.page.locator("#view-account")).to_be_visible()


def test_changed_password_keeps_this_browser_signed_in_and_signs_another_browser_out(site: Site) -> None:
    visitor = Visitor(site, "a visitor with two browsers")
    visitor.sign_in()
    (former,) = visitor.sids()
    tab, elsewhere = visitor.new_page(), visitor.site.browser.new_context().new_page()
    tab.goto(visitor.url)
    expect(tab.locator(".device.current")).to_be_visible()
    elsewhere.goto(visitor.url)
    wait_for_start(elsewhere)
    elsewhere.fill("#username", visitor.name)
    elsewhere.fill("#password", PASSWORD)
    elsewhere.click("#sign-in [type=submit]")
    expect(elsewhere.locator(".device")).to_have_count(2)
    visitor.change_password(NEW_PASSWORD)
    visitor.expect_text("#change-done", "Your password was changed, and all your other devices are signed out.")
    expect(visitor.page.locator(".device")).to_have_count(1)
    expect(visitor.page.locator(".device.current")).not_to_have_attribute("data-id", former)
    for page, selector in ((tab, "#devices-empty"), (elsewhere, "#view-sign-in")):
        wait_until(partial(shows_after_update, page, selector), what=selector)
    expect(tab.locator(".device")).to_have_count(1)
    expect(elsewhere.locator("#sign-in-notice")).to_contain_text("You were signed out")
    visitor.open("#view-account")
    assert visitor.errors == []
    elsewhere.context.close()
    visitor.close()


def shows_after_update(page: Page, selector: str) -> bool:
    """Make the page check its state again, and return whether it shows an element."""
    page.evaluate("dispatchEvent(new Event('online'))")
    return page.locator(selector).is_visible()
