"""The account page with a return address: where it leads after a sign-in."""

import re
from collections.abc import Iterator
from urllib.parse import quote, urljoin

import pytest
from playwright.sync_api import Route, expect

from tests.browser.conftest import new_visitor
from tests.support.account_scenes import Site, Visitor, wait_for_start
from tests.support.app import PASSWORD, ROOT

APP = "https://app.example.com"
OTHER_PORT = "http://app.example.com:8080"
ALLOWED = (
    f"{APP}",
    f"{APP}/",
    f"{APP}/path?x=1&y=2#part",
    f"{APP}?x",
    f"{APP}/%2F..//@evil.example",
    f"{OTHER_PORT}/path",
)
OWN = ("/docs", "/healthz/../docs", "ORIGIN/docs")
REFUSED = (
    "//evil.example",
    "///evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "/\t/evil.example",
    "\n//evil.example",
    "https:\\\\evil.example",
    "https:///evil.example",
    "https://evil.example/https://app.example.com/",
    "https://app.example.com.evil.example/",
    "https://app.example.com@evil.example/",
    "https://app.example.com:443@evil.example/",
    "https://user@app.example.com/",
    "https://user:x@app.example.com/",
    "https://app.example.com./",
    "https://app.example.com:8443/",
    "https://app.example.com\\@evil.example/",
    "https://app.example.com\\.evil.example/",
    "https://APP.example.com/",
    "https://app。example。com/",
    "https://sub.app.example.com/",
    "https://example.com/",
    "http://app.example.com/",
    "https://app.example.co/",
    "https%3A%2F%2Fapp.example.com%2F%2Eevil",
    "javascript:alert(1)//https://app.example.com/",
    "JaVaScRiPt:alert(1)",
    "data:text/html,x",
    "blob:https://app.example.com/0",
    "filesystem:https://app.example.com/x",
    "blob:ORIGIN/0",
    "view-source:https://app.example.com/",
    "SCHEME//user@HOST/docs",
    "null",
    "http://[",
    "docs",
    "",
    "?return_to=https://app.example.com",
)

READ = """async ([address, origin]) => {
    history.replaceState(null, "", address);
    document.body.dataset.returnOrigin = origin;
    return Boolean((await import("/return-to.js")).readReturnUrl());
}"""


@pytest.fixture
def returning(branded: Site) -> Iterator[Visitor]:
    """Give a user of that service. Other hosts have a page that says where it is."""
    visitor = new_visitor(branded)
    visitor.context.route(lambda url: not url.startswith(branded.origin), show_elsewhere)
    yield visitor
    visitor.close()


def show_elsewhere(route: Route) -> None:
    route.fulfill(content_type="text/html", body="<!doctype html><title>Elsewhere</title>")


def address(visitor: Visitor, return_to: str) -> str:
    """Return the address of the account page that leads to a URL."""
    host = visitor.site.origin.removeprefix("http://")
    wanted = return_to.replace("ORIGIN", visitor.site.origin).replace("SCHEME", "http:").replace("HOST", host)
    return f"{visitor.url}?return_to={quote(wanted, safe='')}"


@pytest.mark.parametrize("return_to", [*ALLOWED, *OWN])
def test_browser_goes_there_after_the_sign_in(returning: Visitor, return_to: str) -> None:
    expected = urljoin(returning.url, return_to.replace("ORIGIN", returning.site.origin))
    returning.page.goto(address(returning, return_to))
    wait_for_start(returning.page)
    expect(returning.page.locator("#sign-in-lead")).to_contain_text("You will then continue to ")
    returning.submit_sign_in(PASSWORD)
    returning.page.wait_for_url(f"{expected}/" if expected == APP else re.sub(r"com\?", "com/?", expected))


def test_url_of_another_origin_is_ignored(returning: Visitor) -> None:
    page, sources = returning.page, ROOT / "tokenapp/web/account"
    page.route("**/blank", lambda route: route.fulfill(content_type="text/html", body="<!doctype html><body>"))
    page.route("**/return-to.js", lambda route: route.fulfill(path=sources / "return-to.js"))
    page.goto(f"{returning.site.origin}/blank")
    taken = []
    for return_to in (*REFUSED, APP):
        query = address(returning, return_to).removeprefix(returning.url)
        text = returning.site.server.client.send("GET", f"/account{query}").text
        (origin,) = re.findall('data-return-origin="(.*?)"', text)
        if page.evaluate(READ, [f"/blank{query}", origin]):
            taken.append(return_to)
    assert taken == [APP]


def test_refused_url_changes_nothing_on_the_page(returning: Visitor) -> None:
    returning.sign_in()
    returning.page.goto(address(returning, "https://app.example.com@evil.example/"))
    expect(returning.page.locator("#view-account")).to_be_visible()
    expect(returning.page.locator("#back")).to_be_hidden()
    assert returning.errors == []


def test_user_who_is_signed_in_goes_there_at_once_but_not_in_circles(returning: Visitor) -> None:
    returning.sign_in()
    returning.page.goto(address(returning, f"{APP}/path"), wait_until="commit")  # it does not stay there
    returning.page.wait_for_url(f"{APP}/path")
    returning.page.goto(address(returning, f"{APP}/path"))
    expect(returning.page.locator("#back a")).to_have_attribute("href", f"{APP}/path")
    returning.expect_text("#back", "Back to app.example.com")
    returning.page.click("#back a")
    returning.page.wait_for_url(f"{APP}/path")


def test_user_who_asks_for_a_tab_stays(returning: Visitor) -> None:
    returning.sign_in()
    returning.page.goto(f"{address(returning, APP)}#password")
    expect(returning.page.locator("#view-password")).to_be_visible()
    expect(returning.page.locator("#back")).to_be_visible()


def test_password_managers_are_led_to_the_form_for_a_new_password(visitor: Visitor) -> None:
    visitor.sign_in()
    visitor.page.goto(f"{visitor.site.origin}/.well-known/change-password")
    expect(visitor.page.locator("#view-password")).to_be_visible()
    assert visitor.page.url == f"{visitor.url}#password"
