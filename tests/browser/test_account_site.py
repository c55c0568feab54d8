"""The account page as it is deployed: TLS ended by nginx, production mode, and its cookie."""

from collections.abc import Iterator
from typing import Final

import pytest
from playwright.sync_api import expect

from tests.conftest import Databases
from tests.server.test_deploy import SETTINGS, program
from tests.support.account_scenes import NEW_PASSWORD, OTHERS, Site, Visitor
from tests.support.app import PASSWORD, application
from tests.support.chromium import chromium
from tests.support.server import Server
from tests.support.tls import Sites

LOGIN: Final = "login.tokenapp.test"
COOKIE: Final = "__Host-refreshToken"


@pytest.fixture(scope="module")
def site(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Give the service as the guide sets it up, and a browser that finds it."""
    program("nginx")
    url, folder = databases("sqlite"), tmp_path_factory.mktemp("account-site")
    settings = {**SETTINGS, "TOKENAPP_ISSUER": f"https://{LOGIN}"}
    with (
        application(url, **settings) as app,
        Server(url, settings, log=folder / "server.log") as server,
        Sites(folder, server.port, LOGIN, {}) as sites,
        chromium(*sites.browser_arguments) as browser,
    ):
        yield Site(app, browser, server, f"https://{LOGIN}")


def test_people_rule_their_sessions_behind_a_proxy_that_ends_tls(site: Site) -> None:
    visitor = Visitor(site, "ada")
    visitor.sign_in_elsewhere(OTHERS["curl"])
    visitor.sign_in()
    assert [cookie["name"] for cookie in visitor.context.cookies()] == [COOKIE]
    visitor.open(".device.current")
    visitor.row("curl").locator(".end").click()
    expect(visitor.page.locator("#devices-done")).to_have_text("curl is signed out.")
    visitor.change_password(NEW_PASSWORD, current=PASSWORD)
    expect(visitor.page.locator("#change-done")).to_contain_text("Your password is changed")
    visitor.page.click("#sign-out")
    expect(visitor.page.locator("#sign-in-notice")).to_have_text("You are signed out.")
    visitor.open()
    assert visitor.context.cookies() == []
    assert (visitor.complaints, visitor.hosts) == ([], {LOGIN})
    visitor.close()
