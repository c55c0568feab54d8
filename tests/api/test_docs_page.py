"""The page at /docs, in a real browser: it works, under its policy, and calls nobody but us."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import ConsoleMessage, Page

from tests.conftest import Databases
from tests.support.app import PASSWORD, create_user, make_app
from tests.support.chromium import chromium
from tests.support.server import Server
from tokenapp.db import db

HOST = "docs.example"  # the page behaves in another way on a host that is called localhost
LOGIN = "#operations-auth-login"
NOTE_VIOLATIONS = """
    window.violations = [];
    addEventListener("securitypolicyviolation", event => violations.push(event.violatedDirective));
"""


@dataclass
class Visit:
    """What one visitor saw, whom the page called, and what the browser complained about."""

    server: Server
    shown: int = 0
    status: str = ""
    asked: set[str] = field(default_factory=set)
    complaints: list[str] = field(default_factory=list)

    def make(self, page: Page) -> None:
        """Open the page, sign in on it, open the dialogue for credentials."""
        page.context.on("request", lambda request: self.asked.add(urlsplit(request.url).netloc))
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.add_init_script(NOTE_VIOLATIONS)
        page.goto(f"http://{HOST}:{self.server.port}/docs")
        page.wait_for_selector(".opblock")
        self.shown = page.locator(".opblock").count()
        page.locator(f"{LOGIN} .opblock-summary-control").click()
        page.locator(f"{LOGIN} .try-out__btn").click()
        page.locator(f"{LOGIN} textarea").fill(json.dumps({"username": "alice", "password": PASSWORD}))
        page.locator(f"{LOGIN} .execute").click()
        self.status = page.locator(f"{LOGIN} .live-responses-table tbody .response-col_status").inner_text()
        page.locator(".btn.authorize").click()
        page.wait_for_selector(".modal-ux")
        self.complaints += page.evaluate("window.violations")

    def _note(self, message: ConsoleMessage) -> None:
        if not message.text.startswith("[DOM] Input elements"):  # advice to Swagger UI, whose forms these are
            self.complaints.append(message.text)


@pytest.fixture(scope="module")
def visit(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visit]:
    """Give the notes of one visit."""
    url = databases("sqlite")
    app = make_app(url)
    create_user(app)
    with app.app_context():
        db.engine.dispose()
    log = tmp_path_factory.mktemp("docs") / "server.log"
    with chromium() as browser, Server(url, log=log) as server:
        visit = Visit(server)
        visit.make(browser.new_page())
        yield visit


def test_the_page_shows_every_operation(visit: Visit) -> None:
    document = visit.server.client.send("GET", "/openapi.json").json
    assert visit.shown == sum(map(len, document["paths"].values()))


def test_a_request_can_be_tried_on_the_page(visit: Visit) -> None:
    assert visit.status.startswith("200")


def test_the_page_breaks_no_policy_and_the_browser_has_nothing_to_complain_about(visit: Visit) -> None:
    assert visit.complaints == []


def test_the_page_calls_no_other_host(visit: Visit) -> None:
    assert visit.asked == {f"{HOST}:{visit.server.port}"}
