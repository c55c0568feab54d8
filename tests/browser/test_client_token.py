"""The browser client hands out its access token."""

from playwright.sync_api import BrowserContext

from tests.support.proxy import HeldRefresh, Proxy, problem
from tests.support.tabs import CLOCK, open_signed_in_tab, open_tab, reload

SEND = """url => new Promise(async resolve => {
    const request = new XMLHttpRequest();
    request.open("GET", url);
    request.setRequestHeader("Authorization", `Bearer ${await client.getToken()}`);
    request.onloadend = () => resolve(request.status);
    request.send();
})"""


def test_token_can_be_used_in_other_requests(proxy: Proxy, either: BrowserContext) -> None:
    page = open_signed_in_tab(proxy, either)
    assert page.evaluate(SEND, "/api/protected") == 200
    assert proxy.count("/api/token") == 0


def test_there_is_no_token_without_a_user(proxy: Proxy, either: BrowserContext) -> None:
    page = open_tab(proxy, either)
    assert page.evaluate("Promise.all([client.getToken(), client.getToken()])") == [None, None]
    assert proxy.count("/api/token") == 1


def test_token_is_that_of_the_cookie_after_a_reload(proxy: Proxy, either: BrowserContext) -> None:
    page = open_signed_in_tab(proxy, either)
    reload(page)
    assert page.evaluate(SEND, "/api/protected") == 200


def test_all_callers_share_one_refresh(proxy: Proxy, either: BrowserContext) -> None:
    either.add_init_script(CLOCK)
    page = open_signed_in_tab(proxy, either)
    former = page.evaluate("client.getToken()")
    page.evaluate("slept = 850_000; null")
    *tokens, status = page.evaluate(
        "Promise.all([...Array.from({ length: 20 }, () => client.getToken()), call('/api/protected')])"
    )
    assert (proxy.count("/api/token"), status) == (1, 200)
    assert len({former, *tokens}) == 2


def test_token_that_is_still_valid_is_returned_while_the_service_is_unavailable(
    proxy: Proxy, either: BrowserContext
) -> None:
    either.add_init_script(CLOCK)
    page = open_signed_in_tab(proxy, either)
    former = page.evaluate("client.getToken()")
    proxy.intercept = lambda path: problem(501, "unknown") if path == "/api/token" else None
    page.evaluate("slept = 850_000; null")
    assert page.evaluate("client.getToken()") == former
    page.evaluate("slept = 950_000; null")
    assert page.evaluate("failureOf(client.getToken())") == [501, "unknown", None]


def test_token_is_given_while_the_service_refreshes(proxy: Proxy, context: BrowserContext) -> None:
    page = open_signed_in_tab(proxy, context)
    reload(page)
    proxy.deliver = held = HeldRefresh()
    page.evaluate("window.pending = [client.restore(), client.getToken()]; null")
    held.release.set()
    user, token = page.evaluate("Promise.all(pending)")
    assert (user["username"], token[:2]) == ("alice", "ey")
    assert proxy.count("/api/token") == 1
