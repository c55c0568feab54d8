"""The links of mails, in production: who gets their tokens, and what uses them."""

import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import pytest
from playwright.sync_api import Playwright, expect

from tests.audit.events import rows_of
from tests.browser.conftest import MAIL_LIMITS
from tests.conftest import Databases
from tests.support.account_scenes import NEW_PASSWORD, Site, Visitor, wait_for_start
from tests.support.app import PASSWORD, application
from tests.support.chromium import launch
from tests.support.mailbox import Mailbox
from tests.support.measured import MeasuredServer
from tests.support.tls import LOGIN, OTHER_SITE, Sites, TlsClient, production_settings
from tokenapp.models import AuditEvent

SCANS: Final = {"register": 2, "email": 2, "undo": 2, "reset": 50}
NEW_ADDRESS: Final = "new@example.com"
OLD_ADDRESS: Final = "old@example.com"


@dataclass
class Post:
    """A deployment that mails, and what its users and scanners did."""

    site: Site
    sites: Sites
    mailbox: Mailbox
    visitor: Visitor
    server: MeasuredServer
    tokens: dict[str, str] = field(default_factory=dict)
    sent: list[str] = field(default_factory=list)
    referrers: list[str] = field(default_factory=list)

    def open(self, purpose: str, to: str) -> None:
        """Let scanners open the link in a mail to `to`, then open it as its user."""
        token = self.tokens[purpose] = self.mailbox.wait_for_token(purpose, to)
        url = f"{self.visitor.url}#{purpose}={token}"
        client = TlsClient(self.sites)
        assert {
            client.send("HEAD" if number % 2 else "GET", "/account").status for number in range(SCANS[purpose])
        } == {200}
        scanner = self.site.browser.new_context()
        page = scanner.new_page()
        page.on("request", lambda request: self.sent.append(f"{request.method} {request.post_data}"))
        page.goto(url, wait_until="networkidle")
        expect(page.locator(f"#{purpose}-use")).to_be_visible()
        page.goto(f"https://{OTHER_SITE}/")
        scanner.close()
        self.visitor.page.goto("about:blank")
        self.visitor.page.goto(url)
        wait_for_start(self.visitor.page)

    def submit(self, purpose: str, shown: str) -> None:
        """Press the button of the link's view, and wait for an element."""
        self.visitor.page.click(f"#{purpose}-use [type=submit]")
        expect(self.visitor.page.locator(shown)).to_be_visible()

    def leave(self) -> None:
        """Go to a page of another site, and keep the referrer that it gets."""
        self.visitor.page.evaluate("url => { location.href = url; }", f"https://{OTHER_SITE}/")
        expect(self.visitor.page).to_have_title("Elsewhere")
        self.referrers.append(self.visitor.page.evaluate("document.referrer"))

    def follow_all(self) -> None:
        """Register, change the address, undo the change, and reset the password."""
        page, visitor = self.visitor.page, self.visitor
        visitor.open()
        page.click('#view-sign-in [href="#register"]')
        page.fill("#register-email", OLD_ADDRESS)
        page.click("#register-ask [type=submit]")
        self.open("register", OLD_ADDRESS)
        self.leave()
        visitor.open("#register-use", address=f"#register={self.tokens['register']}")
        page.fill("#register-name", "a newcomer")
        page.fill("#register-new", PASSWORD)
        self.submit("register", "#view-account")
        visitor.open_tab("profile")
        page.fill("#address-email", NEW_ADDRESS)
        page.click("#address [type=submit]")
        self.open("email", NEW_ADDRESS)
        self.submit("email", "#email-done")
        self.open("undo", OLD_ADDRESS)
        self.submit("undo", "#undo-done")
        self.open("reset", OLD_ADDRESS)
        page.fill("#reset-new", NEW_PASSWORD)
        self.submit("reset", "#sign-in-notice")


@pytest.fixture(scope="module")
def post(
    databases: Databases, playwright: Playwright, mailbox: Mailbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Post]:
    """Follow each kind of link, after scanners have opened it."""
    url, folder = databases("sqlite"), tmp_path_factory.mktemp("links")
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere/index.html").write_text("<!doctype html><title>Elsewhere</title>")
    settings = {
        **production_settings(LOGIN),
        **MAIL_LIMITS,
        "TOKENAPP_SMTP_URL": mailbox.url,
        "TOKENAPP_MAIL_FROM": "accounts@example.com",
        "TOKENAPP_REGISTRATION": "open",
    }
    with (
        application(url, **settings) as app,
        MeasuredServer(url, folder / "server.log", **settings) as server,
        Sites(folder, server.port, LOGIN, {OTHER_SITE: folder / "elsewhere"}) as sites,
        launch(playwright, *sites.browser_arguments) as browser,
    ):
        site = Site(app, browser, server, f"https://{LOGIN}")
        visitor = Visitor(site, "somebody")
        post = Post(site, sites, mailbox, visitor, server)
        post.follow_all()
        yield post
        visitor.close()


def test_scanners_that_run_scripts_send_no_token(post: Post) -> None:
    assert len(post.sent) > len(post.tokens)
    assert [each for each in post.sent if any(token in each for token in post.tokens.values())] == []
    assert {each.split()[0] for each in post.sent if "complete" in each or "undo" in each} == set()


def test_every_link_worked_after_it_was_scanned(post: Post) -> None:
    assert post.tokens.keys() == SCANS.keys()
    post.visitor.submit_sign_in(NEW_PASSWORD, "a newcomer")
    post.visitor.expect_text("#account-name", "a newcomer")


@pytest.mark.parametrize("log", ["server.log", "access.log", "error.log"])
def test_no_log_contains_a_token(post: Post, log: str) -> None:
    text = (post.sites.folder / log).read_text()
    assert [purpose for purpose, token in post.tokens.items() if token in text] == []
    if log != "error.log":
        assert "/api/password-reset/complete" in text
    if log == "access.log":
        assert "POST /api/register/complete HTTP/1.1 - " in text  # the page sends no Referer at all


def test_no_other_site_gets_a_token(post: Post) -> None:
    assert post.referrers == [""]


def test_neither_audit_log_nor_metrics_contain_a_token(post: Post) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{post.server.metrics_port}/metrics", timeout=20) as response:
        metrics = response.read().decode()
    events = "".join(str(vars(each)) for each in rows_of(post.site.app, AuditEvent))
    assert "address_change_undone" in events
    assert "tokenapp_" in metrics
    assert [purpose for purpose, token in post.tokens.items() if token in events + metrics] == []


def test_pages_of_the_links_violate_no_policy(post: Post) -> None:
    assert post.visitor.errors == []
    assert post.visitor.hosts <= {LOGIN, OTHER_SITE}
