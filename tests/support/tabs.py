"""Browser tabs that use the browser client, through a proxy."""

from typing import Any, Final

from playwright.sync_api import BrowserContext, Page

from tests.support.app import PASSWORD
from tests.support.proxy import Proxy

ALICE: Final = ("alice", PASSWORD)
BEN: Final = ("ben", PASSWORD)
# What scripts of the page can read: storage, readable cookies, databases and caches.
STORAGE: Final = """async () => [
    { ...localStorage }, { ...sessionStorage }, document.cookie, await indexedDB.databases(), await caches.keys(),
]"""
EMPTY_STORAGE: Final[list[Any]] = [{}, {}, "", [], []]
# An init script: `slept` moves the clock of the tab forward, as after a suspension. The client reads no other clock.
CLOCK: Final = "{ const { now } = Date; window.slept = 0; Date.now = () => now() + slept; }"
# An init script: all timers run twenty times sooner.
SHORT_TIMERS: Final = (
    "{ const start = setTimeout; window.setTimeout = (work, delay, ...more) => start(work, delay / 20, ...more); }"
)
_SIGN_IN: Final = "([name, password]) => client.signIn(name, password)"
_START: Final = """async options => {
    const { createClient } = await import("/static/tokenapp.js");
    window.client?.close();
    window.client = createClient(options);
    window.changes = [];
    window.reasons = [];
    client.onChange(change => { changes.push(change); reasons.push(change.reason); });
    window.call = (path, init) => client.fetch(path, init).then(response => response.status, error => error.name);
    window.burst = (many, path) => Promise.all(Array.from({ length: many }, () => call(path)));
    window.failureOf = promise => promise.then(() => null, each => [each.status, each.code, each.retryAfter]);
}"""


def hold_timers(condition: str) -> str:
    """Return an init script that holds some timers until ``runTimers()`` is called.

    Args:
        condition: a JavaScript expression of `delay`.
    """
    return f"""{{
        const start = setTimeout, held = [];
        window.setTimeout = (work, delay, ...more) => {{
            if (!({condition})) return start(work, delay, ...more);
            held.push(work);
            return 0;
        }};
        window.heldTimers = () => held.length;
        window.runTimers = () => held.splice(0).forEach(work => work());
    }}"""


def shorten_timeout(milliseconds: int) -> str:
    """Return an init script that divides timeouts of exactly this length by twenty."""
    return f"""{{
        const timeout = AbortSignal.timeout.bind(AbortSignal);
        AbortSignal.timeout = delay => timeout(delay === {milliseconds} ? delay / 20 : delay);
    }}"""


def open_tab(proxy: Proxy, context: BrowserContext) -> Page:
    """Open a tab that has a client."""
    page = context.new_page()
    page.goto(f"{proxy.origin}/page")
    create_client(page)
    return page


def open_signed_in_tab(proxy: Proxy, context: BrowserContext) -> Page:
    """Open a tab and sign in as alice."""
    page = open_tab(proxy, context)
    sign_in(page)
    return page


def reload(page: Page) -> None:
    """Reload a tab, and create a client."""
    page.reload()
    create_client(page)


def create_client(page: Page, **options: Any) -> None:
    """Create a client in a tab, in place of a former one."""
    page.evaluate(_START, options)


def sign_in(page: Page, credentials: tuple[str, str] = ALICE) -> Any:
    """Sign in and return the user."""
    return page.evaluate(_SIGN_IN, credentials)


def sign_in_failure(page: Page, credentials: tuple[str, str] = ALICE) -> Any:
    """Sign in and return the status, code and `Retry-After` of the error, or None."""
    return page.evaluate(f"credentials => failureOf(({_SIGN_IN})(credentials))", credentials)


def show(page: Page) -> None:
    """Tell a tab that it is shown, as when the user returns to it."""
    page.evaluate("void document.dispatchEvent(new Event('visibilitychange'))")


def return_to(page: Page) -> None:
    """Tell a tab that it was restored from the back/forward cache."""
    page.evaluate("void dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")


def state_of(page: Page) -> list[str | None]:
    """Return the state of the client, and the name of its user."""
    state: list[str | None] = page.evaluate("[client.state, client.user?.username ?? null]")
    return state


def expect_reasons(page: Page, *reasons: str) -> None:
    """Wait until the listeners were called with exactly these reasons."""
    page.wait_for_function("many => reasons.length >= many", arg=len(reasons))
    assert page.evaluate("reasons") == list(reasons)
