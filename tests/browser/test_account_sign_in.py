"""The account page: signing in and out, and the next user of the browser."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import APIResponse, Route, expect

from tests.support.account_scenes import (
    NEW_PASSWORD,
    OTHERS,
    WRONG_PASSWORD,
    Site,
    Visitor,
    devices,
    password_again,
    session_ended,
    too_many_attempts,
)
from tests.support.app import PASSWORD, create_user
from tests.support.concurrency import wait_until

# Counts the responses whose body the page has read and handled.
COUNT_RESPONSES = """
    window.handled = 0;
    const { json } = Response.prototype;
    Response.prototype.json = function () {
        return json.call(this).finally(() => setTimeout(() => { handled += 1; }));
    };
"""


def test_everything_works_with_the_keyboard(visitor: Visitor) -> None:
    keyboard = visitor.page.keyboard
    visitor.sign_in_elsewhere(OTHERS["curl"])
    visitor.open()

    def tab_to(selector: str) -> None:
        for _ in range(30):
            keyboard.press("Tab")
            if visitor.page.evaluate("selector => document.activeElement.matches(selector)", selector):
                return
        pytest.fail(f"the tab key does not reach {selector}")

    visitor.expect_focus("#username")
    keyboard.type(visitor.name)
    tab_to("#password")
    keyboard.type(PASSWORD)
    keyboard.press("Enter")
    expect(visitor.page.locator(".device")).to_have_count(2)
    visitor.expect_focus("#account-title")
    visitor.expire_authentication()
    tab_to('[aria-label="Sign out curl"]')
    keyboard.press("Enter")
    visitor.expect_focus("#again-password")
    keyboard.type(PASSWORD)
    keyboard.press("Enter")
    expect(visitor.page.locator(".device")).to_have_count(1)
    visitor.expect_focus("#devices-title")
    tab_to('[href="#password"]')
    keyboard.press("Enter")
    visitor.expect_focus("#password-title")
    tab_to("#current")
    keyboard.type(PASSWORD)
    tab_to("#new")
    keyboard.type(NEW_PASSWORD)
    keyboard.press("Enter")
    expect(visitor.page.locator("#change-done")).to_contain_text("Your password was changed")


def test_reload_keeps_the_user_signed_in(visitor: Visitor) -> None:
    visitor.sign_in()
    visitor.open("#view-account")
    visitor.expect_text("#account-name", visitor.name)


def test_missing_values_are_reported_at_their_fields(visitor: Visitor) -> None:
    visitor.open()
    visitor.page.click("#sign-in [type=submit]")
    visitor.expect_text("#username-error", "Please enter your user name.")
    visitor.expect_text("#password-error", "Please enter your password.")
    expect(visitor.page.locator("#username")).to_have_attribute("aria-invalid", "true")
    visitor.expect_focus("#username")


def test_revealed_password_is_hidden_when_it_is_submitted(visitor: Visitor) -> None:
    visitor.open()
    visitor.page.fill("#password", WRONG_PASSWORD)
    visitor.page.click("#sign-in .reveal")
    expect(visitor.page.locator("#password")).to_have_attribute("type", "text")
    visitor.submit_sign_in(WRONG_PASSWORD)
    expect(visitor.page.locator("#password")).to_have_attribute("type", "password")


def test_sign_out_ends_the_session_and_clears_the_page(visitor: Visitor) -> None:
    visitor.sign_in()
    visitor.open_tab("password")
    visitor.page.fill("#current", PASSWORD)
    visitor.page.click("#sign-out")
    visitor.expect_text("#sign-in-notice", "You are signed out.")
    visitor.expect_focus("#sign-in-title")
    assert visitor.name not in visitor.page.evaluate("document.body.innerHTML")
    assert visitor.page.evaluate("[...document.querySelectorAll('input')].map(each => each.value).join('')") == ""
    visitor.open()


def test_after_the_end_of_the_session_the_page_asks_for_the_password_only(visitor: Visitor) -> None:
    session_ended(visitor)
    expect(visitor.page.locator("#sign-in-notice")).to_contain_text("You were signed out")
    expect(visitor.page.locator("#username")).to_have_value(visitor.name)
    visitor.page.fill("#password", PASSWORD)
    visitor.page.click("#sign-in [type=submit]")
    expect(visitor.page.locator("#view-account")).to_be_visible()


def test_end_of_the_session_closes_an_open_dialog(visitor: Visitor) -> None:
    password_again(visitor)
    tab = visitor.new_page()
    tab.goto(visitor.url)
    tab.click("#sign-out")
    expect(visitor.page.locator("#again")).to_be_hidden()
    expect(visitor.page.locator("#view-sign-in")).to_be_visible()


def test_lockout_is_counted_down(visitor: Visitor) -> None:
    visitor.page.clock.install()
    too_many_attempts(visitor)
    button = visitor.page.locator("#sign-in [type=submit]")
    visitor.expect_text("#sign-in .problem", re.compile(r"You can try again (in \d+ seconds?\.){2}"))
    expect(button).to_have_attribute("aria-disabled", "true")
    visitor.page.clock.fast_forward(31_000)
    visitor.expect_text("#sign-in .problem", "You can try again now.")
    expect(button).to_have_attribute("aria-disabled", "false")


def test_lockout_of_one_account_does_not_affect_others(visitor: Visitor) -> None:
    too_many_attempts(visitor)
    other = create_other_user(visitor)
    visitor.submit_sign_in(PASSWORD, other)
    visitor.expect_text("#account-name", other)


def test_names_of_users_and_devices_are_shown_as_text(site: Site) -> None:
    markup = "<img src=x onerror=document.title='taken'>"
    visitor = Visitor(site, f"{markup} of a user")
    visitor.sign_in_elsewhere(markup, f"{markup}bot/1.0", "<svg/onload=a()>/1.0 bot")
    visitor.sign_in()
    for sid in visitor.sids()[:3]:
        visitor.update_sessions(sid, last_ip_address=f"<b>{markup}</b>")
    visitor.open(".device.current")
    visitor.expect_text("#account-name", visitor.name)
    expect(visitor.page.locator(".seen", has_text=markup)).to_have_count(3)
    assert visitor.page.locator("main img, main b").count() == 0
    assert (visitor.page.title(), visitor.errors) == ("Your account", [])
    visitor.close()


def test_next_user_sees_nothing_of_the_previous_one(visitor: Visitor) -> None:
    devices(visitor)
    other = create_other_user(visitor)
    visitor.page.click("#sign-out")
    visitor.submit_sign_in(PASSWORD, other)
    visitor.expect_text("#account-name", other)
    expect(visitor.page.locator("#devices-empty")).to_be_visible()
    expect(visitor.page.locator(".device")).to_have_count(1)


def test_late_response_about_a_device_is_not_shown_to_the_next_user(visitor: Visitor) -> None:
    visitor.page.add_init_script(COUNT_RESPONSES)
    devices(visitor)
    with delivered_to_next_user(visitor, "**/api/sessions/*"):
        visitor.sign_out_device("curl")
    assert visitor.page.inner_text("#devices-done") == ""


def test_late_response_about_the_password_is_not_shown_to_the_next_user(visitor: Visitor) -> None:
    visitor.page.add_init_script(COUNT_RESPONSES)
    visitor.sign_in()
    with delivered_to_next_user(visitor, "**/api/sessions?*"):
        visitor.change_password(NEW_PASSWORD)
    assert visitor.page.inner_text("#change-done") == ""


@contextmanager
def delivered_to_next_user(visitor: Visitor, url: str) -> Iterator[None]:
    """Hold the response to a request of the block until another user is signed in.

    Return after the page has handled the response.
    """
    other = create_other_user(visitor)
    held: list[tuple[Route, APIResponse]] = []
    visitor.page.route(url, lambda route: held.append((route, route.fetch())), times=1)
    yield
    # The call lets Playwright handle its events.
    wait_until(lambda: bool(visitor.page.evaluate("true") and held), what="the response")
    visitor.page.click("#sign-out")
    visitor.submit_sign_in(PASSWORD, other)
    visitor.open_tab("devices")
    expect(visitor.page.locator("#devices-empty")).to_be_visible()
    before = visitor.page.evaluate("handled")
    (route, response) = held.pop()
    route.fulfill(response=response)
    visitor.page.wait_for_function("before => handled > before", arg=before)


def create_other_user(visitor: Visitor) -> str:
    """Create another user and return the name."""
    name = f"{visitor.name} the second"
    create_user(visitor.site.app, name)
    return name
