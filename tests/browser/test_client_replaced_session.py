"""The browser client follows a session that replaces the current one."""

import threading
from functools import partial

import pytest
from playwright.sync_api import BrowserContext, Page

from tests.browser.conftest import new_visitor
from tests.support.account_scenes import NEW_PASSWORD, Site
from tests.support.app import PASSWORD
from tests.support.client import Response
from tests.support.client import sign_in as sign_in_elsewhere
from tests.support.concurrency import wait_until
from tests.support.proxy import Proxy, first, problem
from tests.support.tabs import (
    expect_reasons,
    hold_timers,
    open_signed_in_tab,
    open_tab,
    reload,
    shorten_timeout,
    sign_in,
    state_of,
)

LOCK_TIMEOUT = 3000
REAUTHENTICATE = "password => client.reauthenticate(password)"
SESSION = "client.user?.sessionId"
REJECTED = problem(403, "access_token_invalid")
WITHOUT_LOCKS = "delete Navigator.prototype.locks;"
WITHOUT_CHANNELS = "delete window.BroadcastChannel;"


class HeldRequest:
    """An `intercept` that holds the first request for `path` until `release`.

    It rejects the first token of a protected route.
    """

    def __init__(self, path: str) -> None:
        self.path, self.received, self.release = path, threading.Event(), threading.Event()
        self._reject = first("/api/protected", REJECTED)

    def __call__(self, path: str) -> Response | None:
        """Wait if it is that request."""
        if path == self.path and not self.received.is_set():
            self.received.set()
            self.release.wait(30)
        return self._reject(path)


def open_signed_in_tabs(proxy: Proxy, context: BrowserContext) -> list[Page]:
    """Open three tabs of one session."""
    pages = [open_signed_in_tab(proxy, context), open_tab(proxy, context), open_tab(proxy, context)]
    for page in pages:
        page.evaluate("client.restore()")
    return pages


def uses_session(page: Page, sid: str) -> bool:
    """Call an API, and return whether the tab then uses the session `sid`."""
    return (page.evaluate("call('/api/protected')"), page.evaluate(SESSION)) == (200, sid)


def test_reauthentication_in_one_tab_keeps_all_tabs_signed_in(proxy: Proxy, context: BrowserContext) -> None:
    pages = open_signed_in_tabs(proxy, context)
    proxy.reset()
    former = pages[0].evaluate(SESSION)
    pages[1].evaluate(REAUTHENTICATE, PASSWORD)
    replaced = pages[1].evaluate(SESSION)
    assert replaced not in {former, None}
    for page in pages:
        page.wait_for_function(f"sid => {SESSION} === sid", arg=replaced)
        assert page.evaluate("call('/api/protected')") == 200
        assert (state_of(page), page.evaluate("reasons")) == (["signed-in", "alice"], ["signed-in"])
    assert proxy.count("/api/token") == 0


def test_tabs_without_channels_follow_the_new_session_with_its_cookie(proxy: Proxy, context: BrowserContext) -> None:
    context.add_init_script(WITHOUT_CHANNELS)
    pages = open_signed_in_tabs(proxy, context)
    pages[0].evaluate(REAUTHENTICATE, PASSWORD)
    sid = pages[0].evaluate(SESSION)
    for page in pages[1:]:
        # The former token is rejected within a second.
        wait_until(partial(uses_session, page, sid), what="the new session")
        assert page.evaluate("reasons") == ["signed-in"]


def test_reload_after_a_reauthentication_uses_the_new_cookie(proxy: Proxy, context: BrowserContext) -> None:
    page = open_signed_in_tab(proxy, context)
    page.evaluate(REAUTHENTICATE, PASSWORD)
    sid = page.evaluate(SESSION)
    reload(page)
    assert page.evaluate("client.restore()")["sessionId"] == sid


@pytest.mark.parametrize(
    ("script", "statuses"),
    [("", [403]), (WITHOUT_LOCKS, [403]), (WITHOUT_LOCKS + WITHOUT_CHANNELS, [403, 200])],
    ids=["with locks and channels", "without locks", "with neither"],
)
def test_refresh_with_the_former_cookie_during_a_reauthentication_does_not_sign_out(
    proxy: Proxy, context: BrowserContext, script: str, statuses: list[int]
) -> None:
    context.add_init_script(script + shorten_timeout(LOCK_TIMEOUT))
    pages = open_signed_in_tabs(proxy, context)[:2]
    proxy.reset()
    proxy.intercept = held = HeldRequest("/api/token")
    pages[1].evaluate("window.pending = call('/api/protected'); null")
    wait_until(held.received.is_set, what="the refresh")
    pages[0].evaluate(REAUTHENTICATE, PASSWORD)
    held.release.set()
    assert pages[1].evaluate("pending") == 200
    assert proxy.statuses("/api/token") == statuses
    for page in pages:
        assert page.evaluate("call('/api/protected')") == 200
        assert (state_of(page), page.evaluate("reasons")) == (["signed-in", "alice"], ["signed-in"])
    assert len({page.evaluate(SESSION) for page in pages}) == 1


def test_refresh_waits_for_a_reauthentication_in_another_tab(proxy: Proxy, context: BrowserContext) -> None:
    context.add_init_script(hold_timers("delay === 50"))  # the time that other tabs have to respond
    pages = open_signed_in_tabs(proxy, context)[:2]
    proxy.reset()
    proxy.intercept = held = HeldRequest("/api/reauthenticate")
    pages[0].evaluate(f"password => {{ window.pending = ({REAUTHENTICATE})(password); }}", PASSWORD)
    wait_until(held.received.is_set, what="the re-authentication")
    pages[1].evaluate("window.pending = call('/api/protected'); null")
    pages[1].wait_for_function("navigator.locks.query().then(({ pending }) => pending.length === 1)")
    held.release.set()
    assert pages[1].evaluate("pending") == 200
    assert (proxy.count("/api/token"), pages[1].evaluate("reasons")) == (0, ["signed-in"])


def test_sign_out_in_another_tab_ends_the_session_that_a_reauthentication_opens(
    proxy: Proxy, context: BrowserContext
) -> None:
    pages = open_signed_in_tabs(proxy, context)[:2]
    received, release = threading.Event(), threading.Event()

    def hold_response(path: str, _response: object) -> bool:
        if path == "/api/reauthenticate":
            received.set()
            release.wait(30)
        return True

    proxy.deliver = hold_response
    pages[0].evaluate(f"password => {{ window.pending = ({REAUTHENTICATE})(password); }}", PASSWORD)
    wait_until(received.is_set, what="the re-authentication")
    pages[1].evaluate("client.signOut()")
    expect_reasons(pages[0], "signed-in", "signed-out")
    release.set()
    pages[0].evaluate("pending")
    reload(pages[0])
    assert pages[0].evaluate("client.restore()") is None
    assert [state_of(page)[0] for page in pages] == ["signed-out"] * 2


@pytest.mark.parametrize("script", ["", WITHOUT_CHANNELS], ids=["with channels", "without"])
def test_changed_password_keeps_this_browser_signed_in_and_ends_the_sessions_elsewhere(
    site: Site, proxy: Proxy, context: BrowserContext, script: str
) -> None:
    visitor = new_visitor(site)
    context.add_init_script(script)
    pages = [open_tab(proxy, context), open_tab(proxy, context)]
    sign_in(pages[0], (visitor.name, PASSWORD))
    pages[1].evaluate("client.restore()")
    elsewhere = sign_in_elsewhere(site.server.port, visitor.name)
    pages[0].evaluate("passwords => client.changePassword(...passwords)", [PASSWORD, NEW_PASSWORD])
    sid = pages[0].evaluate(SESSION)
    for page in pages:
        wait_until(partial(uses_session, page, sid), what="the new session")
        assert page.evaluate("reasons") == ["signed-in"]
    assert elsewhere.refresh().status == 403
    visitor.close()


def test_rejected_new_password_changes_nothing(proxy: Proxy, context: BrowserContext) -> None:
    page = open_signed_in_tab(proxy, context)
    before = page.evaluate(SESSION)
    failure = page.evaluate("password => failureOf(client.changePassword(password, 'short'))", PASSWORD)
    assert failure[:2] == [400, "password_rejected"]
    assert (page.evaluate(SESSION), proxy.count("/api/token")) == (before, 0)
