"""Device-bound sessions in Chromium, behind TLS (B1 to B3)."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from flask import Flask
from playwright.sync_api import Browser, BrowserContext, Page, Playwright

from tests.conftest import Databases
from tests.support.app import PASSWORD, application, create_user
from tests.support.chromium import binding_chromium
from tests.support.concurrency import wait_until
from tests.support.proxy import Proxy, first, problem
from tests.support.server import Server
from tests.support.tls import APP, LOGIN, Sites, production_settings
from tokenapp import audit

LIFETIME: Final = 10  # seconds, of the bound cookie
SIGNATURES: Final = 6  # Chromium's quota for a site, in nine minutes
REGISTRATION: Final = "/api/device-binding/registration"
ORIGIN: Final = f"https://{LOGIN}"
BINDING: Final = "/api/device-binding/refresh"
SIGN_IN: Final = """([origin, username, password]) => fetch(`${origin}/api/login`, {
    method: "POST", credentials: "include", headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ username, password }),
}).then(response => response.status)"""
CALL: Final = """([origin, path]) =>
    fetch(origin + path, { method: "POST", credentials: "include" }).then(response => response.status)"""

# `make soak` tries all of them; the tests without a browser run on both databases, and in both modes.
KINDS: Final = ["enforce-sqlite", "enforce-postgresql", "report-sqlite"]

pytestmark = pytest.mark.timeout(300)


@dataclass
class Bound:
    """The service in production behind nginx and a proxy, and a browser with keys."""

    app: Flask
    server: Server
    proxy: Proxy
    browser: Browser

    def events(self, kind: audit.Kind) -> list[Any]:
        """Return the audit events of a kind."""
        with self.app.app_context():
            return list(audit.list_events(kind=kind))


@pytest.fixture(scope="module", params=KINDS if "BINDING_CAMPAIGN" in os.environ else KINDS[:1])
def bound(
    request: pytest.FixtureRequest,
    databases: Databases,
    playwright: Playwright,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Bound]:
    """Give the service with device binding."""
    mode, kind = request.param.split("-")
    url, folder = databases(kind), tmp_path_factory.mktemp("bound")
    settings = {
        **production_settings(LOGIN),
        "TOKENAPP_ALLOWED_ORIGINS": f"https://{APP}",
        "TOKENAPP_DEVICE_BINDING": mode,
        "TOKENAPP_BOUND_COOKIE_LIFETIME": str(LIFETIME) + "s",
    }
    (folder / "app").mkdir()
    (folder / "app/index.html").write_text("<!doctype html><title>A page</title><body>")
    with ExitStack() as stack:
        app = stack.enter_context(application(url, **settings))
        server = stack.enter_context(Server(url, settings, log=folder / "server.log"))
        proxy = stack.enter_context(Proxy(server.port))
        sites = stack.enter_context(Sites(folder, urlsplit(proxy.origin).port or 0, LOGIN, {APP: folder / "app"}))
        browser = stack.enter_context(
            binding_chromium(playwright, folder, folder / "ca.pem", sites.browser_arguments[0])
        )
        create_user(app)
        yield Bound(app, server, proxy, browser)


@pytest.fixture
def context(bound: Bound) -> Iterator[BrowserContext]:
    """Give a browser context without cookies and keys."""
    bound.proxy.reset()
    context = bound.browser.new_context()
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext) -> Page:
    """Give a signed-in page with a bound session."""
    page = open_page(context)
    sign_in(page)
    return page


@pytest.fixture
def stale(bound: Bound, page: Page) -> Page:
    """Give a signed-in page without its bound cookie, as after its expiry."""
    lose_bound_cookie(page)
    bound.proxy.reset()
    return page


def open_page(context: BrowserContext, origin: str = ORIGIN) -> Page:
    """Open a page that can call the service."""
    page = context.new_page()
    page.goto(f"{origin}/page" if origin == ORIGIN else f"{origin}/")
    return page


def sign_in(page: Page) -> None:
    """Sign in, and wait until the session is bound."""
    assert page.evaluate(SIGN_IN, [ORIGIN, "alice", PASSWORD]) == 200
    wait_until(lambda: bound_cookie(page) is not None, seconds=60, what="the bound cookie")


def bound_cookie(page: Page) -> str | None:
    """Return the browser's bound cookie."""
    cookies = {cookie["name"]: cookie["value"] for cookie in page.context.cookies(ORIGIN)}
    return cookies.get("__Host-bound")


def lose_bound_cookie(page: Page) -> None:
    """Delete the bound cookie, as its expiry does.

    The browser renews it before the next refresh.
    """
    page.context.clear_cookies(name="__Host-bound")


def refresh(page: Page) -> int:
    """Refresh as a page does."""
    status: int = page.evaluate(CALL, [ORIGIN, "/api/token"])
    return status


def test_copied_cookie_jar_is_worth_nothing_after_the_bound_cookie_s_life(bound: Bound, page: Page) -> None:
    with_copy = bound.browser.new_context()
    cookies: Any = page.context.cookies()
    with_copy.add_cookies(cookies)
    thief = open_page(with_copy)
    expiry = int((bound_cookie(page) or "").partition(".")[0])
    before = len(bound.events("refresh_unproved"))
    assert refresh(page) == 200
    wait_until(lambda: time.time() > expiry + 1, seconds=60, what="the end of the bound cookie")
    enforced = bound.app.config["TOKENAPP"].device_binding == "enforce"
    assert refresh(thief) == (403 if enforced else 200)
    assert len(bound.events("refresh_unproved")) == before + 1
    assert refresh(page) == 200
    with_copy.close()


def test_page_of_another_origin_refreshes_a_bound_session(bound: Bound, context: BrowserContext) -> None:
    page = open_page(context, f"https://{APP}")
    sign_in(page)
    lose_bound_cookie(page)
    assert refresh(page) == 200
    assert bound.proxy.statuses(BINDING)[:2] == [403, 200]


def test_lost_responses_do_not_sign_the_user_out(bound: Bound, stale: Page) -> None:
    lost: list[str] = []

    def deliver(path: str, response: Any) -> bool:
        if path == BINDING and response.status == 200 and not lost:
            lost.append(path)
            return False
        return True

    bound.proxy.deliver = deliver
    assert [refresh(stale) for _ in range(2)] == [200, 200]
    assert lost == [BINDING]


def test_lost_registration_does_not_sign_the_user_out(bound: Bound, context: BrowserContext) -> None:
    page = open_page(context)
    bound.proxy.deliver = lambda path, _response: path != REGISTRATION
    before = len(bound.events("session_bound"))
    assert page.evaluate(SIGN_IN, [ORIGIN, "alice", PASSWORD]) == 200
    wait_until(lambda: len(bound.events("session_bound")) > before, seconds=60, what="the registration")
    assert refresh(page) == 200


def test_failing_service_does_not_sign_the_user_out(bound: Bound, stale: Page) -> None:
    bound.proxy.intercept = first(BINDING, *[problem(503, "service_unavailable")] * 20)
    assert refresh(stale) == 200
    assert set(bound.proxy.statuses(BINDING)) == {503}
    bound.proxy.reset()
    assert refresh(stale) == 200


def test_killed_workers_do_not_sign_the_user_out(bound: Bound, stale: Page) -> None:
    for pid in bound.server.workers():
        os.kill(pid, signal.SIGKILL)
    statuses = [refresh(stale)]
    while statuses[-1] not in {200, 401, 403}:
        statuses.append(refresh(stale))
    assert statuses[-1] == 200


def test_signature_quota_does_not_sign_the_user_out(bound: Bound, page: Page) -> None:
    for _ in range(SIGNATURES + 2):
        lose_bound_cookie(page)
        assert refresh(page) == 200
    assert bound.proxy.statuses(BINDING).count(200) < SIGNATURES + 2


def test_tabs_that_refresh_at_once_stay_signed_in(stale: Page) -> None:
    pages = [stale, *(open_page(stale.context) for _ in range(3))]
    for page in pages:
        page.evaluate(f"window.results = Promise.all([1, 2, 3].map(() => ({CALL})(['{ORIGIN}', '/api/token'])))")
    assert [page.evaluate("results") for page in pages] == [[200] * 3] * 4


def test_sign_out_ends_the_binding_and_the_next_sign_in_begins_another(page: Page) -> None:
    assert page.evaluate(CALL, [ORIGIN, "/api/logout"]) == 204
    assert bound_cookie(page) is None
    assert refresh(page) == 401
    sign_in(page)
    assert refresh(page) == 200


def test_scope_is_the_refresh_alone(bound: Bound, stale: Page) -> None:
    stale.evaluate(f"fetch('{ORIGIN}/api/protected').then(response => response.status)")
    assert bound.proxy.statuses(BINDING) == []
