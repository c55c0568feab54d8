"""The browser client where browsers refuse channels, locks or requests."""

import threading

import pytest
from playwright.sync_api import BrowserContext, Page

from tests.browser.conftest import new_visitor
from tests.support.account_scenes import NEW_PASSWORD, Site
from tests.support.app import PASSWORD
from tests.support.concurrency import wait_until
from tests.support.proxy import Proxy, first, problem, respond
from tests.support.tabs import open_signed_in_tab, open_tab, sign_in, state_of

REJECTED = problem(403, "access_token_invalid")
DENIED = 'throw new DOMException("denied", "SecurityError");'
OBSTACLES = {
    "channels are denied": f"window.BroadcastChannel = class {{ constructor() {{ {DENIED} }} }};",
    "channels do not send": f"BroadcastChannel.prototype.postMessage = () => {{ {DENIED} }};",
    "locks are denied": f"LockManager.prototype.request = async () => {{ {DENIED} }};",
    "locks throw": f"LockManager.prototype.request = () => {{ {DENIED} }};",
    "there is no lock manager": f"Object.defineProperty(navigator, 'locks', {{ get() {{ {DENIED} }} }});",
    "storage is denied": "for (const name of ['localStorage', 'sessionStorage', 'indexedDB', 'caches'])"
    f"Object.defineProperty(window, name, {{ get() {{ {DENIED} }} }});",
    "there are no languages": "for (const name of ['language', 'languages'])"
    "Object.defineProperty(navigator, name, { value: undefined });",
}
QUOTA = 65536  # bytes of requests with keepalive in progress
# A lock is stolen as soon as it is held.
STEAL = """{
    const { request } = LockManager.prototype;
    LockManager.prototype.request = function (name, options, work) {
        const held = request.call(this, name, options, work);
        request.call(this, name, { steal: true }, () => null);
        return held;
    };
}"""
POST = """size => call("/api/protected", { method: "POST", body: "x".repeat(size), keepalive: true })"""
REAUTHENTICATE = f"failureOf(client.reauthenticate('{PASSWORD}'))"
CHANGE_PASSWORD = f"failureOf(client.changePassword('{PASSWORD}', '{NEW_PASSWORD}'))"


class FilledQuota:
    """An `intercept` that holds the requests for ``/fill``."""

    def __init__(self, page: Page, size: int) -> None:
        self.received, self.release = threading.Event(), threading.Event()
        self._page, self._size = page, size

    def __call__(self, path: str) -> None:
        """Wait if it is that request."""
        if path == "/fill":
            self.received.set()
            self.release.wait(30)

    def fill(self) -> None:
        """Send a request with keepalive of that size."""
        script = "size => { fetch('/fill', { method: 'POST', body: 'x'.repeat(size), keepalive: true }); }"
        self._page.evaluate(script, self._size)
        wait_until(self.received.is_set, what="the large request")


@pytest.mark.parametrize("script", OBSTACLES.values(), ids=OBSTACLES)
def test_client_works_although(proxy: Proxy, either: BrowserContext, script: str) -> None:
    either.add_init_script(script)
    page = open_signed_in_tab(proxy, either)
    proxy.intercept = first("/api/protected", REJECTED)
    assert page.evaluate("call('/api/protected')") == 200
    page.evaluate("client.signOut()")
    assert (state_of(page), page.evaluate("reasons")) == (["signed-out", None], ["signed-in", "signed-out"])


def test_refresh_completes_although_its_lock_is_stolen(proxy: Proxy, either: BrowserContext) -> None:
    either.add_init_script(STEAL)
    page = open_signed_in_tab(proxy, either)
    proxy.intercept = first("/api/protected", REJECTED)
    assert page.evaluate("call('/api/protected')") == 200
    assert proxy.statuses("/api/token") == [200]


def test_listener_that_fails_does_not_stop_the_others(proxy: Proxy, context: BrowserContext) -> None:
    context.add_init_script("delete window.reportError;")
    page = open_tab(proxy, context)
    page.evaluate("""() => {
        client.onChange(() => { throw new Error("of the application"); });
        client.onChange(() => { reasons.push("last"); });
    }""")
    with page.expect_console_message(lambda message: "of the application" in message.text):
        sign_in(page)
    assert page.evaluate("reasons") == ["signed-in", "last"]


# Limits for requests with keepalive


def test_user_can_sign_in_while_other_scripts_fill_the_quota(proxy: Proxy, either: BrowserContext) -> None:
    page = open_tab(proxy, either)
    proxy.intercept = filled = FilledQuota(page, QUOTA)
    filled.fill()
    assert sign_in(page)["username"] == "alice"
    filled.release.set()


@pytest.mark.parametrize("call", [REAUTHENTICATE, CHANGE_PASSWORD], ids=["re-authenticate", "change the password"])
def test_request_that_replaces_the_session_is_not_repeated_when_its_response_is_lost(
    site: Site, proxy: Proxy, either: BrowserContext, call: str
) -> None:
    visitor = new_visitor(site)
    page = open_tab(proxy, either)
    sign_in(page, (visitor.name, PASSWORD))
    paths = {"/api/reauthenticate", "/api/me/password"}
    proxy.deliver = lambda path, _response: path not in paths
    assert page.evaluate(call) == [0, "network_error", None]
    assert [each.status for each in proxy.exchanges if each.path in paths] == [0]
    visitor.close()


def test_sign_in_is_sent_at_most_twice(proxy: Proxy, either: BrowserContext) -> None:
    page = open_tab(proxy, either)
    proxy.deliver = lambda path, _response: path != "/api/login"
    assert page.evaluate("failureOf(client.signIn('alice', 'wrong'))") == [0, "network_error", None]
    assert proxy.statuses("/api/login") == [0, 0]


def test_rejected_request_does_not_count_against_the_quota_of_its_repetition(
    proxy: Proxy, either: BrowserContext
) -> None:
    page = open_signed_in_tab(proxy, either)
    challenge = ("WWW-Authenticate", 'Bearer error="invalid_token"')
    proxy.intercept = first("/api/protected", respond(401, challenge, body=b"x" * 2**22))
    assert page.evaluate(POST, QUOTA * 3 // 5) == 413
    assert proxy.statuses("/api/protected") == [401, 413]


def test_first_response_is_returned_if_the_request_cannot_be_repeated(proxy: Proxy, either: BrowserContext) -> None:
    page = open_signed_in_tab(proxy, either)
    proxy.intercept = first("/api/protected", REJECTED)
    found = page.evaluate("""async () => {
        const { fetch } = window;
        let calls = 0;
        window.fetch = request => {
            const isOurs = request.url?.endsWith("/api/protected");
            return isOurs && ++calls === 2 ? Promise.reject(new TypeError("refused")) : fetch(request);
        };
        const response = await client.fetch("/api/protected", { method: "POST", body: "x" });
        return [response.status, (await response.json()).code];
    }""")
    assert found == [403, "access_token_invalid"]


def test_abort_during_the_repetition_rejects(proxy: Proxy, either: BrowserContext) -> None:
    page = open_signed_in_tab(proxy, either)
    release = threading.Event()
    reject = first("/api/protected", REJECTED)

    def reject_then_hold(path: str) -> object:
        response = reject(path)
        if path == "/api/protected" and response is None:
            release.wait(30)
        return response

    proxy.intercept = reject_then_hold  # type: ignore[assignment]
    assert page.evaluate("call('/api/protected', { signal: AbortSignal.timeout(1500) })") == "TimeoutError"
    release.set()
