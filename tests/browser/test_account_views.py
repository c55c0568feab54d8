"""The account page: tabs, addresses, and what a new view can do."""

import re

from playwright.sync_api import Route, expect

from tests.support.account_scenes import Visitor

SECTION = '<section class="card narrow" id="view-extra" hidden><h1 id="extra-title" tabindex="-1">Extra</h1></section>'
VIEW = """{
    name: "extra",
    start(page) { this.page = page; },
    open(value) { this.page.setView("extra"); document.querySelector("#extra-title").textContent = value; },
}"""


def test_address_names_the_tab(visitor: Visitor) -> None:
    visitor.sign_in()
    visitor.open("#view-password", address="#password")
    expect(visitor.page.locator("#view-devices")).to_be_hidden()
    expect(visitor.page.locator('.tabs [aria-current="page"]')).to_have_text("Password")
    visitor.open_tab("devices")
    expect(visitor.page.locator("#view-devices")).to_be_visible()
    visitor.expect_focus("#devices-title")
    visitor.page.go_back()
    expect(visitor.page.locator("#view-password")).to_be_visible()


def test_unknown_address_shows_the_first_tab_and_the_skip_link_keeps_the_tab(visitor: Visitor) -> None:
    visitor.sign_in()
    visitor.open("#view-devices", address="?again#nothing")
    visitor.open_tab("password")
    visitor.page.evaluate("location.hash = '#main'")
    expect(visitor.page.locator("#view-password")).to_be_visible()


def test_value_of_an_opened_view_does_not_stay_in_the_address(visitor: Visitor) -> None:
    add_view(visitor)
    visitor.open("#view-extra", address="#extra=a=secret")
    visitor.expect_text("#extra-title", "a=secret")
    assert visitor.page.url == visitor.url
    expect(visitor.page.locator("#view-sign-in")).to_be_hidden()


def test_view_without_its_section_is_not_started(visitor: Visitor) -> None:
    add_view(visitor, section="")
    visitor.open(address="#extra=secret")
    assert visitor.errors == []


def add_view(visitor: Visitor, section: str = SECTION) -> None:
    """Add a view to the page, as CONTRIBUTING describes it."""

    def change(route: Route, pattern: str, replacement: str) -> None:
        body, count = re.subn(pattern, lambda _: replacement, route.fetch().text())
        assert count == 1
        route.fulfill(response=route.fetch(), body=body)

    visitor.page.route("**/account", lambda route: change(route, "(?=</main>)", section))
    visitor.page.route("**/account.js", lambda route: change(route, r"(?<=startPage\(client, \[)", f"{VIEW}, "))
