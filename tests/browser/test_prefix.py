"""The account page, its browser client and the docs page below a path."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest
from playwright.sync_api import Browser, expect

from tests.conftest import Databases
from tests.support.account_scenes import wait_for_start
from tests.support.app import PASSWORD, application, create_user
from tests.support.proxy import Proxy
from tests.support.server import Server

LOGIN = "#operations-auth-login"


class StrippingProxy(Proxy):
    """Removes the prefix from the paths of requests."""

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        """Forward a request without the prefix."""
        assert handler.path.startswith("/auth")
        handler.path = handler.path.removeprefix("/auth") or "/"
        super().serve(handler)


@pytest.fixture(scope="module")
def server(databases: Databases) -> Iterator[Server]:
    """Give the service below /auth, with the user alice."""
    url = databases("sqlite")
    with application(url) as app:
        create_user(app)
    with Server(url, {"SCRIPT_NAME": "/auth"}) as server:
        yield server


@pytest.fixture(params=["passed on", "stripped"])
def origin(request: pytest.FixtureRequest, server: Server) -> Iterator[str]:
    """Give the address of a proxy of either kind."""
    if request.param == "passed on":
        yield f"http://localhost:{server.port}"
    else:
        with StrippingProxy(server.port) as proxy:
            yield proxy.origin


def test_user_signs_in_on_the_page_below_the_prefix(origin: str, browser: Browser) -> None:
    with browser.new_context() as context:
        context.set_default_timeout(60_000)
        page = context.new_page()
        errors: list[str] = []
        page.on("response", lambda response: errors.append(response.url) if response.status == 404 else None)
        page.goto(f"{origin}/auth/account/")
        wait_for_start(page)
        page.fill("#username", "alice")
        page.fill("#password", PASSWORD)
        page.click("#sign-in [type=submit]")
        expect(page.locator(".device.current")).to_be_visible()
        assert page.url == f"{origin}/auth/account"
        assert errors == []


def test_client_finds_the_service_that_served_it(origin: str, browser: Browser) -> None:
    script = """async () => {
        const { createClient } = await import("/auth/static/tokenapp.js");
        const client = createClient();
        await client.signIn("alice", "PASSWORD");
        return [client.baseUrl, (await client.fetch(`${client.baseUrl}/api/protected`)).status];
    }""".replace("PASSWORD", PASSWORD)
    with browser.new_context() as context:
        page = context.new_page()
        page.route("**/page", lambda route: route.fulfill(content_type="text/html", body="<!doctype html>"))
        page.goto(f"{origin}/page")
        assert page.evaluate(script) == [f"{origin}/auth", 200]


def test_request_of_the_docs_page_reaches_the_service(origin: str, browser: Browser) -> None:
    with browser.new_context() as context:
        context.set_default_timeout(60_000)
        page = context.new_page()
        page.goto(f"{origin}/auth/docs/")
        page.locator(f"{LOGIN} .opblock-summary-control").click()
        page.locator(f"{LOGIN} .try-out__btn").click()
        page.locator(f"{LOGIN} .execute").click()
        shown = page.locator(f"{LOGIN} .live-responses-table tbody .response-col_status")
        expect(shown).to_contain_text("40")
        assert page.locator(f"{LOGIN} .request-url pre").inner_text() == f"{origin}/auth/api/login"
