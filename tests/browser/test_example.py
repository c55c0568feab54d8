"""The example application and the page of the guide, with a service."""

import re

from playwright.sync_api import BrowserContext, expect

from tests.browser.conftest import EXAMPLE
from tests.conftest import Databases
from tests.support.app import PASSWORD, ROOT, application, create_user
from tests.support.example import expect_status, sign_in, visit
from tests.support.proxy import Proxy, respond
from tests.support.server import Server, free_port
from tests.support.tls import APP


def test_example_is_short() -> None:
    assert sum(len(path.read_text().splitlines()) for path in EXAMPLE.iterdir()) < 100


def test_example_signs_in_and_calls_the_api(deployed_context: BrowserContext) -> None:
    page = sign_in(deployed_context)
    page.get_by_role("button", name="Call the API").click()
    expect_status(page, "Welcome, alice! This is protected data.")


def test_example_leads_to_the_account_page_and_the_user_back(deployed_context: BrowserContext) -> None:
    page = visit(deployed_context, APP, "/?x=1#part")
    page.get_by_role("link", name="Sign in").click()
    expect(page.locator("#sign-in-lead")).to_have_text(f"You will then continue to {APP}.")
    page.fill("#username", "alice")
    page.fill("#password", PASSWORD)
    page.click("#sign-in [type=submit]")
    expect_status(page, "Hello, alice.")
    assert page.url == f"https://{APP}/?x=1#part"


def test_reload_of_the_example_keeps_the_user_signed_in(deployed_context: BrowserContext) -> None:
    page = sign_in(deployed_context)
    page.reload()
    expect_status(page, "Hello, alice.")


def test_example_signs_out(deployed_context: BrowserContext) -> None:
    page = sign_in(deployed_context)
    page.get_by_role("button", name="Sign out").click()
    expect_status(page, "Please sign in.")
    page.reload()
    expect_status(page, "Please sign in.")
    assert deployed_context.cookies() == []


def test_client_with_a_wrong_integrity_value_does_not_run(deployed_context: BrowserContext) -> None:
    page = deployed_context.new_page()
    with page.expect_console_message(lambda message: "integrity" in message.text):
        page.goto(f"https://{APP}/tampered.html")
    expect(page.get_by_role("status")).to_have_text("Loading…")


def test_first_page_of_the_guide_works(databases: Databases, either: BrowserContext) -> None:
    (text,) = re.findall(r"```html\n(<!doctype.*?)```", (ROOT / "docs/browser.md").read_text(), re.DOTALL)
    url, port = databases("sqlite"), free_port()
    html = text.replace("localhost:3005", f"localhost:{port}").encode()
    with application(url) as app, Proxy(port) as static:
        create_user(app)
        static.intercept = lambda _path: respond(200, ("Content-Type", "text/html"), body=html)
        with Server(url, {"TOKENAPP_ALLOWED_ORIGINS": static.origin}, port=port):
            page = either.new_page()
            page.goto(static.origin)
            page.get_by_label("Name").fill("alice")
            page.get_by_label("Password").fill("wrong")
            page.get_by_role("button", name="Sign in").click()
            expect(page.locator("#message")).to_have_text("Invalid credentials.")
            page.get_by_label("Password").fill(PASSWORD)
            page.get_by_role("button", name="Sign in").click()
            expect(page.locator("#message")).to_have_text("Welcome, alice! This is protected data.")
            page.reload()
            page.get_by_role("button", name="Sign out").click()
            expect(page.get_by_role("button", name="Sign in")).to_be_visible()
