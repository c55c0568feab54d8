"""The client as it is deployed: TLS, the cookie of production, an application on another origin, and bad neighbours."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import sqlalchemy as sa
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.conftest import Databases
from tests.server.test_deploy import SETTINGS, program
from tests.support.app import PASSWORD, ROOT, application, create_user
from tests.support.chromium import chromium
from tests.support.server import Server
from tests.support.tls import Sites
from tokenapp.db import db
from tokenapp.models import Session

LOGIN: Final = "login.tokenapp.test"
APP: Final = "app.tokenapp.test"
SIBLING: Final = "forum.tokenapp.test"
STRANGER: Final = "elsewhere.test"
EXAMPLE: Final = ROOT / "examples/single-page"
COOKIE: Final = "__Host-refreshToken"
STORAGE: Final = """async () => [
    { ...localStorage }, { ...sessionStorage }, document.cookie, await indexedDB.databases(), await caches.keys(),
]"""
SUBMIT: Final = """([action, type, fields]) => {
    const form = Object.assign(document.createElement("form"), { action, method: "post", enctype: type });
    for (const [name, value] of Object.entries(fields)) {
        form.append(Object.assign(document.createElement("input"), { name, value, type: "hidden" }));
    }
    document.body.append(form);
    form.submit();
}"""
FETCH: Final = """([url, init]) => fetch(url, { method: "POST", credentials: "include", ...init })
    .then(reply => reply.status, error => error.name)"""


@dataclass
class Deployed:
    """The service as the guide sets it up, and a browser that finds it."""

    url: str
    browser: Browser

    def live_sessions(self) -> set[tuple[str, int]]:
        """Return the sessions that have not ended, with their generations."""
        with application(self.url, **SETTINGS) as app, app.app_context():
            rows = db.session.execute(sa.select(Session.id, Session.generation).where(Session.revoked_at.is_(None)))
            return {(row.id, row.generation) for row in rows}


@pytest.fixture(scope="module")
def deployed(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """Give everything, with a user and the example as an application."""
    program("nginx")
    url, folder = databases("sqlite"), tmp_path_factory.mktemp("site")
    with application(url, **SETTINGS) as app:
        create_user(app)
    settings = {**SETTINGS, "TOKENAPP_ISSUER": f"https://{LOGIN}", "TOKENAPP_ALLOWED_ORIGINS": f"https://{APP}"}
    static = {APP: folder / "app", SIBLING: folder / "empty", STRANGER: folder / "empty"}
    publish_example(static[APP])
    (folder / "empty").mkdir()
    (folder / "empty/index.html").write_text("<!doctype html><title>A page</title><body>")
    with (
        Server(url, settings, log=folder / "server.log") as server,
        Sites(folder, server.port, LOGIN, static) as sites,
        chromium(*sites.browser_arguments) as browser,
    ):
        yield Deployed(url, browser)


def publish_example(folder: Path) -> None:
    """Copy the example, with the service's real address in it; and a second time with another client's integrity."""
    shutil.copytree(EXAMPLE, folder)
    page = (folder / "index.html").read_text()
    assert page.count("http://localhost:3005/") == 2
    page = page.replace("http://localhost:3005", f"https://{LOGIN}")
    (folder / "index.html").write_text(page)
    (folder / "tampered.html").write_text(page.replace('"sha384-', '"sha384-AAAA'))


@pytest.fixture
def context(deployed: Deployed) -> Iterator[BrowserContext]:
    """Give a browser that nobody has signed in with."""
    context = deployed.browser.new_context()
    yield context
    context.close()


def visit(context: BrowserContext, host: str, path: str = "/") -> Page:
    page = context.new_page()
    page.goto(f"https://{host}{path}")
    return page


def sign_in(context: BrowserContext) -> Page:
    """Sign in to the application."""
    page = visit(context, APP)
    page.get_by_label("Name").fill("alice")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("status")).to_have_text("Hello, alice.")
    return page


def says(page: Page, text: str) -> None:
    expect(page.get_by_role("status")).to_have_text(text)


def test_the_example_is_short() -> None:
    assert sum(len(path.read_text().splitlines()) for path in EXAMPLE.iterdir()) < 100


def test_the_example_signs_in_and_calls_the_api(context: BrowserContext) -> None:
    page = sign_in(context)
    page.get_by_role("button", name="Call the API").click()
    says(page, "Welcome, alice! This is protected data.")


def test_the_example_says_why_a_sign_in_failed(context: BrowserContext) -> None:
    page = visit(context, APP)
    page.get_by_label("Name").fill("alice")
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    says(page, "Invalid credentials.")


def test_a_reload_of_the_example_keeps_the_person_signed_in(context: BrowserContext) -> None:
    page = sign_in(context)
    page.reload()
    says(page, "Hello, alice.")


def test_the_example_signs_out(context: BrowserContext) -> None:
    page = sign_in(context)
    page.get_by_role("button", name="Sign out").click()
    says(page, "Please sign in.")
    page.reload()
    says(page, "Please sign in.")
    assert context.cookies() == []


def test_a_client_of_other_bytes_than_the_page_expects_is_not_run(context: BrowserContext) -> None:
    page = context.new_page()
    with page.expect_console_message(lambda message: "integrity" in message.text):
        page.goto(f"https://{APP}/tampered.html")
    says(page, "One moment…")


def test_no_script_sees_the_cookie(context: BrowserContext) -> None:
    sign_in(context)
    (cookie,) = context.cookies()
    assert {name: cookie[name] for name in ("name", "domain", "path", "httpOnly", "secure", "sameSite")} == {
        "name": COOKIE,
        "domain": LOGIN,
        "path": "/",
        "httpOnly": True,
        "secure": True,
        "sameSite": "Strict",
    }
    seen = [visit(context, host, "/healthz").evaluate("document.cookie") for host in (LOGIN, APP)]
    assert seen == ["", ""]


def test_no_storage_holds_a_token(context: BrowserContext) -> None:
    page = sign_in(context)
    page.get_by_role("button", name="Call the API").click()
    says(page, "Welcome, alice! This is protected data.")
    assert page.evaluate(STORAGE) == [{}, {}, "", [], []]


# Neighbours. What a sibling makes the browser send, being of the same site, has the cookie with it.

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


@pytest.mark.parametrize("host", [SIBLING, STRANGER])
def test_forms_of_neighbours_change_nothing(deployed: Deployed, context: BrowserContext, host: str) -> None:
    page = sign_in(context)
    before, cookies = deployed.live_sessions(), context.cookies()
    for path, kind, fields in FORMS:
        neighbour = visit(context, host)
        with neighbour.expect_navigation() as navigation:
            neighbour.evaluate(SUBMIT, [f"https://{LOGIN}{path}", kind, fields])
        assert navigation.value.status in {403, 415}, path
    assert (deployed.live_sessions(), context.cookies()) == (before, cookies)
    page.reload()
    says(page, "Hello, alice.")


@pytest.mark.parametrize("host", [SIBLING, STRANGER])
def test_fetches_of_neighbours_change_nothing(deployed: Deployed, context: BrowserContext, host: str) -> None:
    page, neighbour = sign_in(context), visit(context, host)
    before, cookies = deployed.live_sessions(), context.cookies()
    for path, init in FETCHES:
        assert neighbour.evaluate(FETCH, [f"https://{LOGIN}{path}", init]) in {0, "TypeError"}
    assert (deployed.live_sessions(), context.cookies()) == (before, cookies)
    page.reload()
    says(page, "Hello, alice.")


def test_a_page_that_is_not_listed_gets_nothing_through_the_client(context: BrowserContext) -> None:
    sign_in(context)
    found = visit(context, SIBLING).evaluate(
        """async url => {
            const { createClient } = await import(`${url}/static/tokenapp.js`);
            const client = createClient({ baseUrl: url });
            return [await client.restore(), client.state];
        }""",
        f"https://{LOGIN}",
    )
    assert found == [None, "unknown"]


TRICKS: Final = [
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


def test_cookies_set_by_a_sibling_change_nothing(deployed: Deployed, context: BrowserContext) -> None:
    page, sibling = sign_in(context), visit(context, SIBLING)
    before = {sid for sid, _ in deployed.live_sessions()}
    for cookie in TRICKS:
        sibling.evaluate("cookie => { document.cookie = cookie; }", cookie)
        page.reload()
        says(page, "Hello, alice.")
    page.get_by_role("button", name="Call the API").click()
    says(page, "Welcome, alice! This is protected data.")
    assert {sid for sid, _ in deployed.live_sessions()} == before
    assert "refreshToken=evil" in sibling.evaluate("document.cookie")
