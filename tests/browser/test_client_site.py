"""The client and the cookie in production, with pages of other origins."""

from typing import Any, Final

import pytest
import sqlalchemy as sa
from playwright.sync_api import BrowserContext

from tests.support.account_scenes import Site
from tests.support.app import PASSWORD
from tests.support.example import expect_status, sign_in, visit
from tests.support.tabs import EMPTY_STORAGE, SHORT_TIMERS, STORAGE
from tests.support.tls import APP, LOGIN, OTHER_SITE, SIBLING
from tokenapp.db import execute_now
from tokenapp.models import Session

COOKIE: Final = "__Host-refreshToken"
SUBMIT: Final = """([action, type, fields]) => {
    const form = Object.assign(document.createElement("form"), { action, method: "post", enctype: type });
    for (const [name, value] of Object.entries(fields)) {
        form.append(Object.assign(document.createElement("input"), { name, value, type: "hidden" }));
    }
    document.body.append(form);
    form.submit();
}"""
FETCH: Final = """([url, init]) => fetch(url, { method: "POST", credentials: "include", ...init })
    .then(response => response.status, error => error.name)"""
# Browsers send the cookie with these requests if the page is of the same site.
FORMS: Final[list[tuple[str, str, dict[str, Any]]]] = [
    ("/api/token", "application/x-www-form-urlencoded", {}),
    ("/api/logout", "application/x-www-form-urlencoded", {}),
    ("/api/logout", "multipart/form-data", {"a": "b"}),
    ("/api/login", "text/plain", {f'{{"username":"alice","password":"{PASSWORD}","a":"': '"}'}),
]
FETCHES: Final[list[tuple[str, dict[str, Any]]]] = [
    ("/api/token", {}),
    ("/api/token", {"mode": "no-cors"}),
    ("/api/logout", {}),
    ("/api/logout", {"mode": "no-cors"}),
    ("/api/logout", {"mode": "no-cors", "keepalive": True}),
    ("/api/login", {"mode": "no-cors", "body": f'{{"username":"alice","password":"{PASSWORD}"}}'}),
    ("/api/login", {"headers": {"Content-Type": "application/json"}, "body": "{}"}),
]
COOKIES: Final = [
    "refreshToken=evil; Domain=tokenapp.test; Path=/",
    "refreshToken=evil; Domain=tokenapp.test; Path=/api/token",
    f"{COOKIE}=evil; Domain=tokenapp.test; Path=/; Secure",
    f"{COOKIE}=evil; Domain=tokenapp.test; Path=/api; Secure",
    f"{COOKIE.lower()}=evil; Domain=tokenapp.test; Path=/; Secure",
    f"={COOKIE}=evil; Domain=tokenapp.test; Path=/; Secure",
    f"{COOKIE} =evil; Domain=tokenapp.test; Path=/; Secure",
    f"\t{COOKIE}=evil; Domain=tokenapp.test; Path=/; Secure",
    f'a="{COOKIE}=evil; Domain=tokenapp.test; Path=/; Secure',
]


def live_sessions(site: Site) -> set[tuple[str, int]]:
    """Return the ids and generations of the sessions that are not revoked."""
    with site.app.app_context():
        rows = execute_now(sa.select(Session.id, Session.generation).where(Session.revoked_at.is_(None)))
    return {(row.id, row.generation) for row in rows}


def test_scripts_cannot_read_the_cookie(deployed_context: BrowserContext) -> None:
    sign_in(deployed_context)
    (cookie,) = deployed_context.cookies()
    assert {name: cookie[name] for name in ("name", "domain", "path", "httpOnly", "secure", "sameSite")} == {
        "name": COOKIE,
        "domain": LOGIN,
        "path": "/",
        "httpOnly": True,
        "secure": True,
        "sameSite": "Strict",
    }
    seen = [visit(deployed_context, host, "/healthz").evaluate("document.cookie") for host in (LOGIN, APP)]
    assert seen == ["", ""]


def test_scripts_cannot_read_a_token(deployed_context: BrowserContext) -> None:
    page = sign_in(deployed_context)
    page.get_by_role("button", name="Call the API").click()
    expect_status(page, "Welcome, alice! This is protected data.")
    assert page.evaluate(STORAGE) == EMPTY_STORAGE


@pytest.mark.parametrize("host", [SIBLING, OTHER_SITE])
def test_forms_of_untrusted_pages_change_nothing(deployed: Site, deployed_context: BrowserContext, host: str) -> None:
    page = sign_in(deployed_context)
    before, cookies = live_sessions(deployed), deployed_context.cookies()
    for path, kind, fields in FORMS:
        untrusted = visit(deployed_context, host)
        with untrusted.expect_navigation() as navigation:
            untrusted.evaluate(SUBMIT, [f"https://{LOGIN}{path}", kind, fields])
        assert navigation.value.status in {403, 415}, path
    assert (live_sessions(deployed), deployed_context.cookies()) == (before, cookies)
    page.reload()
    expect_status(page, "Hello, alice.")


@pytest.mark.parametrize("host", [SIBLING, OTHER_SITE])
def test_requests_of_untrusted_pages_change_nothing(
    deployed: Site, deployed_context: BrowserContext, host: str
) -> None:
    page, untrusted = sign_in(deployed_context), visit(deployed_context, host)
    before, cookies = live_sessions(deployed), deployed_context.cookies()
    for path, init in FETCHES:
        assert untrusted.evaluate(FETCH, [f"https://{LOGIN}{path}", init]) in {0, "TypeError"}
    assert (live_sessions(deployed), deployed_context.cookies()) == (before, cookies)
    page.reload()
    expect_status(page, "Hello, alice.")


def test_client_does_not_work_on_a_page_of_an_unlisted_origin(deployed_context: BrowserContext) -> None:
    sign_in(deployed_context)
    deployed_context.add_init_script(SHORT_TIMERS)  # the delays between the client's attempts
    found = visit(deployed_context, SIBLING).evaluate(
        """async url => {
            const { createClient } = await import(`${url}/static/tokenapp.js`);
            const client = createClient({ baseUrl: url });
            return [await client.restore(), client.state];
        }""",
        f"https://{LOGIN}",
    )
    assert found == [None, "unknown"]


def test_cookies_of_a_sibling_host_change_nothing(deployed: Site, deployed_context: BrowserContext) -> None:
    page, sibling = sign_in(deployed_context), visit(deployed_context, SIBLING)
    before = {sid for sid, _ in live_sessions(deployed)}
    for cookie in COOKIES:
        sibling.evaluate("cookie => { document.cookie = cookie; }", cookie)
        page.reload()
        expect_status(page, "Hello, alice.")
    page.get_by_role("button", name="Call the API").click()
    expect_status(page, "Welcome, alice! This is protected data.")
    assert {sid for sid, _ in live_sessions(deployed)} == before
    assert "refreshToken=evil" in sibling.evaluate("document.cookie")
