"""The account page: the list of devices, and signing out other devices."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import expect

from tests.support.account_scenes import OTHERS, WRONG_PASSWORD, Visitor, devices, many_devices, password_again
from tests.support.app import PASSWORD


def test_times_are_relative_and_have_the_exact_time_as_title(visitor: Visitor) -> None:
    devices(visitor)
    seen = visitor.row("Firefox on macOS").locator(".seen")
    expect(seen).to_have_text("Last seen 2 hours ago · 203.0.113.80")
    title, machine_readable = (seen.locator("time").get_attribute(name) for name in ("title", "datetime"))
    assert re.search(r"\d{4}.* \d+:\d\d", str(title))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", str(machine_readable))


def test_this_device_is_first_and_has_no_button(visitor: Visitor) -> None:
    visitor.sign_in()
    visitor.sign_in_elsewhere(*(OTHERS["curl"],) * 12)
    visitor.open(".device.current")
    first = visitor.page.locator(".device").first
    expect(first).to_contain_text("Chrome on Windows This device")
    expect(first.locator(".end")).to_be_hidden()
    expect(visitor.page.locator(".device")).to_have_count(11)


def test_more_devices_are_shown_up_to_the_last(visitor: Visitor) -> None:
    many_devices(visitor)
    expect(visitor.page.locator(".device")).to_have_count(10)
    visitor.page.click("#devices-more")
    expect(visitor.page.locator(".device")).to_have_count(13)
    visitor.expect_focus(".device:nth-child(11) h3")
    expect(visitor.page.locator("#devices-more")).to_be_hidden()


def test_button_signs_out_one_device(visitor: Visitor) -> None:
    clients = visitor.sign_in_elsewhere(*OTHERS.values())
    visitor.sign_in()
    visitor.sign_out_device("Firefox on macOS")
    visitor.expect_text("#devices-done", "Firefox on macOS is signed out.")
    visitor.expect_focus('[aria-label="Sign out curl"]')
    assert [client.refresh().status for client in clients] == [200, 403, 200]


def test_device_that_is_already_signed_out_disappears_without_an_error(visitor: Visitor) -> None:
    (client,) = visitor.sign_in_elsewhere(OTHERS["curl"])
    visitor.sign_in()
    client.logout()
    visitor.sign_out_device("curl")
    expect(visitor.page.locator("#devices-empty")).to_be_visible()
    expect(visitor.page.locator("#devices-problem")).to_be_hidden()


def test_all_other_devices_are_signed_out(visitor: Visitor) -> None:
    clients = visitor.sign_in_elsewhere(*OTHERS.values())
    visitor.sign_in()
    visitor.page.click("#end-others")
    visitor.page.click("#sure-yes")
    expect(visitor.page.locator("#devices-done")).to_contain_text("All your other devices are signed out")
    expect(visitor.page.locator(".device")).to_have_count(1)
    assert [client.refresh().status for client in clients] == [403] * 3
    visitor.open(".device.current")


@pytest.mark.parametrize("action", ["Escape", "Cancel"])
def test_cancelled_dialog_signs_out_no_device(visitor: Visitor, action: str) -> None:
    (client,) = visitor.sign_in_elsewhere(OTHERS["curl"])
    visitor.sign_in()
    visitor.page.click("#end-others")
    if action == "Escape":
        visitor.page.keyboard.press("Escape")
    else:
        visitor.page.click("dialog[open] [data-cancel]")
    expect(visitor.page.locator("#sure")).to_be_hidden()
    visitor.expect_focus("#end-others")
    assert client.refresh().status == 200


def test_device_is_signed_out_after_the_password_is_entered_again(visitor: Visitor) -> None:
    password_again(visitor)
    visitor.confirm_password(WRONG_PASSWORD)
    visitor.expect_text("#again-password-error", "This password is wrong. Please try again.")
    visitor.confirm_password(PASSWORD)
    visitor.expect_text("#devices-done", "curl is signed out.")
    visitor.sign_out_device("Firefox on macOS")
    expect(visitor.row("Firefox on macOS")).to_have_count(0)


def test_no_device_is_signed_out_without_the_password(visitor: Visitor) -> None:
    password_again(visitor)
    visitor.page.keyboard.press("Escape")
    expect(visitor.page.locator("#again")).to_be_hidden()
    visitor.expect_focus('[aria-label="Sign out curl"]')
    expect(visitor.page.locator("#devices-problem")).to_be_hidden()
    visitor.sign_out_device("curl")
    expect(visitor.page.locator("#again")).to_be_visible()


def test_password_entered_once_does_not_apply_to_a_later_dialog(visitor: Visitor) -> None:
    visitor.page.clock.install()
    password_again(visitor)
    visitor.confirm_password(PASSWORD)
    expect(visitor.row("curl")).to_have_count(0)
    visitor.update_sessions(authenticated_at=datetime.now(UTC) - timedelta(minutes=16))
    with visitor.page.expect_response("**/api/token"):
        visitor.page.clock.fast_forward(15 * 60_000)
    visitor.sign_out_device("Firefox on macOS")
    expect(visitor.page.locator("#again")).to_be_visible()
    visitor.page.click("#again [data-cancel]")
    expect(visitor.page.locator("#again")).to_be_hidden()
    expect(visitor.row("Firefox on macOS").locator(".end")).to_have_attribute("aria-disabled", "false")
    expect(visitor.page.locator("#devices-problem")).to_be_hidden()


def test_bound_session_is_marked_and_warns_if_it_was_used_without_its_key(visitor: Visitor) -> None:
    visitor.sign_in_elsewhere(OTHERS["Firefox on macOS"], OTHERS["Safari on iPhone"], OTHERS["curl"])
    firefox, safari, _ = visitor.sids()
    day = datetime(2026, 3, 1, 12, tzinfo=UTC)
    visitor.update_sessions(firefox, bound_at=day)
    visitor.update_sessions(safari, bound_at=day, unproved_at=day)
    visitor.sign_in()
    for device, is_bound, is_unproved in (
        ("Firefox on macOS", True, False),
        ("Safari on iPhone", True, True),
        ("curl", False, False),
        ("Chrome on Windows", False, False),
    ):
        expect(visitor.row(device).locator(".bound")).to_be_visible(visible=is_bound)
        expect(visitor.row(device).locator(".unproved")).to_be_visible(visible=is_unproved)
    expect(visitor.row("Safari on iPhone")).to_contain_text("Bound to this device")
    expect(visitor.row("Safari on iPhone").locator(".unproved")).to_contain_text("1 Mar 2026")
