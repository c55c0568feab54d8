"""One browser and one server for all tests of the folder."""

import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, sync_playwright

from tests.conftest import Databases
from tests.support.account_scenes import Site, Visitor
from tests.support.app import ROOT, application, create_user
from tests.support.axe import source
from tests.support.chromium import launch
from tests.support.client import sign_in
from tests.support.concurrency import wait_until
from tests.support.firefox import launch_firefox
from tests.support.mailbox import Mailbox
from tests.support.programs import find_program
from tests.support.proxy import Proxy
from tests.support.server import Server, free_port
from tests.support.tls import APP, LOGIN, OTHER_SITE, SIBLING, Sites, production_settings

EXAMPLE = ROOT / "examples/single-page"
MAIL_LIMITS = {"TOKENAPP_MAIL_CLIENT_LIMIT": "1000000", "TOKENAPP_MAIL_DAILY_LIMIT": "1000000"}
_NUMBERS = count(1)


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Give the source of axe."""
    return source(tmp_path_factory)


@pytest.fixture(scope="package")
def playwright() -> Iterator[Playwright]:
    """Give the driver of the browsers. A process can have only one."""
    find_program("chromium")
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="package")
def browser(playwright: Playwright) -> Iterator[Browser]:
    """Give the browser."""
    with launch(playwright) as browser:
        yield browser


@pytest.fixture(scope="package", params=["chromium", "firefox"])
def engine(
    request: pytest.FixtureRequest, playwright: Playwright, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Browser]:
    """Give each browser in turn."""
    if request.param == "chromium":
        yield request.getfixturevalue("browser")
    else:
        with launch_firefox(playwright, tmp_path_factory.mktemp("firefox")) as browser:
            yield browser


@pytest.fixture
def either(engine: Browser) -> Iterator[BrowserContext]:
    """Give a context without cookies of each browser in turn."""
    context = engine.new_context(no_viewport=True)
    yield context
    context.close()


@pytest.fixture(scope="package")
def site(databases: Databases, browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Give the service under gunicorn, with the users alice and ben, and the browser."""
    url, log = databases("sqlite"), tmp_path_factory.mktemp("site") / "server.log"
    settings = {"TOKENAPP_MAX_SESSIONS": "10000"}  # all tests together sign in as alice more than 100 times
    with application(url, **settings) as app, Server(url, settings, log=log) as server:
        for name in ("alice", "ben"):
            create_user(app, name)
        yield Site(app, browser, server, f"http://localhost:{server.port}")


@pytest.fixture
def server(site: Site) -> Server:
    """Give the service."""
    return site.server


@pytest.fixture(scope="package")
def _proxy(site: Site) -> Iterator[Proxy]:
    with Proxy(site.server.port) as proxy:
        yield proxy


@pytest.fixture
def proxy(_proxy: Proxy) -> Proxy:
    """Give a proxy in front of the service, in its initial state."""
    wait_until(lambda: _proxy.pending == 0, what="the requests of the test before")
    _proxy.reset()
    return _proxy


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """Give a browser context without cookies."""
    context = browser.new_context()
    yield context
    context.close()


@pytest.fixture
def visitor(site: Site) -> Iterator[Visitor]:
    """Give a new user with a browser."""
    visitor = new_visitor(site)
    yield visitor
    visitor.close()


def new_visitor(site: Site, language: str = "en-GB") -> Visitor:
    """Create a user, with a browser context."""
    return Visitor(site, f"visitor {next(_NUMBERS)}", language=language)


@pytest.fixture(scope="package")
def branded(databases: Databases, browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Give the service with an operator's brand and two allowed origins."""
    logo = tmp_path_factory.mktemp("brand") / "logo"
    logo.write_text('<svg xmlns="http://www.w3.org/2000/svg" width="40" height="40"><circle r="9"/></svg>')
    settings = {
        "TOKENAPP_ALLOWED_ORIGINS": "https://app.example.com,http://app.example.com:8080",
        "TOKENAPP_BRAND_NAME": "Harbour Bank",
        "TOKENAPP_BRAND_LOGO": str(logo),
        "TOKENAPP_BRAND_COLOR": "#8a6d00",
        "TOKENAPP_BRAND_LINKS": "help=https://help.example.com/,imprint=https://example.com/imprint",
    }
    url = databases("sqlite")
    with application(url, **settings) as app, Server(url, settings) as server:
        yield Site(app, browser, server, f"http://localhost:{server.port}")


@pytest.fixture(scope="package")
def required(databases: Databases, browser: Browser) -> Iterator[Site]:
    """Give a service that requires a second factor, at the address of its issuer."""
    url, port = databases("sqlite"), free_port()
    settings = {"TOKENAPP_SECOND_FACTOR": "required", "TOKENAPP_ISSUER": f"http://localhost:{port}"}
    with application(url, **settings) as app, Server(url, settings, port=port) as server:
        yield Site(app, browser, server, f"http://localhost:{port}")


@pytest.fixture(scope="package")
def mailbox() -> Iterator[Mailbox]:
    """Give the mail server of `mailing`."""
    with Mailbox() as mailbox:
        yield mailbox


@pytest.fixture(scope="package")
def mailing(databases: Databases, browser: Browser, mailbox: Mailbox) -> Iterator[Site]:
    """Give a service that mails, and lets everyone register."""
    url, settings = databases("sqlite"), {**MAIL_LIMITS, "TOKENAPP_SMTP_URL": mailbox.url}
    with application(url, **settings) as app, Server(url, settings) as server:
        yield Site(app, browser, server, f"http://localhost:{server.port}")


@pytest.fixture
def correspondent(mailing: Site) -> Iterator[Visitor]:
    """Give a new user with an address, and a browser."""
    visitor = new_correspondent(mailing)
    yield visitor
    visitor.close()


def new_correspondent(site: Site, language: str = "en-GB") -> Visitor:
    """Create a user with an address, with a browser context."""
    number = next(_NUMBERS)
    return Visitor(site, f"visitor {number}", language=language, email=f"visitor.{number}@example.com")


@pytest.fixture(scope="package")
def deployed(databases: Databases, playwright: Playwright, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Give the service in production behind nginx, with the example and a browser."""
    url, folder = databases("sqlite"), tmp_path_factory.mktemp("deployed")
    settings = {**production_settings(LOGIN), "TOKENAPP_ALLOWED_ORIGINS": f"https://{APP}"}
    hosts = {APP: folder / "app", SIBLING: folder / "empty", OTHER_SITE: folder / "empty"}
    _publish_example(hosts[APP])
    hosts[SIBLING].mkdir()
    (hosts[SIBLING] / "index.html").write_text("<!doctype html><title>A page</title><body>")
    with (
        application(url, **settings) as app,
        Server(url, settings, log=folder / "server.log") as server,
        Sites(folder, server.port, LOGIN, hosts) as sites,
        launch(playwright, *sites.browser_arguments) as browser,
    ):
        create_user(app)
        yield Site(app, browser, server, f"https://{LOGIN}")


@pytest.fixture
def deployed_context(deployed: Site) -> Iterator[BrowserContext]:
    """Give a browser context without cookies that reaches the deployed sites."""
    context = deployed.browser.new_context()
    yield context
    context.close()


def _publish_example(folder: Path) -> None:
    """Copy the example. ``tampered.html`` has a wrong integrity value."""
    shutil.copytree(EXAMPLE, folder)
    page = (folder / "index.html").read_text()
    assert page.count("http://localhost:3005/") == 2
    page = page.replace("http://localhost:3005", f"https://{LOGIN}")
    (folder / "index.html").write_text(page)
    (folder / "tampered.html").write_text(page.replace('"sha384-', '"sha384-AAAA'))


def revoke_session(server: Server, page: Page) -> None:
    """Revoke the session of a tab from another device."""
    sid = page.evaluate("client.user.sessionId")
    assert sign_in(server.port).call("DELETE", f"/api/sessions/{sid}").status == 204
