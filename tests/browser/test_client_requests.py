"""The browser client: where it keeps and sends tokens, and when it replaces them."""

import pytest
from playwright.sync_api import BrowserContext

from tests.support.app import PASSWORD
from tests.support.client import Response
from tests.support.concurrency import wait_until
from tests.support.proxy import HeldRefresh, Proxy, first, problem, respond
from tests.support.server import Server
from tests.support.tabs import EMPTY_STORAGE, STORAGE, hold_timers, open_signed_in_tab, open_tab, state_of

REJECTED = problem(403, "access_token_invalid")


def allow_all_origins(headers: str) -> Response:
    """Return a response that allows requests of any origin with `headers`."""
    return respond(200, ("Access-Control-Allow-Origin", "*"), ("Access-Control-Allow-Headers", headers))


def test_scripts_cannot_read_a_token(proxy: Proxy, context: BrowserContext) -> None:
    page = open_signed_in_tab(proxy, context)
    page.evaluate("client.reauthenticate('wrong').catch(() => null)")
    page.evaluate("call('/api/protected')")
    assert page.evaluate(STORAGE) == EMPTY_STORAGE
    assert page.evaluate("JSON.stringify([client, client.user]).includes('eyJ')") is False
    assert [each["name"] for each in context.cookies()] == ["refreshToken"]


def test_token_is_sent_to_listed_origins_only(server: Server, proxy: Proxy, context: BrowserContext) -> None:
    page = open_signed_in_tab(proxy, context)
    with Proxy(server.port) as other:
        allowed = allow_all_origins("authorization")
        other.intercept = lambda _path: allowed
        url = f"{other.origin}/api/protected"
        assert page.evaluate("url => call(url)", url) == 200
        assert [each.bearer for each in other.exchanges] == [None]
        page.evaluate(
            """async url => {
                const { createClient } = await import("/static/tokenapp.js");
                const second = createClient({ origins: [url] });
                await second.restore();
                await second.fetch(url);
            }""",
            url,
        )
        assert (other.exchanges[-1].method, (other.exchanges[-1].bearer or "")[:7]) == ("GET", "Bearer ")


def test_token_does_not_follow_a_redirect_to_another_origin(
    server: Server, proxy: Proxy, context: BrowserContext
) -> None:
    page = open_signed_in_tab(proxy, context)
    with Proxy(server.port) as other:
        allowed = allow_all_origins("*")
        other.intercept = lambda _path: allowed
        proxy.intercept = first("/api/protected", respond(302, ("Location", f"{other.origin}/there")))
        assert page.evaluate("call('/api/protected')") == 200
        assert [(each.path, each.bearer) for each in other.exchanges] == [("/there", None)]


def test_authorization_header_of_the_caller_is_kept(proxy: Proxy, context: BrowserContext) -> None:
    page = open_signed_in_tab(proxy, context)
    assert page.evaluate("call('/api/protected', {headers: {Authorization: 'Bearer mine'}})") == 403
    assert (proxy.exchanges[-1].bearer, proxy.count("/api/token")) == ("Bearer mine", 0)


def test_rejected_token_is_replaced_and_the_request_repeated_with_its_body(
    proxy: Proxy, context: BrowserContext
) -> None:
    page = open_signed_in_tab(proxy, context)
    proxy.intercept = first("/api/reauthenticate", REJECTED)
    page.evaluate("password => client.reauthenticate(password)", PASSWORD)
    sent = [each for each in proxy.exchanges if each.path == "/api/reauthenticate"]
    assert [each.status for each in sent] == [403, 200]
    assert (sent[0].body == sent[1].body != b"", sent[0].bearer == sent[1].bearer) == (True, False)
    page.evaluate("call('/api/protected')")
    assert proxy.exchanges[-1].bearer not in {each.bearer for each in sent}  # it is the fresh token


@pytest.mark.parametrize("script", ["", "delete Navigator.prototype.locks;"], ids=["with locks", "without"])
def test_rejections_of_simultaneous_requests_lead_to_one_refresh(
    proxy: Proxy, context: BrowserContext, script: str
) -> None:
    context.add_init_script(script)
    page = open_signed_in_tab(proxy, context)
    challenge = respond(401, ("WWW-Authenticate", 'Bearer realm="x", error="invalid_token"'))
    proxy.intercept = first("/api/protected", *[challenge] * 20)
    assert page.evaluate("burst(20, '/api/protected')") == [200] * 20
    assert proxy.count("/api/token") == 1


def test_tab_waits_for_the_refresh_of_another_tab_and_uses_its_token(proxy: Proxy, context: BrowserContext) -> None:
    context.add_init_script(hold_timers("delay === 50"))  # the time that other tabs have to respond
    pages = [open_signed_in_tab(proxy, context), open_tab(proxy, context)]
    pages[1].evaluate("client.restore()")
    proxy.intercept = first("/api/protected", *[REJECTED] * 2)
    proxy.deliver = held = HeldRefresh()
    pages[0].evaluate("window.pending = call('/api/protected'); null")
    wait_until(held.received.is_set, what="the refresh")
    pages[1].evaluate("window.pending = call('/api/protected'); null")
    pages[1].wait_for_function("navigator.locks.query().then(({ pending }) => pending.length === 1)")
    held.release.set()
    assert [page.evaluate("pending") for page in pages] == [200, 200]
    assert proxy.count("/api/token") == 1


@pytest.mark.parametrize(
    "response",
    [respond(401), respond(403), problem(401, "reauthentication_required"), problem(403, "cross_site_request")],
    ids=["401", "403", "reauthentication_required", "cross_site_request"],
)
def test_other_errors_do_not_lead_to_a_refresh(proxy: Proxy, context: BrowserContext, response: Response) -> None:
    page = open_signed_in_tab(proxy, context)
    proxy.intercept = first("/api/protected", response)
    assert page.evaluate("call('/api/protected')") == response.status
    assert proxy.count("/api/token") == 0


def test_api_that_rejects_all_tokens_leads_to_one_refresh(proxy: Proxy, context: BrowserContext) -> None:
    page = open_signed_in_tab(proxy, context)
    proxy.intercept = lambda path: REJECTED if path == "/api/protected" else None
    for _ in range(5):
        assert page.evaluate("call('/api/protected')") == 403
    assert (proxy.count("/api/token"), state_of(page)[0]) == (1, "signed-in")


def test_caller_can_abort_while_the_client_refreshes(proxy: Proxy, context: BrowserContext) -> None:
    page = open_signed_in_tab(proxy, context)
    proxy.intercept = first("/api/protected", REJECTED)
    proxy.deliver = held = HeldRefresh()
    assert page.evaluate("call('/api/protected', {signal: AbortSignal.timeout(300)})") == "TimeoutError"
    assert proxy.count("/api/token") == 0  # the refresh itself continues
    held.release.set()
    assert page.evaluate("call('/api/protected')") == 200
