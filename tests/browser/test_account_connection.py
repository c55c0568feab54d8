"""The account page: offline, lost responses, and captive portals."""

import pytest
from playwright.sync_api import Route, expect

from tests.support.account_scenes import (
    NEW_PASSWORD,
    Visitor,
    devices,
    many_devices,
    no_connection,
    offline,
    wait_for_start,
)
from tests.support.app import PASSWORD

PORTAL = "<!doctype html><title>A captive portal</title>"
UNREACHABLE = "The service cannot be reached. Please try again."
FAILED = "Something went wrong on our side. Please try again in a moment."
UNCHANGED = "You are offline. Nothing was changed. Please try again."


def test_page_continues_without_a_reload_when_the_connection_is_back(visitor: Visitor) -> None:
    offline(visitor)
    expect(visitor.page.locator("#banner-text")).to_contain_text("You are offline.")
    visitor.page.click("#banner-retry")
    expect(visitor.page.locator("#banner")).to_be_visible()
    visitor.context.set_offline(False)
    expect(visitor.page.locator("#banner")).to_be_hidden()


def test_page_states_that_nothing_was_changed_offline(visitor: Visitor) -> None:
    offline(visitor)
    visitor.sign_out_device("curl")
    visitor.expect_text("#devices-problem", UNCHANGED)
    expect(visitor.row("curl")).to_be_visible()


def test_sign_in_offline_is_reported(visitor: Visitor) -> None:
    visitor.open()
    visitor.context.set_offline(True)
    visitor.submit_sign_in(PASSWORD)
    visitor.expect_text("#sign-in .problem", UNCHANGED)


def test_failed_retry_can_be_repeated(visitor: Visitor) -> None:
    no_connection(visitor)
    visitor.context.unroute_all()
    visitor.page.click("#unreachable-retry")
    expect(visitor.page.locator("#unreachable-retry")).to_have_attribute("aria-disabled", "false")
    visitor.expect_focus("#unreachable-retry")


def test_page_opened_without_a_connection_continues_when_it_is_back(visitor: Visitor) -> None:
    no_connection(visitor)
    visitor.context.unroute_all()
    visitor.context.set_offline(False)
    expect(visitor.page.locator("#view-account")).to_be_visible()


@pytest.mark.parametrize(("status", "message"), [(200, UNREACHABLE), (403, FAILED)])
def test_captive_portal_does_not_confirm_a_new_password(visitor: Visitor, status: int, message: str) -> None:
    visitor.sign_in()
    visitor.page.route("**/api/me/password", lambda route: send_portal(route, status))
    visitor.change_password(NEW_PASSWORD)
    visitor.expect_text("#change .problem", message)
    expect(visitor.page.locator("#change-done")).to_be_empty()


def test_lost_response_leaves_open_whether_the_password_was_changed(visitor: Visitor) -> None:
    def lose(route: Route) -> None:
        assert route.fetch().status == 204
        route.abort()

    visitor.sign_in()
    visitor.page.route("**/api/me/password", lose)
    visitor.change_password(NEW_PASSWORD)
    visitor.expect_text("#change .problem", UNREACHABLE)


def test_captive_portal_does_not_confirm_the_sign_out_of_a_device(visitor: Visitor) -> None:
    devices(visitor)
    visitor.page.route("**/api/sessions/*", lambda route: send_portal(route, 200))
    visitor.sign_out_device("curl")
    visitor.expect_text("#devices-problem", UNREACHABLE)
    expect(visitor.row("curl")).to_be_visible()
    expect(visitor.page.locator("#devices-done")).to_be_empty()


@pytest.mark.parametrize(
    ("content_type", "body", "message"),
    [
        ("text/html", PORTAL, UNREACHABLE),
        ("application/json", '{"items": [{"id', UNREACHABLE),
        ("application/json", '{"room": 42}', FAILED),
    ],
    ids=["captive portal", "incomplete", "other members"],
)
def test_unreadable_list_of_devices_is_reported(visitor: Visitor, content_type: str, body: str, message: str) -> None:
    many_devices(visitor)
    visitor.page.route("**/api/sessions?*", lambda route: route.fulfill(content_type=content_type, body=body))
    visitor.page.click("#devices-more")
    visitor.expect_text("#devices-problem", message)
    expect(visitor.page.locator(".device")).to_have_count(10)


def test_user_can_type_in_the_form_before_the_service_has_answered(visitor: Visitor) -> None:
    visitor.hold_refreshes()
    visitor.open()
    visitor.page.fill("#username", "typed")
    visitor.wait_for_held_refresh()
    visitor.held.pop().fulfill(status=401, json={"code": "refresh_token_missing", "message": ""})
    wait_for_start(visitor.page)
    expect(visitor.page.locator("#username")).to_have_value("typed")


def send_portal(route: Route, status: int) -> None:
    """Respond with the sign-in page of a captive portal, in place of the service."""
    route.fulfill(status=status, content_type="text/html", body=PORTAL)
