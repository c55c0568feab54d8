"""The account page: passkeys, in Chromium with a virtual authenticator."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from playwright.sync_api import Browser, CDPSession, expect

from tests.browser.conftest import new_visitor
from tests.conftest import Databases
from tests.support.account_scenes import Site, Visitor
from tests.support.app import PASSWORD, application
from tests.support.axe import may_install_axe, run_axe
from tests.support.server import Server, free_port

OPTIONS = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}
ADDED = "The passkey was added."


@pytest.fixture(scope="module")
def issuer(databases: Databases, browser: Browser) -> Iterator[Site]:
    """Give a service whose issuer is the address of the page."""
    url, port = databases("sqlite"), free_port()
    settings = {"TOKENAPP_ISSUER": f"http://localhost:{port}"}
    with application(url, **settings) as app, Server(url, settings, port=port) as server:
        yield Site(app, browser, server, f"http://localhost:{port}")


class Owner(Visitor):
    """A user whose browser has a virtual authenticator."""

    def connect(self) -> None:
        """Add the authenticator."""
        self.cdp: CDPSession = self.context.new_cdp_session(self.page)
        self.cdp.send("WebAuthn.enable")
        added = self.cdp.send("WebAuthn.addVirtualAuthenticator", {"options": OPTIONS})
        self.authenticator = {"authenticatorId": added["authenticatorId"]}

    def credentials(self) -> list[dict[str, Any]]:
        """Return the passkeys in the authenticator."""
        found: list[dict[str, Any]] = self.cdp.send("WebAuthn.getCredentials", self.authenticator)["credentials"]
        return found

    def be_present(self, *, presence: bool) -> None:
        """Let the authenticator respond, or not."""
        values = {**self.authenticator, "enabled": presence}
        self.cdp.send("WebAuthn.setAutomaticPresenceSimulation", values)

    def verify(self, *, verified: bool) -> None:
        """Let the fingerprint be right, or wrong."""
        self.cdp.send("WebAuthn.setUserVerified", {**self.authenticator, "isUserVerified": verified})

    def add_passkey(self) -> None:
        """Sign in with the password, and add a passkey."""
        self.be_present(presence=True)
        self.sign_in()
        self.open_tab("security")
        self.page.click("#passkeys-add")
        expect(self.page.locator("#codes")).to_be_visible()
        self.page.check("#codes-saved")
        self.page.click("#codes-continue")
        self.expect_text("#passkeys-done", ADDED)


@pytest.fixture
def owner(issuer: Site, request: pytest.FixtureRequest) -> Iterator[Owner]:
    """Give a new user with an authenticator."""
    owner = Owner(issuer, request.node.name)
    owner.connect()
    yield owner
    owner.close()


def test_passkey_is_added_renamed_and_signs_in(owner: Owner) -> None:
    page = owner.page
    owner.add_passkey()
    expect(page.locator("#passkeys-list .title")).to_contain_text("Chrome")
    page.click("#passkeys-list .rename")
    page.fill("#rename-name", "Work <b>laptop</b>")
    page.keyboard.press("Enter")
    owner.expect_text("#passkeys-list .title", "Work <b>laptop</b>")
    # Without autofill, which the authenticator would accept before the click.
    page.evaluate("PublicKeyCredential.isConditionalMediationAvailable = async () => false")
    page.click("#sign-out")
    page.click("#sign-in-passkey")
    owner.expect_text("#account-name", owner.name)
    assert page.evaluate("violations") == []
    assert owner.errors == []


def test_autofill_of_the_name_signs_in(owner: Owner) -> None:
    owner.add_passkey()
    expect(owner.page.locator("#username")).to_have_attribute("autocomplete", "username webauthn")
    owner.page.click("#sign-out")  # the authenticator accepts the offer by itself
    owner.expect_text("#account-name", owner.name)
    expect(owner.page.locator("#view-account")).to_be_visible()
    assert len(owner.sids()) >= 1


def test_passkey_is_the_second_step(owner: Owner) -> None:
    owner.add_passkey()
    owner.be_present(presence=False)
    owner.page.click("#sign-out")
    owner.submit_sign_in(PASSWORD)
    owner.expect_focus("#second-code")
    owner.be_present(presence=True)
    owner.page.click("#second-passkey")
    owner.expect_text("#account-name", owner.name)


def test_cancelled_dialog_adds_nothing_and_is_explained(owner: Owner) -> None:
    owner.sign_in()
    owner.open_tab("security")
    owner.verify(verified=False)
    owner.page.click("#passkeys-add")
    owner.expect_text("#passkeys-problem", "The passkey was not used. Try again, or choose another way.")
    expect(owner.page.locator("#passkeys-list li")).to_have_count(0)
    assert owner.credentials() == []


def test_removed_passkey_disappears_from_the_authenticator(owner: Owner) -> None:
    owner.add_passkey()
    owner.update_sessions(authenticated_at=datetime.now(UTC) - timedelta(minutes=16))
    owner.open("#view-account")
    owner.open_tab("security")
    owner.page.click("#passkeys-list .end")
    owner.page.click("#sure-yes")
    owner.confirm_password(PASSWORD)
    owner.expect_focus("#again-second-code")
    owner.page.click("#again-second-passkey")
    owner.expect_text("#passkeys-done", "The passkey was removed.")
    assert owner.credentials() == []


@may_install_axe
@pytest.mark.parametrize("language", ["en", "ar"])
def test_passkeys_are_accessible_and_fit_a_small_screen(issuer: Site, axe: str, language: str) -> None:
    visitor = new_visitor(issuer, language)
    owner = Owner(issuer, f"{visitor.name} {language}", language=language)
    visitor.close()
    owner.connect()
    page = owner.page
    page.set_viewport_size({"width": 320, "height": 640})
    owner.open()
    assert run_axe(page, axe) == []
    owner.sign_in()
    owner.open_tab("security")
    page.click("#passkeys-add")
    page.check("#codes-saved")
    page.click("#codes-continue")
    expect(page.locator("#passkeys-list li")).to_have_count(1)
    assert run_axe(page, axe) == []
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    page.click("#passkeys-list .rename")
    assert run_axe(page, axe) == []
    owner.close()


def test_page_of_a_service_without_passkeys_has_nothing_of_them(site: Site, databases: Databases) -> None:
    url, settings = databases("sqlite"), {"TOKENAPP_ISSUER": "http://127.0.0.1:3005"}
    with application(url, **settings) as app:
        page = app.test_client().get("/account").text
    assert [each for each in ("sign-in-passkey", "view-passkeys", "webauthn", "second-passkey") if each in page] == []
    assert site.server.client.send("GET", "/account").status == 200
