"""The example application, with a service in production."""

from playwright.sync_api import BrowserContext, expect

from tests.browser.conftest import EXAMPLE
from tests.support.example import expect_status, sign_in, visit
from tests.support.tls import APP


def test_example_is_short() -> None:
    assert sum(len(path.read_text().splitlines()) for path in EXAMPLE.iterdir()) < 100


def test_example_signs_in_and_calls_the_api(deployed_context: BrowserContext) -> None:
    page = sign_in(deployed_context)
    page.get_by_role("button", name="Call the API").click()
    expect_status(page, "Welcome, alice! This is protected data.")


def test_example_shows_why_a_sign_in_failed(deployed_context: BrowserContext) -> None:
    page = visit(deployed_context, APP)
    page.get_by_label("Name").fill("alice")
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    expect_status(page, "Invalid credentials.")


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
