"""The browser client: signing out, also during other requests."""

import threading

from playwright.sync_api import BrowserContext

from tests.support.concurrency import wait_until
from tests.support.proxy import HeldRefresh, Proxy, first, problem
from tests.support.tabs import (
    BEN,
    expect_reasons,
    hold_timers,
    open_signed_in_tab,
    open_tab,
    reload,
    sign_in,
    state_of,
)


def test_sign_out_in_one_tab_signs_out_all_tabs(proxy: Proxy, context: BrowserContext) -> None:
    pages = [open_signed_in_tab(proxy, context), *(open_tab(proxy, context) for _ in range(2))]
    for page in pages:
        page.evaluate("client.restore()")
    pages[1].evaluate("client.signOut()")
    for page in pages:
        expect_reasons(page, "signed-in", "signed-out")
        assert page.evaluate("call('/api/protected')") == 401
    reload(pages[0])
    assert pages[0].evaluate("client.restore()") is None


def test_sign_out_takes_precedence_over_a_refresh_in_progress(proxy: Proxy, context: BrowserContext) -> None:
    page = open_signed_in_tab(proxy, context)
    proxy.intercept = first("/api/protected", problem(403, "access_token_invalid"))
    proxy.deliver = held = HeldRefresh()
    page.evaluate("window.pending = call('/api/protected'); null")
    wait_until(held.received.is_set, what="the refresh")
    page.evaluate("client.signOut()")
    held.release.set()
    assert page.evaluate("pending") == 403
    assert (state_of(page), page.evaluate("reasons")) == (["signed-out", None], ["signed-in", "signed-out"])


def test_sign_out_in_progress_takes_precedence_over_a_later_refresh(proxy: Proxy, context: BrowserContext) -> None:
    pages = [open_signed_in_tab(proxy, context), open_tab(proxy, context)]
    pages[1].evaluate("client.restore()")
    received, release = threading.Event(), threading.Event()

    def hold_logout(path: str) -> None:
        if path == "/api/logout":
            received.set()
            release.wait(30)

    proxy.intercept = hold_logout
    pages[0].evaluate("window.pending = client.signOut(); null")
    wait_until(received.is_set, what="the sign-out")
    expect_reasons(pages[1], "signed-in", "signed-out")
    assert pages[1].evaluate("client.restore()") is None
    assert proxy.exchanges[-1].status == 200  # the session was still live at the service
    release.set()
    pages[0].evaluate("pending")
    assert [state_of(page)[0] for page in pages] == ["signed-out"] * 2


def test_sign_out_rejects_if_the_service_is_unavailable(proxy: Proxy, context: BrowserContext) -> None:
    page = open_signed_in_tab(proxy, context)
    unavailable = problem(503, "service_unavailable", ("Retry-After", "60"))
    proxy.intercept = lambda path: unavailable if path == "/api/logout" else None
    assert page.evaluate("failureOf(client.signOut())") == [503, "service_unavailable", 60]
    assert state_of(page) == ["signed-out", None]
    proxy.reset()
    page.evaluate("client.signOut()")
    assert page.evaluate("client.restore()") is None


def test_retry_of_a_sign_out_does_not_revoke_a_later_session_of_another_tab(
    proxy: Proxy, context: BrowserContext
) -> None:
    context.add_init_script(hold_timers("delay >= 3000 && delay <= 3750"))  # the delay before the retry
    pages = [open_signed_in_tab(proxy, context), open_tab(proxy, context)]
    former = pages[0].evaluate("client.user.sessionId")
    proxy.intercept = first("/api/logout", problem(503, "service_unavailable", ("Retry-After", "3")))
    pages[0].evaluate("window.pending = failureOf(client.signOut()); null")
    wait_until(lambda: proxy.count("/api/logout") == 1, what="the sign-out")
    user = sign_in(pages[1], BEN)
    pages[0].wait_for_function("client.user && heldTimers() > 0")
    pages[0].evaluate("runTimers()")
    assert pages[0].evaluate("pending") is None
    assert [state_of(page) for page in pages] == [["signed-in", "ben"]] * 2
    pages[1].close()
    reload(pages[0])
    assert pages[0].evaluate("client.restore()") == user
    assert user["sessionId"] != former
    assert (proxy.exchanges[-1].path, proxy.exchanges[-1].status) == ("/api/token", 200)


def test_sign_in_does_not_wait_for_the_retry_of_a_sign_out(proxy: Proxy, context: BrowserContext) -> None:
    context.add_init_script(hold_timers("delay > 7000 && delay < 12000"))  # the delay before the retry
    page = open_signed_in_tab(proxy, context)
    unavailable = problem(503, "service_unavailable", ("Retry-After", "8"))
    proxy.intercept = lambda path: unavailable if path == "/api/logout" else None
    page.evaluate("window.pending = failureOf(client.signOut()); null")
    wait_until(lambda: proxy.count("/api/logout") == 1, what="the sign-out")
    assert sign_in(page, BEN)["username"] == "ben"
    assert page.evaluate("pending") == [503, "service_unavailable", 8]
    assert proxy.count("/api/logout") == 1
    expect_reasons(page, "signed-in", "signed-out", "signed-in")
