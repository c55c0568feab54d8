"""The page at /docs in a real browser."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import ConsoleMessage, Page

from tests.conftest import Databases
from tests.support.app import PASSWORD, application, create_user
from tests.support.chromium import chromium
from tests.support.server import Server

HOST = "docs.example"  # Swagger UI behaves differently on localhost
LOGIN = "#operations-auth-login"
NOTE_VIOLATIONS = """
    window.violations = [];
    addEventListener("securitypolicyviolation", event => violations.push(event.violatedDirective));
"""


@dataclass
class Visit:
    """What one visit showed, which hosts it called, and the messages of the browser."""

    server: Server
    operations: int = 0
    status: str = ""
    example: str = ""
    first: str = ""
    hosts: set[str] = field(default_factory=set)
    messages: list[str] = field(default_factory=list)

    def run(self, page: Page) -> None:
        """Open the page, sign in on it, and open the dialog for credentials."""
        page.context.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))
        page.on("console", self._keep)
        page.on("pageerror", lambda error: self.messages.append(str(error)))
        page.add_init_script(NOTE_VIOLATIONS)
        page.goto(f"http://{HOST}:{self.server.port}/docs")
        page.wait_for_selector(".opblock")
        self.operations = page.locator(".opblock").count()
        page.locator(f"{LOGIN} .opblock-summary-control").click()
        page.locator(f"{LOGIN} .try-out__btn").click()
        self.example = page.locator(f"{LOGIN} textarea").input_value()
        self.first = page.locator(".opblock").first.get_attribute("id") or ""
        page.locator(f"{LOGIN} textarea").fill(json.dumps({"username": "alice", "password": PASSWORD}))
        page.locator(f"{LOGIN} .execute").click()
        self.status = page.locator(f"{LOGIN} .live-responses-table tbody .response-col_status").inner_text()
        page.locator(".btn.authorize").click()
        page.wait_for_selector(".modal-ux")
        self.messages += page.evaluate("window.violations")

    def _keep(self, message: ConsoleMessage) -> None:
        if not message.text.startswith("[DOM] Input elements"):  # advice on the forms of Swagger UI
            self.messages.append(message.text)


@pytest.fixture(scope="module")
def visit(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visit]:
    """Return what one visit found."""
    url = databases("sqlite")
    with application(url) as app:
        create_user(app)
    log = tmp_path_factory.mktemp("docs") / "server.log"
    with chromium() as browser, Server(url, log=log) as server:
        visit = Visit(server)
        visit.run(browser.new_page())
        yield visit


def test_page_shows_every_operation(visit: Visit) -> None:
    document = visit.server.client.send("GET", "/openapi.json").json
    assert visit.operations == sum(map(len, document["paths"].values()))


def test_page_begins_with_signing_in_as_the_demo_user(visit: Visit) -> None:
    assert visit.first == LOGIN.removeprefix("#")
    assert json.loads(visit.example) == {"username": "demo", "password": "only-for-trying-it-here"}


def test_request_can_be_sent_from_the_page(visit: Visit) -> None:
    assert visit.status.startswith("200")


def test_page_violates_no_policy_and_logs_no_message(visit: Visit) -> None:
    assert visit.messages == []


def test_page_calls_no_other_host(visit: Visit) -> None:
    assert visit.hosts == {f"{HOST}:{visit.server.port}"}
