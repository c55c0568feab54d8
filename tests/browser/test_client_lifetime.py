"""The browser client: how long sessions last, and pages of another origin."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from playwright.sync_api import BrowserContext, Page

from tests.support.account_scenes import Site
from tests.support.app import PASSWORD
from tests.support.proxy import Proxy
from tests.support.server import Server
from tests.support.tabs import (
    BEN,
    CLOCK,
    create_client,
    expect_reasons,
    open_signed_in_tab,
    open_tab,
    return_to,
    show,
    sign_in,
    state_of,
)
from tokenapp.db import execute_now
from tokenapp.models import Session

DAYS = 24 * 3600 * 1000
WAKE_UP = "() => { slept = 850_000; dispatchEvent(new Event('online')); }"
EVENTS = {"shown": show, "restored from the back/forward cache": return_to}


@pytest.fixture
def account(server: Server) -> Iterator[Proxy]:
    """Give another origin of the same site: its pages share the cookie only."""
    with Proxy(server.port) as other:
        yield other


def end_in(seconds: int, site: Site, page: Page) -> datetime:
    """Let the session of a tab, as if an hour old, end soon; return the end."""
    sid, now = page.evaluate("client.user.sessionId"), datetime.now(UTC)
    end = now + timedelta(seconds=seconds)
    values = {"authenticated_at": now - timedelta(hours=1), "ends_at": end, "expires_at": end}
    with site.app.app_context():
        execute_now(sa.update(Session).where(Session.id == sid).values(**values))
    return end


def restored_tab(proxy: Proxy, context: BrowserContext) -> Page:
    """Open a tab of a session that another origin has opened."""
    page = open_tab(proxy, context)
    page.evaluate("client.restore()")
    return page


# Refreshes


def test_visible_page_refreshes_by_itself(proxy: Proxy, either: BrowserContext) -> None:
    either.add_init_script(CLOCK)
    page = open_signed_in_tab(proxy, either)
    with page.expect_response("**/api/token"):
        page.evaluate(WAKE_UP)


def test_page_that_refreshes_when_used_does_so_at_the_next_call(proxy: Proxy, either: BrowserContext) -> None:
    either.add_init_script(CLOCK)
    page = open_tab(proxy, either)
    create_client(page, refresh="when-used")
    sign_in(page)
    page.evaluate(WAKE_UP)
    page.wait_for_timeout(500)  # ten times what a refresh waits for other tabs
    assert (proxy.count("/api/token"), state_of(page)) == (0, ["signed-in", "alice"])
    assert page.evaluate("call('/api/protected')") == 200
    assert proxy.count("/api/token") == 1


def test_page_that_refreshes_when_used_sets_no_timer(proxy: Proxy, either: BrowserContext) -> None:
    either.add_init_script("""{
        const start = setTimeout;
        window.delays = [];
        window.setTimeout = (work, delay, ...more) => { delays.push(delay); return start(work, delay, ...more); };
    }""")
    page = open_tab(proxy, either)
    create_client(page, refresh="when-used")
    sign_in(page)
    until_refresh = "delays.filter(each => 600_000 < each && each < 900_000).length"
    assert page.evaluate(until_refresh) == 0
    create_client(page)
    sign_in(page)
    assert page.evaluate(until_refresh) == 1


# The end of the session


def test_end_of_the_session_is_known(proxy: Proxy, either: BrowserContext) -> None:
    page = open_tab(proxy, either)
    assert page.evaluate("client.sessionEndsAt") is None
    sign_in(page)
    assert page.evaluate("client.sessionEndsAt - Date.now()") == pytest.approx(30 * DAYS, abs=60_000)
    page.evaluate("client.signOut()")
    assert page.evaluate("client.sessionEndsAt") is None


def test_end_of_the_session_does_not_depend_on_the_clock_of_the_machine(proxy: Proxy, context: BrowserContext) -> None:
    context.add_init_script(CLOCK)
    page = open_tab(proxy, context)
    page.evaluate("slept = 5 * 3600_000; null")
    sign_in(page)
    assert page.evaluate("client.sessionEndsAt - Date.now()") == pytest.approx(30 * DAYS, abs=60_000)


def test_end_of_the_session_stays_the_same_value_when_the_token_is_refreshed(
    proxy: Proxy, either: BrowserContext
) -> None:
    page = open_signed_in_tab(proxy, either)
    before = page.evaluate("client.sessionEndsAt")
    with page.expect_response("**/api/token"):
        show(page)
    assert page.evaluate("call('/api/protected')") == 200
    assert page.evaluate("client.sessionEndsAt") == before


def test_listeners_are_called_before_and_at_the_end_of_the_session(
    site: Site, proxy: Proxy, either: BrowserContext
) -> None:
    page = open_signed_in_tab(proxy, either)
    page.evaluate("""() => client.onChange(({ reason, user, endsAt }) => {
        if (reason === "session-ending") window.seen = [user === client.user, endsAt === client.sessionEndsAt];
    })""")
    end = end_in(6, site, page)
    show(page)
    expect_reasons(page, "signed-in", "session-ending", "session-ended")
    assert datetime.now(UTC) > end - timedelta(seconds=1)  # tokens state the end in whole seconds
    assert page.evaluate("seen") == [True, True]
    # The cookie expires at the same time, and browsers then send none.
    assert page.evaluate("changes[2].error.code") in {"refresh_token_expired", "refresh_token_missing"}
    assert proxy.count("/api/token") <= 5


def test_reauthentication_before_the_end_opens_a_session_that_lasts(
    site: Site, proxy: Proxy, context: BrowserContext
) -> None:
    page = open_signed_in_tab(proxy, context)
    end_in(120, site, page)
    show(page)
    expect_reasons(page, "signed-in", "session-ending")
    page.evaluate("password => client.reauthenticate(password)", PASSWORD)
    assert page.evaluate("client.sessionEndsAt - Date.now()") == pytest.approx(30 * DAYS, abs=60_000)
    show(page)
    assert page.evaluate("call('/api/protected')") == 200
    assert page.evaluate("reasons") == ["signed-in", "session-ending"]


# Pages of another origin


@pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS)
def test_sign_out_on_another_origin_is_noticed_when_the_page_is(
    proxy: Proxy, account: Proxy, either: BrowserContext, event: Callable[[Page], None]
) -> None:
    page = open_signed_in_tab(proxy, either)
    restored_tab(account, either).evaluate("client.signOut()")
    event(page)
    expect_reasons(page, "signed-in", "session-ended")
    assert (state_of(page), page.evaluate("changes[1].error.code")) == (
        ["signed-out", None],
        "refresh_token_missing",
    )


def test_sign_out_on_another_origin_is_noticed_by_a_page_that_refreshes_when_used(
    proxy: Proxy, account: Proxy, context: BrowserContext
) -> None:
    page = open_tab(proxy, context)
    create_client(page, refresh="when-used")
    sign_in(page)
    restored_tab(account, context).evaluate("client.signOut()")
    show(page)
    expect_reasons(page, "signed-in", "session-ended")


def test_other_user_who_signed_in_on_another_origin_is_noticed(
    proxy: Proxy, account: Proxy, either: BrowserContext
) -> None:
    page = open_signed_in_tab(proxy, either)
    sign_in(open_tab(account, either), BEN)
    show(page)
    expect_reasons(page, "signed-in", "signed-in")
    assert state_of(page) == ["signed-in", "ben"]


def test_reauthentication_on_another_origin_keeps_the_user_signed_in(
    proxy: Proxy, account: Proxy, either: BrowserContext
) -> None:
    page, elsewhere = open_signed_in_tab(proxy, either), restored_tab(account, either)
    elsewhere.evaluate("password => client.reauthenticate(password)", PASSWORD)
    show(page)
    page.wait_for_function("sid => client.user.sessionId === sid", arg=elsewhere.evaluate("client.user.sessionId"))
    assert (state_of(page), page.evaluate("reasons")) == (["signed-in", "alice"], ["signed-in"])


def test_sign_in_on_another_origin_is_noticed_by_a_page_from_the_back_forward_cache(
    proxy: Proxy, account: Proxy, either: BrowserContext
) -> None:
    page = restored_tab(proxy, either)
    open_signed_in_tab(account, either)
    return_to(page)
    expect_reasons(page, "signed-out", "signed-in")


def test_page_that_is_shown_while_the_service_is_unavailable_keeps_its_user(
    proxy: Proxy, context: BrowserContext
) -> None:
    page = open_signed_in_tab(proxy, context)
    context.set_offline(offline=True)
    with page.expect_event("requestfailed"):
        show(page)
    assert state_of(page) == ["signed-in", "alice"]
    context.set_offline(offline=False)
    assert page.evaluate("call('/api/protected')") == 200


def test_page_that_is_loaded_makes_one_request_for_its_token(proxy: Proxy, context: BrowserContext) -> None:
    page = open_signed_in_tab(proxy, context)
    page.goto(f"{proxy.origin}/page")
    page.evaluate("window.shown = new Promise(resolve => addEventListener('pageshow', resolve)); null")
    create_client(page)
    page.evaluate("client.restore()")
    page.evaluate("void dispatchEvent(new PageTransitionEvent('pageshow', { persisted: false }))")
    assert page.evaluate("call('/api/protected')") == 200
    assert proxy.count("/api/token") == 1
