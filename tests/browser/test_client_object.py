"""The browser client as an object: its functions and values, and its end."""

import threading

import pytest
import sqlalchemy as sa
from playwright.sync_api import BrowserContext

from tests.browser.conftest import new_visitor
from tests.support.account_scenes import Site
from tests.support.app import PASSWORD
from tests.support.concurrency import wait_until
from tests.support.proxy import Proxy, first, problem
from tests.support.tabs import expect_reasons, open_signed_in_tab, open_tab, reload, sign_in, sign_in_failure, state_of
from tokenapp.db import execute_now
from tokenapp.models import User

REJECTED = problem(403, "access_token_invalid")
REAUTHENTICATE = "password => client.reauthenticate(password)"
REMEMBER = "() => { window.remembered = client.user; }"
IS_SAME = "client.user === remembered"
COPIES = {
    "functions": "const { signIn, fetch, getToken, reauthenticate, signOut } = client;"
    "const used = { signIn, fetch, getToken, reauthenticate, signOut };",
    "proxy": "const used = new Proxy(client, {});",
    "object that inherits": "const used = Object.create(client);",
    "frozen object": "const used = Object.freeze(client);",
    "spread copy": "const used = { ...client };",
}
USE = """await used.signIn("alice", "PASSWORD");
    const response = await used.fetch("/api/protected");
    const token = await used.getToken();
    await used.reauthenticate("PASSWORD");
    await used.signOut();
    return [response.status, typeof token, client.state];""".replace("PASSWORD", PASSWORD)
CALLS = {
    "restore": "client.restore()",
    "signIn": f"client.signIn('alice', '{PASSWORD}')",
    "reauthenticate": f"client.reauthenticate('{PASSWORD}')",
    "changePassword": f"client.changePassword('{PASSWORD}', 'another one entirely 99')",
    "signOut": "client.signOut()",
    "getToken": "client.getToken()",
    "fetch": "client.fetch('/api/protected')",
    "fetch of another origin": "client.fetch('http://127.0.0.1:1/')",
}
CLOSED = [0, "client_closed", None]


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
def test_functions_work_without_the_client_as_this(proxy: Proxy, either: BrowserContext, copy: str) -> None:
    page = open_tab(proxy, either)
    assert page.evaluate(f"async () => {{ {copy} {USE} }}") == [200, "string", "signed-out"]


def test_values_are_current_through_a_proxy(proxy: Proxy, either: BrowserContext) -> None:
    page = open_tab(proxy, either)
    page.evaluate("window.seen = new Proxy(client, {}); null")
    sign_in(page)
    assert page.evaluate("[seen.user === client.user, seen.state, seen.baseUrl]") == [True, "signed-in", proxy.origin]


def test_user_is_the_same_object_until_the_session_changes(proxy: Proxy, either: BrowserContext) -> None:
    page = open_signed_in_tab(proxy, either)
    page.evaluate(REMEMBER)
    proxy.intercept = first("/api/protected", REJECTED)
    assert page.evaluate("call('/api/protected')") == 200
    assert (proxy.count("/api/token"), page.evaluate(IS_SAME)) == (1, True)
    page.evaluate(REAUTHENTICATE, PASSWORD)
    assert page.evaluate(IS_SAME) is False
    page.evaluate("client.signOut()")
    assert page.evaluate("client.user") is None


def test_token_of_another_tab_does_not_change_the_user(proxy: Proxy, either: BrowserContext) -> None:
    pages = [open_signed_in_tab(proxy, either), open_tab(proxy, either)]
    pages[1].evaluate("client.restore()")
    pages[1].evaluate(REMEMBER)
    proxy.intercept = first("/api/protected", REJECTED)
    before = pages[1].evaluate("client.getToken()")
    assert pages[0].evaluate("call('/api/protected')") == 200
    wait_until(lambda: pages[1].evaluate("client.getToken()") != before, what="the new token")
    assert pages[1].evaluate(IS_SAME) is True


def test_user_cannot_be_changed(proxy: Proxy, either: BrowserContext) -> None:
    page = open_signed_in_tab(proxy, either)
    assert page.evaluate("Reflect.set(client.user, 'username', 'mallory')") is False


def test_new_name_of_the_user_is_reported(site: Site, proxy: Proxy, context: BrowserContext) -> None:
    visitor = new_visitor(site)
    page = open_tab(proxy, context)
    sign_in(page, (visitor.name, PASSWORD))
    renamed = f"{visitor.name} renamed"
    with site.app.app_context():
        execute_now(sa.update(User).where(User.username == visitor.name).values(username=renamed))
    proxy.intercept = first("/api/protected", REJECTED)
    page.evaluate("call('/api/protected')")
    expect_reasons(page, "signed-in", "signed-in")
    assert state_of(page) == ["signed-in", renamed]
    visitor.close()


def test_listener_that_was_added_twice_is_removed_once(proxy: Proxy, context: BrowserContext) -> None:
    page = open_tab(proxy, context)
    page.evaluate("""() => {
        const listener = () => reasons.push("again");
        client.onChange(listener);
        client.onChange(listener)();
    }""")
    sign_in(page)
    assert page.evaluate("reasons") == ["signed-in", "again"]


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_closed_client_rejects_every_call(proxy: Proxy, context: BrowserContext, call: str) -> None:
    page = open_signed_in_tab(proxy, context)
    page.evaluate("client.close()")
    assert page.evaluate(f"failureOf({call})") == CLOSED
    assert (state_of(page), page.evaluate("reasons")) == (["signed-out", None], ["signed-in"])
    assert [each.path for each in proxy.exchanges if each.path.startswith("/api")] == ["/api/login"]


def test_closed_client_leaves_the_session_of_the_others_alone(proxy: Proxy, either: BrowserContext) -> None:
    pages = [open_signed_in_tab(proxy, either), open_tab(proxy, either)]
    pages[1].evaluate("client.restore()")
    pages[0].evaluate("client.close()")
    assert pages[0].evaluate("failureOf(client.signOut())") == CLOSED
    pages[1].evaluate(REAUTHENTICATE, PASSWORD)
    assert pages[1].evaluate("call('/api/protected')") == 200
    assert state_of(pages[0]) == ["signed-out", None]
    reload(pages[0])
    assert pages[0].evaluate("client.restore()")["username"] == "alice"


@pytest.mark.parametrize("path", ["/api/login", "/api/token"])
def test_call_in_progress_rejects_when_the_client_is_closed(proxy: Proxy, either: BrowserContext, path: str) -> None:
    page = open_tab(proxy, either)
    received, release = threading.Event(), threading.Event()

    def hold(requested: str) -> None:
        if requested == path:
            received.set()
            release.wait(30)

    proxy.intercept = hold
    call = CALLS["signIn"] if path == "/api/login" else CALLS["restore"]
    page.evaluate(f"window.pending = failureOf({call}); null")
    wait_until(received.is_set, what="the request")
    page.evaluate("client.close()")
    assert page.evaluate("pending") == CLOSED
    release.set()
    wait_until(lambda: proxy.pending == 0, what="the response")
    assert (state_of(page), page.evaluate("reasons")) == (["signed-out", None], [])


def test_request_that_was_sent_before_the_client_was_closed_completes(proxy: Proxy, context: BrowserContext) -> None:
    page = open_signed_in_tab(proxy, context)
    received, release = threading.Event(), threading.Event()

    def hold(requested: str) -> None:
        if requested == "/api/protected":
            received.set()
            release.wait(30)

    proxy.intercept = hold
    page.evaluate("window.pending = call('/api/protected'); null")
    wait_until(received.is_set, what="the request")
    page.evaluate("client.close()")
    release.set()
    assert page.evaluate("pending") == 200


def test_client_can_be_closed_twice(proxy: Proxy, context: BrowserContext) -> None:
    page = open_tab(proxy, context)
    page.evaluate("() => { client.close(); client.close(); client.onChange(() => null)(); }")
    assert sign_in_failure(page) == CLOSED
