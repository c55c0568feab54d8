"""The browser client: signing in, and sharing the session between tabs."""

from playwright.sync_api import BrowserContext

from tests.browser.conftest import revoke_session
from tests.support.app import PASSWORD
from tests.support.concurrency import wait_until
from tests.support.proxy import Proxy
from tests.support.server import Server
from tests.support.tabs import (
    BEN,
    expect_reasons,
    hold_timers,
    open_signed_in_tab,
    open_tab,
    reload,
    sign_in,
    sign_in_failure,
    state_of,
)


def test_sign_in_returns_the_user(proxy: Proxy, context: BrowserContext) -> None:
    page = open_tab(proxy, context)
    user = sign_in(page)
    assert (user["username"], user == page.evaluate("client.user")) == ("alice", True)
    assert page.evaluate("call('/api/protected')") == 200
    expect_reasons(page, "signed-in")


def test_wrong_password_rejects_with_the_error_of_the_service(proxy: Proxy, context: BrowserContext) -> None:
    page = open_tab(proxy, context)
    assert sign_in_failure(page, ("ben", "wrong")) == [401, "invalid_credentials", None]
    assert page.evaluate("reasons") == []


def test_reload_keeps_the_user_signed_in(proxy: Proxy, context: BrowserContext) -> None:
    page = open_signed_in_tab(proxy, context)
    reload(page)
    assert state_of(page) == ["unknown", None]
    assert page.evaluate("client.restore()")["username"] == "alice"


def test_new_tab_gets_the_token_of_another_tab_without_a_request(proxy: Proxy, context: BrowserContext) -> None:
    context.add_init_script(hold_timers("delay === 50"))  # the time that other tabs have to respond
    open_signed_in_tab(proxy, context)
    assert open_tab(proxy, context).evaluate("client.restore()")["username"] == "alice"
    assert proxy.count("/api/token") == 0


def test_without_a_session_the_client_asks_the_service_once(proxy: Proxy, context: BrowserContext) -> None:
    page = open_tab(proxy, context)
    assert page.evaluate("client.restore()") is None
    assert page.evaluate("burst(20, '/api/protected')") == [401] * 20
    assert (state_of(page)[0], proxy.count("/api/token")) == ("signed-out", 1)


def test_sign_in_in_one_tab_signs_in_all_tabs(proxy: Proxy, context: BrowserContext) -> None:
    others = [open_tab(proxy, context) for _ in range(2)]
    open_signed_in_tab(proxy, context)
    for page in others:
        expect_reasons(page, "signed-in")
        assert page.evaluate("call('/api/protected')") == 200


def test_session_revoked_on_another_device_ends_in_all_tabs(
    server: Server, proxy: Proxy, context: BrowserContext
) -> None:
    pages = [open_signed_in_tab(proxy, context), open_tab(proxy, context)]
    pages[1].evaluate("client.restore()")
    revoke_session(server, pages[0])
    wait_until(lambda: pages[0].evaluate("call('/api/protected')") == 403 or state_of(pages[0])[0] == "signed-out")
    for page in pages:
        expect_reasons(page, "signed-in", "session-ended")


def test_end_of_the_session_is_reported_once_and_stops_refreshes(
    server: Server, proxy: Proxy, context: BrowserContext
) -> None:
    page = open_signed_in_tab(proxy, context)
    revoke_session(server, page)
    wait_until(lambda: page.evaluate("call('/api/protected')") != 200, what="the end of the session")
    page.evaluate("burst(20, '/api/protected')")
    assert page.evaluate("reasons") == ["signed-in", "session-ended"]
    assert proxy.statuses("/api/token") == [403, 403]  # another tab might have replaced the cookie, so it tries twice


def test_request_of_one_user_is_not_sent_with_the_token_of_another(proxy: Proxy, context: BrowserContext) -> None:
    page = open_signed_in_tab(proxy, context)
    context.request.post(f"{proxy.origin}/api/login", data={"username": "ben", "password": PASSWORD})
    wait_until(lambda: page.evaluate("call('/api/protected', {cache: 'no-store'})") == 403, what="the end of a session")
    assert state_of(page) == ["signed-in", "ben"]
    assert proxy.exchanges[-1].path == "/api/token"  # the request was not repeated
    expect_reasons(page, "signed-in", "signed-in")


def test_late_message_about_a_former_session_changes_nothing(proxy: Proxy, context: BrowserContext) -> None:
    pages = [open_tab(proxy, context), open_tab(proxy, context)]
    pages[0].evaluate("""() => {
        window.messages = [];
        window.channel = new BroadcastChannel(`tokenapp ${location.origin}`);
        channel.onmessage = ({ data }) => messages.push(data);
    }""")
    sign_in(pages[1])
    pages[0].wait_for_function("messages.length > 0")
    sign_in(pages[1], BEN)
    expect_reasons(pages[1], "signed-in", "signed-in")
    pages[0].evaluate("messages.slice().forEach(message => channel.postMessage(message))")
    pages[0].evaluate("password => client.reauthenticate(password)", PASSWORD)
    pages[1].wait_for_function("client.user")
    assert [state_of(page) for page in pages] == [["signed-in", "ben"]] * 2
    assert pages[1].evaluate("reasons") == ["signed-in", "signed-in"]


def test_reauthentication_gets_a_fresh_token(proxy: Proxy, context: BrowserContext) -> None:
    page = open_signed_in_tab(proxy, context)
    assert page.evaluate("failureOf(client.reauthenticate('wrong'))") == [401, "invalid_credentials", None]
    before = proxy.exchanges[-1].bearer
    page.evaluate("password => client.reauthenticate(password)", PASSWORD)
    page.evaluate("call('/api/protected')")
    assert proxy.exchanges[-1].bearer not in {before, None}
    assert proxy.count("/api/token") == 0


def test_removed_listener_is_not_called(proxy: Proxy, context: BrowserContext) -> None:
    page = open_tab(proxy, context)
    page.evaluate("client.onChange(() => reasons.push('again'))()")
    sign_in(page)
    assert page.evaluate("reasons") == ["signed-in"]
