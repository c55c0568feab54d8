"""The account page's visitors, and the states that they bring it to."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

import sqlalchemy as sa
from flask import Flask
from playwright.sync_api import Browser, ConsoleMessage, Page, Route, expect

from tests.support.app import PASSWORD, create_user
from tests.support.concurrency import wait_until
from tests.support.server import Server
from tokenapp.db import execute_now
from tokenapp.models import Session

NEW_PASSWORD: Final = "an entirely new one 42"
WRONG: Final = "not the password at all"
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
NOTE_VIOLATIONS: Final = """
    window.violations = [];
    addEventListener("securitypolicyviolation", event => violations.push(event.violatedDirective));
"""


@dataclass
class Site:
    """The service, in this process and as a server, a browser, and where that finds it."""

    app: Flask
    browser: Browser
    server: Server
    origin: str


@dataclass
class Visitor:
    """Somebody with an account and a browser of their own, and what that browser complained about."""

    site: Site
    name: str
    complaints: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)
    held: list[Route] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.id = create_user(self.site.app, self.name)
        self.context = self.site.browser.new_context(user_agent=CHROME, viewport={"width": 1000, "height": 720})
        self.context.set_default_timeout(20_000)
        self.context.add_init_script(NOTE_VIOLATIONS)
        self.context.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))
        self.page = self.new_page()

    def close(self) -> None:
        """Close the browser, and let go of what it still waits for."""
        for route in self.held:
            route.abort()
        self.context.close()

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"{self.site.origin}/account"

    def new_page(self) -> Page:
        """Open another tab, with nothing in it."""
        page = self.context.new_page()
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        return page

    def open(self, shown: str = "#view-sign-in") -> None:
        """Open the page, and wait for what it is to show."""
        self.page.goto(self.url)
        expect(self.page.locator(shown)).to_be_visible(timeout=20_000)

    def sign_in(self, password: str = PASSWORD) -> None:
        """Open the page and sign in on it."""
        self.open()
        self.give(password)
        expect(self.page.locator(".device.current")).to_be_visible(timeout=20_000)

    def give(self, password: str, name: str | None = None) -> None:
        """Fill in the sign-in form and send it."""
        self.page.fill("#username", name or self.name)
        self.page.fill("#password", password)
        self.page.click("#sign-in [type=submit]")

    def change_password(self, new: str, current: str = PASSWORD) -> None:
        """Fill in the form for a new password and send it."""
        self.page.fill("#current", current)
        self.page.fill("#new", new)
        self.page.click("#change [type=submit]")

    def sign_in_elsewhere(self, *agents: str) -> list[str]:
        """Sign in on other devices; return their refresh tokens."""
        client = self.site.server.client
        replies = [client.login(self.name, headers={"User-Agent": agent}) for agent in agents]
        assert [reply.status for reply in replies] == [200] * len(agents)
        return [str(reply.cookie) for reply in replies]

    def row(self, device: str) -> Any:
        """Return the row of a device."""
        return self.page.locator(".device", has_text=device)

    def update_sessions(self, sid: str | None = None, **values: Any) -> None:
        """Change the rows of the account's sessions, or that of one."""
        these = Session.user_id == self.id if sid is None else Session.id == sid
        with self.site.app.app_context():
            execute_now(sa.update(Session).where(these).values(values))

    def sids(self) -> list[str]:
        """Return the ids of the account's sessions, oldest first."""
        with self.site.app.app_context():
            rows = execute_now(sa.select(Session.id).where(Session.user_id == self.id).order_by(Session.id))
        return [str(row[0]) for row in rows]

    def let_time_pass(self) -> None:
        """Let the password have been given too long ago, and the page know by its next token."""
        self.update_sessions(authenticated_at=datetime.now(UTC) - timedelta(minutes=16))
        self.open(".device.current")

    def hold_refreshes(self) -> None:
        """Let refreshes go unanswered until the test answers them."""
        self.context.route("**/api/token", lambda route: self.held.append(route))  # noqa: PLW0108 -- wants an attribute

    def be_looked_at(self) -> None:
        """Let the page look again at what there is, as it does when a connection comes back."""
        self.page.evaluate("dispatchEvent(new Event('online'))")

    def _note(self, message: ConsoleMessage) -> None:
        # Refusals are what some of these tests are about, and the browser notes each of them.
        if not message.text.startswith("Failed to load resource"):
            self.complaints.append(message.text)


def loading(visitor: Visitor) -> None:
    """Wait for an answer that does not come."""
    visitor.hold_refreshes()
    visitor.open("#view-loading .spinner")


def no_connection(visitor: Visitor) -> None:
    """Open the page just before the connection is lost."""
    loading(visitor)
    wait_until(lambda: visitor.page.evaluate("1") == len(visitor.held), what="a refresh")
    visitor.context.set_offline(True)
    visitor.held.pop().abort()
    expect(visitor.page.locator("#view-unreachable")).to_be_visible()


def sign_in(visitor: Visitor) -> None:
    """Come for the first time."""
    visitor.open()


def wrong_password(visitor: Visitor) -> None:
    """Give another password than one's own."""
    visitor.open()
    visitor.give(WRONG)
    expect(visitor.page.locator("#sign-in .problem")).to_contain_text("is wrong")


def too_many_attempts(visitor: Visitor) -> None:
    """Sign in after five wrong passwords in a row."""
    for _ in range(5):
        visitor.site.server.client.login(visitor.name, WRONG)
    visitor.open()
    visitor.give(PASSWORD)
    expect(visitor.page.locator("#sign-in .problem")).to_contain_text("You can try again")


def session_ended(visitor: Visitor) -> None:
    """Be signed out from another device."""
    visitor.sign_in()
    client = visitor.site.server.client
    bearer = client.login(visitor.name).json["accessToken"]
    assert client.send("DELETE", f"/api/sessions/{visitor.sids()[-2]}", bearer=bearer).status == 204

    def is_told() -> bool:
        visitor.be_looked_at()
        return visitor.page.locator("#sign-in-notice").is_visible()

    wait_until(is_told, what="the end of the session")


def only_this_device(visitor: Visitor) -> None:
    """Have one device."""
    visitor.sign_in()
    expect(visitor.page.locator("#devices-empty")).to_be_visible()


def devices(visitor: Visitor) -> None:
    """Have four devices, some of which were not seen for a while."""
    visitor.sign_in_elsewhere(*OTHERS.values())
    now = datetime.now(UTC)
    for number, (sid, age) in enumerate(zip(visitor.sids(), AGES, strict=True)):
        opened = now - age - timedelta(days=20 * (2 - number))
        address = f"203.0.113.{number * 71 + 9}" if number else "2001:db8:0:42:6d2a:1ff:fe04:9b1"
        visitor.update_sessions(sid, created_at=opened, rotated_at=now - age, ip_address=address)
    visitor.sign_in()
    expect(visitor.page.locator(".device")).to_have_count(4)


def many_devices(visitor: Visitor) -> None:
    """Have more devices than are shown at once."""
    visitor.sign_in_elsewhere(*(OTHERS["Firefox on macOS"],) * 12)
    visitor.sign_in()
    visitor.page.locator("#devices-more").scroll_into_view_if_needed()


def device_signed_out(visitor: Visitor) -> None:
    """Sign one of the other devices out."""
    devices(visitor)
    visitor.row("curl").locator(".end").click()
    expect(visitor.page.locator("#devices-done")).to_have_text("curl is signed out.")


def all_others(visitor: Visitor) -> None:
    """Be asked whether all others are to be signed out."""
    devices(visitor)
    visitor.page.click("#end-others")
    expect(visitor.page.locator("#sure")).to_be_visible()


def password_again(visitor: Visitor) -> None:
    """Be asked for the password, which was given a while ago."""
    devices(visitor)
    visitor.let_time_pass()
    visitor.row("curl").locator(".end").click()
    expect(visitor.page.locator("#again")).to_be_visible()


def offline(visitor: Visitor) -> None:
    """Lose the connection."""
    devices(visitor)
    visitor.context.set_offline(True)
    expect(visitor.page.locator("#banner")).to_be_visible()


def password_refused(visitor: Visitor) -> None:
    """Choose a password that breaks the rule."""
    visitor.sign_in()
    visitor.change_password(f"the one of {visitor.name} and nobody")
    expect(visitor.page.locator("#new-error")).to_be_visible()


def password_changed(visitor: Visitor) -> None:
    """Choose a good password."""
    visitor.sign_in()
    visitor.change_password(NEW_PASSWORD)
    expect(visitor.page.locator("#change-done")).to_contain_text("is changed")


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
        password_refused,
        password_changed,
    )
}
