"""The browser client recognises that the cookie of a session is not kept."""

import re
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from flask import Flask
from playwright.sync_api import BrowserContext, Page, Playwright, expect

from tests.conftest import Databases
from tests.support.account_scenes import Site, Visitor
from tests.support.app import PASSWORD, application, create_user
from tests.support.chromium import launch_without_cookies
from tests.support.client import Response
from tests.support.firefox import launch_firefox
from tests.support.proxy import Proxy, first, problem
from tests.support.server import Server, free_port
from tests.support.tabs import (
    ALICE,
    create_client,
    expect_reasons,
    open_signed_in_tab,
    open_tab,
    show,
    sign_in_failure,
    state_of,
)
from tokenapp.db import execute_now
from tokenapp.models import Session

REJECTED = problem(403, "access_token_invalid")
BLOCKED = [401, "cookies_blocked", None]
LAST_ERROR = "changes.at(-1).error.code"


@pytest.fixture(scope="package", params=["chromium", "firefox"])
def _blocking(
    request: pytest.FixtureRequest, playwright: Playwright, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BrowserContext]:
    folder = tmp_path_factory.mktemp("blocking")
    if request.param == "chromium":
        with launch_without_cookies(playwright, folder) as context:
            yield context
    else:
        with launch_firefox(playwright, folder, **{"network.cookie.cookieBehavior": 2}) as browser:
            yield browser.new_context(no_viewport=True)


@pytest.fixture
def page(_blocking: BrowserContext, proxy: Proxy) -> Iterator[Page]:
    """Give a tab of a browser that blocks all cookies."""
    page = open_tab(proxy, _blocking)
    yield page
    page.close()


def live_sessions(app: Flask) -> set[str]:
    """Return the ids of the live sessions."""
    with app.app_context():
        return {row.id for row in execute_now(sa.select(Session.id).where(Session.revoked_at.is_(None)))}


def drop_cookies(proxy: Proxy) -> None:
    """Drop the cookies of all responses, as some proxies do."""

    def drop(_path: str, response: Response) -> bool:
        response.headers[:] = [(name, value) for name, value in response.headers if name != "Set-Cookie"]
        return True

    proxy.deliver = drop


def test_sign_in_fails_if_the_browser_blocks_cookies(site: Site, page: Page) -> None:
    before = live_sessions(site.app)
    assert sign_in_failure(page) == BLOCKED
    assert (state_of(page)[1], page.evaluate("reasons"), live_sessions(site.app)) == (None, [], before)


def test_further_attempts_open_no_session_while_the_browser_blocks_cookies(
    site: Site, proxy: Proxy, page: Page
) -> None:
    before = live_sessions(site.app)
    assert [sign_in_failure(page) for _ in range(3)] == [BLOCKED] * 3
    assert (proxy.count("/api/login"), live_sessions(site.app)) == (1, before)


def test_message_names_the_cookie_and_its_host(page: Page) -> None:
    message = page.evaluate("credentials => client.signIn(...credentials).catch(error => error.message)", ALICE)
    assert message == "The browser did not keep the cookie of localhost. Allow cookies and sign in again."


def test_wrong_password_is_reported_as_such(page: Page) -> None:
    assert sign_in_failure(page, ("ben", "wrong")) == [401, "invalid_credentials", None]


def test_lost_cookie_is_recognised_at_the_first_refresh(site: Site, proxy: Proxy, either: BrowserContext) -> None:
    before = live_sessions(site.app)
    drop_cookies(proxy)
    page = open_signed_in_tab(proxy, either)
    proxy.intercept = first("/api/protected", REJECTED)
    page.evaluate("call('/api/protected')")
    expect_reasons(page, "signed-in", "session-ended")
    assert (page.evaluate(LAST_ERROR), live_sessions(site.app)) == ("cookies_blocked", before)
    assert [sign_in_failure(page) for _ in range(2)] == [BLOCKED] * 2
    assert (page.evaluate("reasons"), live_sessions(site.app)) == (["signed-in", "session-ended"], before)


def test_other_tabs_learn_that_the_cookie_is_lost(proxy: Proxy, either: BrowserContext) -> None:
    drop_cookies(proxy)
    pages = [open_tab(proxy, either), open_signed_in_tab(proxy, either)]
    expect_reasons(pages[0], "signed-in")
    proxy.intercept = first("/api/protected", REJECTED)
    pages[1].evaluate("call('/api/protected')")
    for page in pages:
        expect_reasons(page, "signed-in", "session-ended")
        assert page.evaluate(LAST_ERROR) == "cookies_blocked"


def test_user_can_sign_in_once_the_cookie_is_kept_again(proxy: Proxy, context: BrowserContext) -> None:
    drop_cookies(proxy)
    page = open_signed_in_tab(proxy, context)
    proxy.intercept = first("/api/protected", REJECTED)
    page.evaluate("call('/api/protected')")
    proxy.reset()
    assert sign_in_failure(page) is None
    assert page.evaluate("call('/api/protected')") == 200


def test_page_of_another_site_cannot_keep_the_cookie(databases: Databases, either: BrowserContext) -> None:
    # The names localhost and 127.0.0.1 are of different sites, so browsers do not store the cookie.
    url, port = databases("sqlite"), free_port()
    with Proxy(port) as proxy, application(url) as app:
        create_user(app)
        page_origin = proxy.origin.replace("localhost", "127.0.0.1")
        with Server(url, {"TOKENAPP_ALLOWED_ORIGINS": page_origin}, port=port):
            page = either.new_page()
            page.goto(f"{page_origin}/page")
            create_client(page, baseUrl=proxy.origin)
            assert [sign_in_failure(page) for _ in range(2)] == [BLOCKED] * 2
        assert proxy.statuses("/api/login") == [200, 200]  # the first is that of the preflight request
        assert live_sessions(app) == set()


def test_lost_cookie_of_a_revoked_session_is_the_end_of_the_session(proxy: Proxy, either: BrowserContext) -> None:
    page = open_signed_in_tab(proxy, either)
    bearer = page.evaluate("client.getToken()")
    headers = {"Authorization": f"Bearer {bearer}"}
    assert either.request.post(f"{proxy.origin}/api/logout", headers=headers).status == 204
    proxy.intercept = first("/api/protected", REJECTED)
    page.evaluate("call('/api/protected')")
    expect_reasons(page, "signed-in", "session-ended")
    assert page.evaluate(LAST_ERROR) == "refresh_token_missing"


def test_cookie_that_is_lost_later_is_the_end_of_the_session(proxy: Proxy, context: BrowserContext) -> None:
    page = open_signed_in_tab(proxy, context)
    proxy.intercept = first("/api/protected", REJECTED)
    page.evaluate("call('/api/protected')")
    context.clear_cookies()
    proxy.intercept = first("/api/protected", REJECTED)
    page.evaluate("call('/api/protected')")
    expect_reasons(page, "signed-in", "session-ended")
    assert page.evaluate(LAST_ERROR) == "refresh_token_missing"


def test_account_page_says_that_the_cookie_is_lost(visitor: Visitor) -> None:
    visitor.open()
    visitor.submit_sign_in(PASSWORD)
    expect(visitor.page.locator("#view-account")).to_be_visible()
    visitor.context.clear_cookies()
    show(visitor.page)
    visitor.expect_text("#sign-in-notice", re.compile("blocks the cookie"))
