"""The browser client: lost connections, wrong clocks, and suspended tabs."""

import threading
from collections import Counter

from playwright.sync_api import BrowserContext

from tests.support.concurrency import wait_until
from tests.support.proxy import HeldRefresh, Proxy, first, problem, respond
from tests.support.tabs import (
    CLOCK,
    expect_reasons,
    open_signed_in_tab,
    open_tab,
    reload,
    shorten_timeout,
    sign_in,
    sign_in_failure,
    state_of,
)

REJECTED = problem(403, "access_token_invalid")
REQUEST_TIMEOUT = 8000
LOCK_TIMEOUT = 3000
LOCK_HOLDERS = """() => navigator.locks.query().then(({ held }) => held.map(each => [each.name, each.clientId]))"""


def test_user_stays_signed_in_while_the_service_is_unavailable(proxy: Proxy, context: BrowserContext) -> None:
    page = open_signed_in_tab(proxy, context)
    reload(page)
    context.set_offline(offline=True)
    for _ in range(7):  # after so many failures the client retries after minutes, or when the browser is online
        assert page.evaluate("client.restore()") is None
    assert state_of(page) == ["unknown", None]
    assert page.evaluate("failureOf(client.fetch('/api/protected'))")[:2] == [0, "network_error"]
    context.set_offline(offline=False)
    expect_reasons(page, "signed-in")


def test_request_times_out_if_the_service_does_not_respond(proxy: Proxy, context: BrowserContext) -> None:
    context.add_init_script(shorten_timeout(REQUEST_TIMEOUT))
    page, release = open_tab(proxy, context), threading.Event()
    proxy.deliver = lambda _path, _response: release.wait(60)
    assert sign_in_failure(page) == [0, "timeout", None]
    release.set()


def test_refresh_waits_as_long_as_the_service_requests(proxy: Proxy, context: BrowserContext) -> None:
    page = open_signed_in_tab(proxy, context)
    reload(page)
    retry_after = ("Retry-After", "1")
    unavailable, limited = (
        problem(503, "service_unavailable", retry_after),
        problem(429, "too_many_attempts", retry_after),
    )
    proxy.intercept = first("/api/token", unavailable, limited)
    page.evaluate("window.began = performance.now()")
    assert page.evaluate("client.restore()")["username"] == "alice"
    assert page.evaluate("performance.now() - began") >= 2000
    assert proxy.statuses("/api/token") == [503, 429, 200]


def test_client_sends_nothing_during_a_long_pause_that_the_service_requests(
    proxy: Proxy, context: BrowserContext
) -> None:
    page = open_signed_in_tab(proxy, context)
    reload(page)
    proxy.intercept = first("/api/token", *[problem(503, "service_unavailable", ("Retry-After", "120"))] * 50)
    assert page.evaluate("client.restore()") is None
    assert page.evaluate("burst(20, '/api/protected')") == ["ApiError"] * 20
    assert (state_of(page)[0], proxy.count("/api/token")) == ("unknown", 1)


def test_requested_pause_ends_when_the_clock_is_set_back(proxy: Proxy, context: BrowserContext) -> None:
    context.add_init_script(CLOCK)
    page = open_signed_in_tab(proxy, context)
    reload(page)
    page.evaluate("slept = 5 * 3600_000; null")
    proxy.intercept = first("/api/token", problem(503, "service_unavailable", ("Retry-After", "120")))
    assert page.evaluate("client.restore()") is None
    assert page.evaluate("client.restore()") is None
    assert proxy.count("/api/token") == 1
    page.evaluate("slept = 0; null")
    assert page.evaluate("client.restore()")["username"] == "alice"


def test_api_that_rejected_all_tokens_is_tried_again_when_the_clock_is_set_back(
    proxy: Proxy, context: BrowserContext
) -> None:
    context.add_init_script(CLOCK)
    page = open_tab(proxy, context)
    page.evaluate("slept = 5 * 3600_000; null")
    sign_in(page)
    proxy.intercept = first("/api/protected", *[REJECTED] * 3)
    assert page.evaluate("call('/api/protected')") == 403
    page.evaluate("slept = 0; null")
    assert page.evaluate("call('/api/protected')") == 200


def test_successful_response_without_a_token_is_a_network_error(proxy: Proxy, context: BrowserContext) -> None:
    page = open_tab(proxy, context)
    proxy.intercept = first("/api/login", respond(204))
    assert sign_in_failure(page) == [0, "network_error", None]
    sign_in(page)
    reload(page)
    proxy.intercept = first("/api/token", respond(204))
    assert page.evaluate("client.restore()")["username"] == "alice"


def test_captive_portal_does_not_sign_the_user_out(proxy: Proxy, context: BrowserContext) -> None:
    page = open_signed_in_tab(proxy, context)
    reload(page)
    portal = respond(403, ("Content-Type", "text/html"), body=b"<h1>Sign in to this network</h1>")
    proxy.intercept = first("/api/token", portal)
    assert page.evaluate("failureOf(client.restore())") == [403, "unknown", None]
    assert state_of(page)[0] == "unknown"


def test_refresh_is_repeated_when_its_response_is_lost(proxy: Proxy, context: BrowserContext) -> None:
    page = open_signed_in_tab(proxy, context)
    reload(page)
    lost = iter([False, False])
    proxy.deliver = lambda path, _response: path != "/api/token" or next(lost, True)
    assert page.evaluate("client.restore()")["username"] == "alice"
    assert proxy.statuses("/api/token") == [0, 0, 200]


def test_new_cookie_is_stored_although_the_page_is_left(proxy: Proxy, context: BrowserContext) -> None:
    page = open_signed_in_tab(proxy, context)
    (before,) = context.cookies()
    reload(page)
    proxy.deliver = held = HeldRefresh()
    page.evaluate("void client.restore()")
    wait_until(held.received.is_set, what="the refresh")
    page.goto("about:blank")
    held.release.set()
    wait_until(lambda: context.cookies()[0]["value"] != before["value"], what="the new cookie")


def test_lock_that_is_never_released_delays_a_refresh_only_briefly(proxy: Proxy, context: BrowserContext) -> None:
    context.add_init_script(shorten_timeout(LOCK_TIMEOUT))
    page, holder = open_signed_in_tab(proxy, context), open_tab(proxy, context)
    holder.evaluate("""() => new Promise(taken =>
        navigator.locks.request(`tokenapp ${location.origin}`, () => new Promise(() => taken()))
    )""")
    proxy.intercept = first("/api/protected", REJECTED)
    assert page.evaluate("call('/api/protected')") == 200


def test_tab_that_is_suspended_during_a_refresh_does_not_stop_the_others(proxy: Proxy, context: BrowserContext) -> None:
    context.add_init_script(shorten_timeout(LOCK_TIMEOUT))
    pages = [open_signed_in_tab(proxy, context), open_tab(proxy, context)]
    pages[1].evaluate("client.restore()")
    proxy.intercept = first("/api/protected", *[REJECTED] * 2)
    proxy.deliver = held = HeldRefresh()
    pages[0].evaluate("window.pending = call('/api/protected'); null")
    wait_until(held.received.is_set, what="the refresh")
    holders = pages[1].evaluate(LOCK_HOLDERS)
    assert [name for name, _ in holders] == [f"tokenapp {proxy.origin}"]
    suspended = context.new_cdp_session(pages[0])
    suspended.send("Debugger.enable")
    suspended.send("Debugger.pause")  # at the next statement, which is that after the response
    held.release.set()
    assert pages[1].evaluate("call('/api/protected')") == 200
    assert pages[1].evaluate(LOCK_HOLDERS) == holders  # the tab did not continue although the response arrived
    suspended.send("Debugger.disable")
    assert pages[0].evaluate("pending") == 200
    assert Counter(page.evaluate("reasons.join()") for page in pages) == {"signed-in": 2}
