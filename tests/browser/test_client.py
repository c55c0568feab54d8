"""The browser client in Chromium, in tabs that share a cookie, with the service under gunicorn behind a proxy."""

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from tests.conftest import Databases
from tests.support.app import PASSWORD, application, create_user
from tests.support.chromium import chromium
from tests.support.concurrency import wait_until
from tests.support.proxy import CLOCK, Answer, Held, Proxy, refusal
from tests.support.server import Server

SIGN_IN = "([name, password]) => client.signIn(name, password)"
ALICE = ["alice", PASSWORD]
LOOK_INTO_STORAGE = """async () => [
    { ...localStorage }, { ...sessionStorage }, document.cookie, await indexedDB.databases(), await caches.keys(),
]"""
LISTEN = """() => {
    window.heard = [];
    window.channel = new BroadcastChannel(`tokenapp ${location.origin}`);
    channel.onmessage = ({ data }) => heard.push(data);
}"""
TAKE_LOCK = """() => new Promise(taken =>
    navigator.locks.request(`tokenapp ${location.origin}`, () => new Promise(() => taken()))
)"""
# Some waits become so long that a test which has to wait for their end fails.
STRETCH = """{
    const wait = setTimeout;
    window.setTimeout = (work, delay, ...more) => wait(work, %s ? delay * 100 : delay, ...more);
}"""
HOLDERS = """() => navigator.locks.query().then(({ held }) => held.map(each => [each.name, each.clientId]))"""


@pytest.fixture(scope="module")
def server(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Give the service, with two users."""
    url = databases("sqlite")
    with application(url) as app:
        for name in ("alice", "ben"):
            create_user(app, name)
    with Server(url, log=tmp_path_factory.mktemp("client") / "server.log") as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Give a browser for all tests."""
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def one_proxy(server: Server) -> Iterator[Proxy]:
    """Give the proxy for all tests."""
    with Proxy(server.port) as proxy:
        yield proxy


@pytest.fixture
def proxy(one_proxy: Proxy) -> Proxy:
    """Give the proxy, which has seen nothing and does nothing yet."""
    one_proxy.reset()
    return one_proxy


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """Give a browser that nobody has signed in with."""
    context = browser.new_context()
    yield context
    context.close()


def signed_in(proxy: Proxy, context: BrowserContext) -> Page:
    """Open a tab and sign in there."""
    page = proxy.open(context)
    page.evaluate(SIGN_IN, ALICE)
    return page


def state_of(page: Page) -> Any:
    return page.evaluate("[client.state, client.user?.username ?? null]")


def told(page: Page, *reasons: str) -> None:
    """Wait until a tab has been told of just this."""
    page.wait_for_function("many => told.length >= many", arg=len(reasons))
    assert page.evaluate("told") == list(reasons)


def first(path: str, *answers: Answer) -> Callable[[str], Answer | None]:
    """Answer the first requests for `path` so, and let all others pass."""
    left = list(answers)
    return lambda asked: left.pop(0) if asked == path and left else None


def end_elsewhere(server: Server, page: Page) -> None:
    """End a tab's session from another device."""
    bearer = server.client.login().json["accessToken"]
    sid = page.evaluate("client.user.sessionId")
    assert server.client.send("DELETE", f"/api/sessions/{sid}", bearer=bearer).status == 204


# Signing in and out.


def test_who_signs_in_is_known(proxy: Proxy, context: BrowserContext) -> None:
    page = proxy.open(context)
    user = page.evaluate(SIGN_IN, ALICE)
    assert (user["username"], user == page.evaluate("client.user")) == ("alice", True)
    assert page.evaluate("call('/api/protected')") == 200
    told(page, "signed-in")


def test_a_wrong_password_is_refused_in_the_words_of_the_service(proxy: Proxy, context: BrowserContext) -> None:
    page = proxy.open(context)
    assert page.evaluate("failureOf(client.signIn('ben', 'wrong'))") == [401, "invalid_credentials", None]
    assert page.evaluate("told") == []


def test_a_reload_keeps_the_person_signed_in(proxy: Proxy, context: BrowserContext) -> None:
    page = signed_in(proxy, context)
    proxy.reload(page)
    assert state_of(page) == ["unknown", None]
    assert page.evaluate("client.restore()")["username"] == "alice"


def test_a_new_tab_gets_the_token_of_another_without_a_request(proxy: Proxy, context: BrowserContext) -> None:
    context.add_init_script(STRETCH % "delay === 50")  # for as long as other tabs are given to answer
    signed_in(proxy, context)
    assert proxy.open(context).evaluate("client.restore()")["username"] == "alice"
    assert proxy.count("/api/token") == 0


def test_without_a_session_nobody_is_signed_in_and_the_service_is_asked_once(
    proxy: Proxy, context: BrowserContext
) -> None:
    page = proxy.open(context)
    assert page.evaluate("client.restore()") is None
    assert page.evaluate("burst(20, '/api/protected')") == [401] * 20
    assert (state_of(page)[0], proxy.count("/api/token")) == ("signed-out", 1)


def test_a_sign_in_in_one_tab_signs_all_in(proxy: Proxy, context: BrowserContext) -> None:
    others = [proxy.open(context) for _ in range(2)]
    signed_in(proxy, context)
    for page in others:
        told(page, "signed-in")
        assert page.evaluate("call('/api/protected')") == 200


def test_a_sign_out_in_one_tab_signs_all_out(proxy: Proxy, context: BrowserContext) -> None:
    pages = [signed_in(proxy, context), *(proxy.open(context) for _ in range(2))]
    for page in pages:
        page.evaluate("client.restore()")
    pages[1].evaluate("client.signOut()")
    for page in pages:
        told(page, "signed-in", "signed-out")
        assert page.evaluate("call('/api/protected')") == 401
    proxy.reload(pages[0])
    assert pages[0].evaluate("client.restore()") is None


def test_a_session_ended_from_another_device_ends_here_within_the_next_request(
    server: Server, proxy: Proxy, context: BrowserContext
) -> None:
    pages = [signed_in(proxy, context), proxy.open(context)]
    pages[1].evaluate("client.restore()")
    end_elsewhere(server, pages[0])
    wait_until(lambda: pages[0].evaluate("call('/api/protected')") == 403 or state_of(pages[0])[0] == "signed-out")
    for page in pages:
        told(page, "signed-in", "session-ended")


def test_refusals_are_told_once_and_not_asked_for_again(server: Server, proxy: Proxy, context: BrowserContext) -> None:
    page = signed_in(proxy, context)
    end_elsewhere(server, page)
    wait_until(lambda: page.evaluate("call('/api/protected')") != 200, what="the end of the session")
    page.evaluate("burst(20, '/api/protected')")
    assert (page.evaluate("told"), proxy.count("/api/token")) == (["signed-in", "session-ended"], 1)


def test_a_sign_out_wins_over_a_refresh_that_is_under_way(proxy: Proxy, context: BrowserContext) -> None:
    page = signed_in(proxy, context)
    proxy.instead = first("/api/protected", refusal(403, "access_token_invalid"))
    proxy.after = held = Held()
    page.evaluate("window.late = call('/api/protected'); null")
    wait_until(held.asked.is_set, what="the refresh")
    page.evaluate("client.signOut()")
    held.goes_on.set()
    assert page.evaluate("late") == 403
    assert (state_of(page), page.evaluate("told")) == (["signed-out", None], ["signed-in", "signed-out"])


def test_a_sign_out_that_is_under_way_wins_over_a_refresh_that_begins_later(
    proxy: Proxy, context: BrowserContext
) -> None:
    pages = [signed_in(proxy, context), proxy.open(context)]
    pages[1].evaluate("client.restore()")
    asked, goes_on = threading.Event(), threading.Event()

    def hold_logout(path: str) -> None:
        if path == "/api/logout":
            asked.set()
            goes_on.wait(30)

    proxy.instead = hold_logout
    pages[0].evaluate("window.done = client.signOut(); null")
    wait_until(asked.is_set, what="the sign-out")
    told(pages[1], "signed-in", "signed-out")
    assert pages[1].evaluate("client.restore()") is None
    assert proxy.passed[-1].status == 200  # the service had not heard of it yet
    goes_on.set()
    pages[0].evaluate("done")
    assert [state_of(page)[0] for page in pages] == ["signed-out"] * 2


def test_a_sign_out_that_the_service_did_not_hear_of_is_reported(proxy: Proxy, context: BrowserContext) -> None:
    page = signed_in(proxy, context)
    proxy.instead = lambda path: refusal(503, "service_unavailable", Retry_After="60") if "logout" in path else None
    assert page.evaluate("failureOf(client.signOut())") == [503, "service_unavailable", 60]
    assert state_of(page) == ["signed-out", None]
    proxy.reset()
    page.evaluate("client.signOut()")
    assert page.evaluate("client.restore()") is None


def test_a_sign_out_that_is_tried_again_does_not_end_what_another_tab_began_meanwhile(
    proxy: Proxy, context: BrowserContext
) -> None:
    pages = [signed_in(proxy, context), proxy.open(context)]
    former = pages[0].evaluate("client.user.sessionId")
    proxy.instead = first("/api/logout", refusal(503, "service_unavailable", Retry_After="3"))
    pages[0].evaluate("window.done = failureOf(client.signOut()); null")
    wait_until(lambda: proxy.count("/api/logout") == 1, what="the sign-out")
    user = pages[1].evaluate(SIGN_IN, ["ben", PASSWORD])
    assert pages[0].evaluate("done") is None
    assert [state_of(page) for page in pages] == [["signed-in", "ben"]] * 2
    pages[1].close()
    proxy.reload(pages[0])
    assert pages[0].evaluate("client.restore()") == user
    assert user["sessionId"] != former
    assert (proxy.passed[-1].path, proxy.passed[-1].status) == ("/api/token", 200)


def test_a_sign_in_does_not_wait_until_a_sign_out_has_been_tried_again(proxy: Proxy, context: BrowserContext) -> None:
    context.add_init_script(STRETCH % "delay > 7000 && delay < 12000")
    page = signed_in(proxy, context)
    busy = refusal(503, "service_unavailable", Retry_After="8")
    proxy.instead = lambda path: busy if path == "/api/logout" else None
    page.evaluate("window.done = failureOf(client.signOut()); null")
    wait_until(lambda: proxy.count("/api/logout") == 1, what="the sign-out")
    assert page.evaluate(SIGN_IN, ["ben", PASSWORD])["username"] == "ben"
    assert page.evaluate("done") == [503, "service_unavailable", 8]
    assert proxy.count("/api/logout") == 1
    told(page, "signed-in", "signed-out", "signed-in")


def test_what_one_person_asked_for_is_not_done_in_anothers_name(proxy: Proxy, context: BrowserContext) -> None:
    page = signed_in(proxy, context)
    context.request.post(f"{proxy.origin}/api/login", data={"username": "ben", "password": PASSWORD})
    wait_until(lambda: page.evaluate("call('/api/protected', {cache: 'no-store'})") == 403, what="the end of a session")
    assert state_of(page) == ["signed-in", "ben"]
    assert proxy.passed[-1].path == "/api/token"  # and not the request once more
    told(page, "signed-in", "signed-in")


def test_a_late_word_of_a_former_session_changes_nothing(proxy: Proxy, context: BrowserContext) -> None:
    pages = [proxy.open(context), proxy.open(context)]
    pages[0].evaluate(LISTEN)
    pages[1].evaluate(SIGN_IN, ALICE)
    pages[0].wait_for_function("heard.length > 0")
    pages[1].evaluate(SIGN_IN, ["ben", PASSWORD])
    told(pages[1], "signed-in", "signed-in")
    pages[0].evaluate("heard.slice().forEach(message => channel.postMessage(message))")
    pages[0].evaluate("password => client.reauthenticate(password)", PASSWORD)
    pages[1].wait_for_function("client.user")
    assert [state_of(page) for page in pages] == [["signed-in", "ben"]] * 2
    assert pages[1].evaluate("told") == ["signed-in", "signed-in"]


def test_the_password_given_again_makes_a_fresh_token(proxy: Proxy, context: BrowserContext) -> None:
    page = signed_in(proxy, context)
    assert page.evaluate("failureOf(client.reauthenticate('wrong'))") == [401, "invalid_credentials", None]
    before = proxy.passed[-1].bearer
    page.evaluate("password => client.reauthenticate(password)", PASSWORD)
    page.evaluate("call('/api/protected')")
    assert proxy.passed[-1].bearer not in {before, None}
    assert proxy.count("/api/token") == 0


def test_a_listener_hears_nothing_more_once_it_has_left(proxy: Proxy, context: BrowserContext) -> None:
    page = proxy.open(context)
    page.evaluate("client.onChange(() => told.push('again'))()")
    page.evaluate(SIGN_IN, ALICE)
    assert page.evaluate("told") == ["signed-in"]


def test_a_closed_client_has_no_token(proxy: Proxy, context: BrowserContext) -> None:
    page = signed_in(proxy, context)
    page.evaluate("client.close()")
    assert (state_of(page)[1], page.evaluate("call('/api/protected')")) == (None, 401)


# Where tokens are.


def test_no_storage_and_no_script_holds_a_token(proxy: Proxy, context: BrowserContext) -> None:
    page = signed_in(proxy, context)
    page.evaluate("client.reauthenticate('wrong').catch(() => null)")
    page.evaluate("call('/api/protected')")
    assert page.evaluate(LOOK_INTO_STORAGE) == [{}, {}, "", [], []]
    assert page.evaluate("JSON.stringify([client, client.user]).includes('eyJ')") is False
    assert [each["name"] for each in context.cookies()] == ["refreshToken"]


def test_the_token_goes_to_no_origin_that_is_not_listed(server: Server, proxy: Proxy, context: BrowserContext) -> None:
    page = signed_in(proxy, context)
    with Proxy(server.port) as other:
        answer = Answer(200, [("Access-Control-Allow-Origin", "*"), ("Access-Control-Allow-Headers", "authorization")])
        other.instead = lambda _path: answer
        url = f"{other.origin}/api/protected"
        assert page.evaluate("url => call(url)", url) == 200
        assert [each.bearer for each in other.passed] == [None]
        page.evaluate(
            """async url => {
                const { createClient } = await import("/static/tokenapp.js");
                const second = createClient({ origins: [url] });
                await second.restore();
                await second.fetch(url);
            }""",
            url,
        )
        assert (other.passed[-1].method, (other.passed[-1].bearer or "")[:7]) == ("GET", "Bearer ")


def test_the_token_does_not_follow_a_redirect_to_another_origin(
    server: Server, proxy: Proxy, context: BrowserContext
) -> None:
    page = signed_in(proxy, context)
    with Proxy(server.port) as other:
        answer = Answer(200, [("Access-Control-Allow-Origin", "*"), ("Access-Control-Allow-Headers", "*")])
        other.instead = lambda _path: answer
        proxy.instead = first("/api/protected", Answer(302, [("Location", f"{other.origin}/there")]))
        assert page.evaluate("call('/api/protected')") == 200
        assert [(each.path, each.bearer) for each in other.passed] == [("/there", None)]


def test_a_header_of_the_callers_own_is_left_alone(proxy: Proxy, context: BrowserContext) -> None:
    page = signed_in(proxy, context)
    assert page.evaluate("call('/api/protected', {headers: {Authorization: 'Bearer mine'}})") == 403
    assert (proxy.passed[-1].bearer, proxy.count("/api/token")) == ("Bearer mine", 0)


# Requests.


def test_a_refused_token_is_replaced_and_the_request_sent_again_with_its_body(
    proxy: Proxy, context: BrowserContext
) -> None:
    page = signed_in(proxy, context)
    proxy.instead = first("/api/reauthenticate", refusal(403, "access_token_invalid"))
    page.evaluate("password => client.reauthenticate(password)", PASSWORD)
    sent = [each for each in proxy.passed if each.path == "/api/reauthenticate"]
    assert [each.status for each in sent] == [403, 200]
    assert (sent[0].body == sent[1].body != b"", sent[0].bearer == sent[1].bearer) == (True, False)
    page.evaluate("call('/api/protected')")
    assert proxy.passed[-1].bearer not in {each.bearer for each in sent}  # but the fresh token that this was about


@pytest.mark.parametrize("script", ["", "delete Navigator.prototype.locks;"], ids=["with locks", "without"])
def test_refusals_of_simultaneous_requests_lead_to_one_refresh(
    proxy: Proxy, context: BrowserContext, script: str
) -> None:
    context.add_init_script(script)
    page = signed_in(proxy, context)
    challenge = Answer(401, [("WWW-Authenticate", 'Bearer realm="x", error="invalid_token"')])
    proxy.instead = first("/api/protected", *[challenge] * 20)
    assert page.evaluate("burst(20, '/api/protected')") == [200] * 20
    assert proxy.count("/api/token") == 1


def test_a_tab_waits_for_the_refresh_of_another_and_needs_none_of_its_own(
    proxy: Proxy, context: BrowserContext
) -> None:
    pages = [signed_in(proxy, context), proxy.open(context)]
    pages[1].evaluate("client.restore()")
    proxy.instead = first("/api/protected", *[refusal(403, "access_token_invalid")] * 2)
    proxy.after = held = Held()
    pages[0].evaluate("window.late = call('/api/protected'); null")
    wait_until(held.asked.is_set, what="the refresh")
    pages[1].evaluate("window.late = call('/api/protected'); null")
    pages[1].wait_for_function("navigator.locks.query().then(({ pending }) => pending.length === 1)")
    held.goes_on.set()
    assert [page.evaluate("late") for page in pages] == [200, 200]
    assert proxy.count("/api/token") == 1


@pytest.mark.parametrize(
    "answer", [Answer(401), Answer(403), refusal(401, "reauthentication_required"), refusal(403, "cross_site_request")]
)
def test_a_refusal_of_something_else_is_no_cause_to_refresh(
    proxy: Proxy, context: BrowserContext, answer: Answer
) -> None:
    page = signed_in(proxy, context)
    proxy.instead = first("/api/protected", answer)
    assert page.evaluate("call('/api/protected')") == answer.status
    assert proxy.count("/api/token") == 0


def test_an_api_that_refuses_every_token_does_not_make_us_refresh_each_time(
    proxy: Proxy, context: BrowserContext
) -> None:
    page = signed_in(proxy, context)
    proxy.instead = lambda path: refusal(403, "access_token_invalid") if path == "/api/protected" else None
    for _ in range(5):
        assert page.evaluate("call('/api/protected')") == 403
    assert (proxy.count("/api/token"), state_of(page)[0]) == (1, "signed-in")


def test_a_caller_may_give_up_while_the_client_refreshes(proxy: Proxy, context: BrowserContext) -> None:
    page = signed_in(proxy, context)
    proxy.instead = first("/api/protected", refusal(403, "access_token_invalid"))
    proxy.after = held = Held()
    assert page.evaluate("call('/api/protected', {signal: AbortSignal.timeout(300)})") == "TimeoutError"
    assert proxy.count("/api/token") == 0  # the client itself goes on waiting
    held.goes_on.set()
    assert page.evaluate("call('/api/protected')") == 200


# Bad times.


def test_while_the_service_is_away_nobody_is_signed_out(proxy: Proxy, context: BrowserContext) -> None:
    page = signed_in(proxy, context)
    proxy.reload(page)
    context.set_offline(offline=True)
    for _ in range(7):  # after so many failures the client looks again in minutes, unless it is told of the network
        assert page.evaluate("client.restore()") is None
    assert state_of(page) == ["unknown", None]
    assert page.evaluate("failureOf(client.fetch('/api/protected'))")[:2] == [0, "network_error"]
    context.set_offline(offline=False)
    told(page, "signed-in")


def test_nothing_hangs_while_the_service_does(proxy: Proxy, context: BrowserContext) -> None:
    page, goes_on = proxy.open(context), threading.Event()
    proxy.after = lambda _path, _answer: goes_on.wait(60)
    assert page.evaluate(f"failureOf(({SIGN_IN})({json.dumps(ALICE)}))") == [0, "timeout", None]
    goes_on.set()


def test_a_refresh_waits_as_long_as_the_service_asks(proxy: Proxy, context: BrowserContext) -> None:
    page = signed_in(proxy, context)
    proxy.reload(page)
    busy = refusal(503, "service_unavailable", Retry_After="1")
    proxy.instead = first("/api/token", busy, refusal(429, "too_many_attempts", Retry_After="1"))
    page.evaluate("window.began = performance.now()")
    assert page.evaluate("client.restore()")["username"] == "alice"
    assert page.evaluate("performance.now() - began") >= 2000
    assert [each.status for each in proxy.passed if each.path == "/api/token"] == [503, 429, 200]


def test_a_service_that_asks_for_a_long_pause_is_left_alone(proxy: Proxy, context: BrowserContext) -> None:
    page = signed_in(proxy, context)
    proxy.reload(page)
    proxy.instead = first("/api/token", *[refusal(503, "service_unavailable", Retry_After="120")] * 50)
    assert page.evaluate("client.restore()") is None
    assert page.evaluate("burst(20, '/api/protected')") == ["ApiError"] * 20
    assert (state_of(page)[0], proxy.count("/api/token")) == ("unknown", 1)


def test_a_pause_that_was_asked_for_does_not_outlast_a_clock_that_is_put_back(
    proxy: Proxy, context: BrowserContext
) -> None:
    context.add_init_script(CLOCK)
    page = signed_in(proxy, context)
    proxy.reload(page)
    page.evaluate("slept = 5 * 3600_000; null")
    proxy.instead = first("/api/token", refusal(503, "service_unavailable", Retry_After="120"))
    assert page.evaluate("client.restore()") is None
    assert page.evaluate("client.restore()") is None
    assert proxy.count("/api/token") == 1
    page.evaluate("slept = 0; null")
    assert page.evaluate("client.restore()")["username"] == "alice"


def test_an_api_that_refused_every_token_is_tried_anew_when_the_clock_is_put_back(
    proxy: Proxy, context: BrowserContext
) -> None:
    context.add_init_script(CLOCK)
    page = proxy.open(context)
    page.evaluate("slept = 5 * 3600_000; null")
    page.evaluate(SIGN_IN, ALICE)
    proxy.instead = first("/api/protected", *[refusal(403, "access_token_invalid")] * 3)
    assert page.evaluate("call('/api/protected')") == 403
    page.evaluate("slept = 0; null")
    assert page.evaluate("call('/api/protected')") == 200


def test_an_answer_without_a_token_is_none_of_the_services(proxy: Proxy, context: BrowserContext) -> None:
    page = proxy.open(context)
    proxy.instead = first("/api/login", Answer(204))
    assert page.evaluate(f"failureOf(({SIGN_IN})({json.dumps(ALICE)}))") == [0, "network_error", None]
    page.evaluate(SIGN_IN, ALICE)
    proxy.reload(page)
    proxy.instead = first("/api/token", Answer(204))
    assert page.evaluate("client.restore()")["username"] == "alice"


def test_a_page_in_the_services_place_signs_nobody_out(proxy: Proxy, context: BrowserContext) -> None:
    page = signed_in(proxy, context)
    proxy.reload(page)
    portal = Answer(403, [("Content-Type", "text/html")], b"<h1>Welcome to the hotel</h1>")
    proxy.instead = first("/api/token", portal)
    assert page.evaluate("failureOf(client.restore())") == [403, "unknown", None]
    assert state_of(page)[0] == "unknown"


def test_the_lost_answer_of_a_refresh_is_asked_for_again(proxy: Proxy, context: BrowserContext) -> None:
    page = signed_in(proxy, context)
    proxy.reload(page)
    lost = iter([False, False])
    proxy.after = lambda path, _answer: path != "/api/token" or next(lost, True)
    assert page.evaluate("client.restore()")["username"] == "alice"
    assert [each.status for each in proxy.passed if each.path == "/api/token"] == [0, 0, 200]


def test_a_cookie_that_is_on_its_way_arrives_though_the_page_is_left(proxy: Proxy, context: BrowserContext) -> None:
    page = signed_in(proxy, context)
    (before,) = context.cookies()
    proxy.reload(page)
    proxy.after = held = Held()
    page.evaluate("void client.restore()")
    wait_until(held.asked.is_set, what="the refresh")
    page.goto("about:blank")
    held.goes_on.set()
    wait_until(lambda: context.cookies()[0]["value"] != before["value"], what="the new cookie")


def test_a_lock_that_is_never_let_go_is_waited_for_a_moment_only(proxy: Proxy, context: BrowserContext) -> None:
    page, holder = signed_in(proxy, context), proxy.open(context)
    holder.evaluate(TAKE_LOCK)
    proxy.instead = first("/api/protected", refusal(403, "access_token_invalid"))
    assert page.evaluate("call('/api/protected')") == 200


def test_a_tab_that_falls_asleep_while_it_refreshes_does_not_stop_the_others(
    proxy: Proxy, context: BrowserContext
) -> None:
    pages = [signed_in(proxy, context), proxy.open(context)]
    pages[1].evaluate("client.restore()")
    proxy.instead = first("/api/protected", *[refusal(403, "access_token_invalid")] * 2)
    proxy.after = held = Held()
    pages[0].evaluate("window.late = call('/api/protected'); null")
    wait_until(held.asked.is_set, what="the refresh")
    holders = pages[1].evaluate(HOLDERS)
    assert [name for name, _ in holders] == [f"tokenapp {proxy.origin}"]
    asleep = context.new_cdp_session(pages[0])
    asleep.send("Debugger.enable")
    asleep.send("Debugger.pause")  # at the next step of its scripts, which the answer brings about
    held.goes_on.set()
    assert pages[1].evaluate("call('/api/protected')") == 200
    assert pages[1].evaluate(HOLDERS) == holders  # though its answer is there: it does sleep
    asleep.send("Debugger.disable")
    assert pages[0].evaluate("late") == 200
    assert Counter(page.evaluate("told.join()") for page in pages) == {"signed-in": 2}
