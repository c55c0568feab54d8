"""Users of the account page, and its states."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

import sqlalchemy as sa
from flask import Flask
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Route, expect

from tests.support.app import PASSWORD, create_user
from tests.support.client import Client
from tests.support.concurrency import wait_until
from tests.support.server import Server
from tokenapp import accounts
from tokenapp.db import execute_now
from tokenapp.models import Session, User

NEW_PASSWORD: Final = "an entirely new one 42"
WEAK_PASSWORD: Final = "passwordpassword"
WRONG_PASSWORD: Final = "not the password at all"
CHROME: Final = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"
)
OTHERS: Final[Mapping[str, str]] = {
    "curl": "curl/8.5.0",
    "Firefox on macOS": "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:145.0) Gecko/20100101 Firefox/145.0",
    "Safari on iPhone": "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 "
    "(KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1",
}
AGES: Final = (timedelta(days=5), timedelta(hours=2), timedelta(minutes=14))
RECORD_VIOLATIONS: Final = """
    window.violations = [];
    addEventListener("securitypolicyviolation", event => violations.push(event.violatedDirective));
"""


@dataclass
class Site:
    """The service, in this process and as a server, and a browser."""

    app: Flask
    browser: Browser
    server: Server
    origin: str


@dataclass
class Visitor:
    """A user with a browser context, its console errors, and the hosts it called."""

    site: Site
    name: str
    errors: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)
    held: list[Route] = field(default_factory=list)
    holds_refreshes: bool = False
    language: str = "en-GB"
    email: str | None = None

    def __post_init__(self) -> None:
        self.id = create_user(self.site.app, self.name, email=self.email)
        self.context = self.site.browser.new_context(
            user_agent=CHROME, viewport={"width": 1000, "height": 720}, locale=self.language
        )
        self.context.set_default_timeout(60_000)
        self.context.add_init_script(RECORD_VIOLATIONS)
        self.context.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))
        self.page = self.new_page()

    def close(self) -> None:
        """Abort the held requests, and close the browser context."""
        for route in self.held:
            route.abort()
        self.context.close()

    @property
    def url(self) -> str:
        """The URL of the account page."""
        return f"{self.site.origin}/account"

    def new_page(self) -> Page:
        """Open an empty tab."""
        page = self.context.new_page()
        page.on("console", self._record)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        return page

    def open(self, shown: str = "#view-sign-in", *, address: str = "") -> None:
        """Open the account page, and wait for its start and for an element.

        While refreshes are held, the start does not end. `address` is what follows the path.
        """
        self.page.goto(f"{self.url}{address}")
        if not self.holds_refreshes:
            wait_for_start(self.page)
        expect(self.page.locator(shown)).to_be_visible()

    def sign_in(self, password: str = PASSWORD) -> None:
        """Open the account page and sign in."""
        self.open()
        self.submit_sign_in(password)
        expect(self.page.locator(".device.current")).to_be_visible()

    def submit_sign_in(self, password: str, name: str | None = None) -> None:
        """Fill in and submit the sign-in form."""
        self.page.fill("#username", name or self.name)
        self.page.fill("#password", password)
        self.page.click("#sign-in [type=submit]")

    def open_tab(self, name: str) -> None:
        """Press a tab of the account, and wait until it is shown."""
        tab = self.page.locator(f'.tabs [href="#{name}"]')
        tab.click()
        expect(tab).to_have_attribute("aria-current", "page")

    def change_password(self, new: str, current: str = PASSWORD) -> None:
        """Fill in and submit the form for a new password."""
        self.open_tab("password")
        self.page.fill("#current", current)
        self.page.fill("#new", new)
        self.page.click("#change [type=submit]")

    def confirm_password(self, password: str) -> None:
        """Fill in and submit the dialog that asks for the password again."""
        self.page.fill("#again-password", password)
        self.page.click("#again [type=submit]")

    def sign_in_elsewhere(self, *agents: str) -> list[Client]:
        """Sign in on other devices, given their user agents."""
        clients = [Client(self.site.server.port) for _ in agents]
        for client, agent in zip(clients, agents, strict=True):
            assert client.login(self.name, headers={"User-Agent": agent}).status == 200
        return clients

    def row(self, device: str) -> Locator:
        """Return the row of a device."""
        return self.page.locator(".device", has_text=device)

    def sign_out_device(self, device: str) -> None:
        """Press the button that signs out a device."""
        self.row(device).locator(".end").click()

    def expect_focus(self, selector: str) -> None:
        """Wait until an element has the focus."""
        expect(self.page.locator(selector)).to_be_focused()

    def expect_text(self, selector: str, text: str | re.Pattern[str]) -> None:
        """Wait until an element has exactly this text."""
        expect(self.page.locator(selector)).to_have_text(text)

    def update_sessions(self, sid: str | None = None, **values: Any) -> None:
        """Update one session of the user, or all."""
        selected = Session.user_id == self.id if sid is None else Session.id == sid
        with self.site.app.app_context():
            execute_now(sa.update(Session).where(selected).values(values))

    def choose_language(self, locale: str) -> None:
        """Set the language of the account."""
        with self.site.app.app_context():
            execute_now(sa.update(User).where(User.id == self.id).values(locale=locale))

    def sids(self) -> list[str]:
        """Return the ids of the user's sessions, oldest first."""
        with self.site.app.app_context():
            rows = execute_now(sa.select(Session.id).where(Session.user_id == self.id).order_by(Session.id))
        return [str(row[0]) for row in rows]

    def expire_authentication(self, shown: str = ".device.current") -> None:
        """Make the last authentication too old, and load the page again."""
        self.update_sessions(authenticated_at=datetime.now(UTC) - timedelta(minutes=16))
        self.open(shown)

    def make_password_temporary(self) -> None:
        """Set the password again, as one that its user has to change."""
        with self.site.app.app_context():
            accounts.set_password(accounts.find(self.name), PASSWORD, datetime.now(UTC), temporary=True)

    def hold_refreshes(self) -> None:
        """Hold all refreshes until the test continues or aborts them."""
        self.holds_refreshes = True
        self.context.route("**/api/token", lambda route: self.held.append(route))  # noqa: PLW0108 -- Playwright sets an attribute

    def wait_for_held_refresh(self) -> None:
        """Wait until a refresh is held."""
        # The call lets Playwright handle its events.
        wait_until(lambda: bool(self.page.evaluate("true") and self.held), what="a refresh")

    def come_online(self) -> None:
        """Dispatch the event at which the page checks its state again."""
        self.page.evaluate("dispatchEvent(new Event('online'))")

    def _record(self, message: ConsoleMessage) -> None:
        # The console also shows the error responses that some tests cause on purpose, and what a sign-out clears.
        if not message.text.startswith(("Failed to load resource", "Clear-Site-Data header on")):
            self.errors.append(message.text)


def wait_for_start(page: Page) -> None:
    """Wait until the account page shows what belongs to the session.

    Its form is there before that.
    """
    expect(page.locator("body[data-started]")).to_be_attached()


def loading(visitor: Visitor) -> None:
    """Open the page with a session while the service does not respond."""
    visitor.sign_in()
    visitor.hold_refreshes()
    visitor.open("#view-loading .spinner")


def no_connection(visitor: Visitor) -> None:
    """Lose the connection while the page loads."""
    loading(visitor)
    visitor.wait_for_held_refresh()
    visitor.context.set_offline(True)
    visitor.held.pop().abort()
    expect(visitor.page.locator("#view-unreachable")).to_be_visible()


def sign_in(visitor: Visitor) -> None:
    """Open the page without a session."""
    visitor.open()


def wrong_password(visitor: Visitor) -> None:
    """Submit a wrong password."""
    visitor.open()
    visitor.submit_sign_in(WRONG_PASSWORD)
    expect(visitor.page.locator("#sign-in .problem")).to_contain_text("is wrong")


def too_many_attempts(visitor: Visitor) -> None:
    """Sign in after five wrong passwords."""
    for _ in range(5):
        visitor.site.server.client.login(visitor.name, WRONG_PASSWORD)
    visitor.open()
    visitor.submit_sign_in(PASSWORD)
    expect(visitor.page.locator("#sign-in .problem")).to_contain_text("You can try again")


def session_ended(visitor: Visitor) -> None:
    """Revoke the session from another device."""
    visitor.sign_in()
    (sid,) = visitor.sids()
    (other,) = visitor.sign_in_elsewhere(OTHERS["curl"])
    assert other.call("DELETE", f"/api/sessions/{sid}").status == 204

    def is_shown() -> bool:
        visitor.come_online()
        return visitor.page.locator("#sign-in-notice").is_visible()

    wait_until(is_shown, what="the end of the session")


def only_this_device(visitor: Visitor) -> None:
    """Sign in on this device only."""
    visitor.sign_in()
    expect(visitor.page.locator("#devices-empty")).to_be_visible()


def devices(visitor: Visitor) -> None:
    """Sign in on four devices, last seen at different times."""
    visitor.sign_in_elsewhere(*OTHERS.values())
    now = datetime.now(UTC)
    for number, (sid, age) in enumerate(zip(visitor.sids(), AGES, strict=True)):
        opened = now - age - timedelta(days=20 * (2 - number))
        address = f"203.0.113.{number * 71 + 9}" if number else "2001:db8:0:42:6d2a:1ff:fe04:9b1"
        visitor.update_sessions(sid, created_at=opened, rotated_at=now - age, last_ip_address=address)
    visitor.sign_in()
    expect(visitor.page.locator(".device")).to_have_count(4)


def many_devices(visitor: Visitor) -> None:
    """Sign in on more devices than one page of the list shows."""
    visitor.sign_in_elsewhere(*(OTHERS["Firefox on macOS"],) * 12)
    visitor.sign_in()
    visitor.page.locator("#devices-more").scroll_into_view_if_needed()


def device_signed_out(visitor: Visitor) -> None:
    """Sign out another device."""
    devices(visitor)
    visitor.sign_out_device("curl")
    visitor.expect_text("#devices-done", "curl is signed out.")


def all_others(visitor: Visitor) -> None:
    """Press the button that signs out all other devices."""
    devices(visitor)
    visitor.page.click("#end-others")
    expect(visitor.page.locator("#sure")).to_be_visible()


def password_again(visitor: Visitor) -> None:
    """Sign out a device after the last authentication has become too old."""
    devices(visitor)
    visitor.expire_authentication()
    visitor.sign_out_device("curl")
    expect(visitor.page.locator("#again")).to_be_visible()


def offline(visitor: Visitor) -> None:
    """Lose the connection while the page shows devices."""
    devices(visitor)
    visitor.context.set_offline(True)
    expect(visitor.page.locator("#banner")).to_be_visible()


def password_rejected(visitor: Visitor) -> None:
    """Submit a new password that is too weak."""
    visitor.sign_in()
    visitor.change_password(WEAK_PASSWORD)
    expect(visitor.page.locator("#new-error")).to_be_visible()


def security(visitor: Visitor) -> None:
    """Show the tab for the security of the account."""
    visitor.sign_in()
    visitor.open_tab("security")
    expect(visitor.page.locator("#end-all")).to_be_visible()


def profile(visitor: Visitor) -> None:
    """Show the account itself."""
    visitor.sign_in()
    visitor.open_tab("profile")
    visitor.expect_text("#profile-name", visitor.name)


def password_changed(visitor: Visitor) -> None:
    """Change the password."""
    visitor.sign_in()
    visitor.change_password(NEW_PASSWORD)
    expect(visitor.page.locator("#change-done")).to_contain_text("was changed")


Scene = Callable[[Visitor], None]
SCENES: Final[dict[str, Scene]] = {
    re.sub("_", "-", scene.__name__): scene
    for scene in (
        loading,
        no_connection,
        sign_in,
        wrong_password,
        too_many_attempts,
        session_ended,
        only_this_device,
        devices,
        many_devices,
        device_signed_out,
        all_others,
        password_again,
        offline,
        password_rejected,
        password_changed,
        security,
        profile,
    )
}
