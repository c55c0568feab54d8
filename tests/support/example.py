"""Use the example application in a browser."""

from playwright.sync_api import BrowserContext, Page, expect

from tests.support.app import PASSWORD
from tests.support.tls import APP


def visit(context: BrowserContext, host: str, path: str = "/") -> Page:
    """Open a page of a host in a new tab."""
    page = context.new_page()
    page.goto(f"https://{host}{path}")
    return page


def sign_in(context: BrowserContext) -> Page:
    """Sign in to the example as alice, on the account page."""
    page = visit(context, APP)
    page.get_by_role("link", name="Sign in").click()
    page.fill("#username", "alice")
    page.fill("#password", PASSWORD)
    page.click("#sign-in [type=submit]")
    expect_status(page, "Hello, alice.")
    return page


def expect_status(page: Page, text: str) -> None:
    """Wait until the example shows a message."""
    expect(page.get_by_role("status")).to_have_text(text)
