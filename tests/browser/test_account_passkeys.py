"""The account page: passkeys, in Chromium with a virtual authenticator."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from playwright.sync_api import Browser, CDPSession, expect

from tests.browser.conftest import new_visitor
from tests.conftest import Databases
from tests.support.account_scenes import Site, Visitor
from tests.support.app import PASSWORD, application
from tests.support.axe import may_install_axe, run_axe
from tests.support.concurrency import wait_until
from tests.support.server import Server, free_port
from tokenapp.db import execute_now
from tokenapp.factor_models import Passkey
from tokenapp.models import User

OPTIONS = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}
ADDED = "The passkey was added."
RECORD_REQUESTS = """
    window.requests = [];
    const get = navigator.credentials?.get.bind(navigator.credentials);
    if (get) navigator.credentials.get = (options) => (requests.push(options), get(options));
"""
ASK_TWICE = """async () => {
    const { createClient } = await import("/static/tokenapp.js");
    const { signInWithPasskey } = createClient();
    const get = navigator.credentials.get.bind(navigator.credentials);
    const waiting = new Promise((resolve) => {
        navigator.credentials.get = (options) => (resolve(), get(options));
    });
    const first = signInWithPasskey({ mediation: "conditional" });
    await waiting;
    return Promise.race([first, signInWithPasskey()]).catch((error) => error.name);
}"""
MADE = "requests.map(({ mediation, signal }) => [mediation, signal.aborted])"


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

    def record_requests(self) -> None:
        """Open the form, and record the requests to an authenticator that waits."""
        self.be_present(presence=False)
        self.context.add_init_script(RECORD_REQUESTS)
        self.page.clock.install()
        self.open()
        self.expect_requests(["conditional", False])

    def expect_requests(self, *expected: list[Any]) -> None:
        """Wait until the page has made these requests: how, and whether they were ended."""
        self.page.wait_for_function(f"expected => JSON.stringify({MADE}) === JSON.stringify(expected)", arg=expected)

    def has_no_password(self) -> None:
        """Let the passkeys and recovery codes be the only ways to sign in."""
        with self.site.app.app_context():
            execute_now(sa.update(User).where(User.id == self.id).values(password_hash="", hash_kind=""))

    def renew_codes_much_later(self) -> None:
        """Ask for new recovery codes when the sign-in is not recent any more."""
        self.expire_authentication("#view-account")
        self.open_tab("security")
        self.page.click("#factors-renew")
        self.page.click("#sure-yes")
        expect(self.page.locator("#again-passkey")).to_be_visible()

    def save_codes(self) -> list[str]:
        """Save the recovery codes that are shown, and return them."""
        expect(self.page.locator("#codes")).to_be_visible()
        codes = self.page.locator("#codes-list li").all_inner_texts()
        self.page.check("#codes-saved")
        self.page.click("#codes-continue")
        return codes

    def add_passkey(self) -> list[str]:
        """Sign in with the password, and add a passkey; return the recovery codes."""
        self.be_present(presence=True)
        self.sign_in()
        self.open_tab("security")
        self.page.click("#passkeys-add")
        codes = self.save_codes()
        self.expect_text("#passkeys-done", ADDED)
        return codes


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
    (former,) = owner.sids()
    owner.page.click("#sign-out")  # the authenticator accepts the offer by itself
    wait_until(lambda: bool(owner.page.evaluate("true") and owner.sids() != [former]), what="a new session")
    owner.expect_text("#account-name", owner.name)


def test_autofill_is_renewed_before_its_challenge_expires(owner: Owner) -> None:
    owner.record_requests()
    expect(owner.page.locator("#username")).to_have_attribute("autocomplete", "username webauthn")
    owner.page.clock.fast_forward(250_000)
    owner.expect_requests(["conditional", True], ["conditional", False])
    challenges = owner.page.evaluate("requests.map(({ publicKey }) => btoa(new Uint8Array(publicKey.challenge)))")
    assert len(set(challenges)) == 2


def test_button_ends_the_request_of_autofill(owner: Owner) -> None:
    owner.record_requests()
    owner.page.click("#sign-in-passkey")
    owner.expect_requests(["conditional", True], ["optional", False])


def test_client_ends_its_waiting_request_before_another(owner: Owner) -> None:
    owner.be_present(presence=False)
    owner.page.route("**/blank", lambda route: route.fulfill(content_type="text/html", body="<!doctype html>"))
    owner.page.goto(f"{owner.site.origin}/blank")
    assert owner.page.evaluate(ASK_TWICE) == "AbortError"


def test_deleted_passkey_that_is_used_disappears_from_the_authenticator(owner: Owner) -> None:
    owner.add_passkey()
    with owner.site.app.app_context():
        execute_now(sa.delete(Passkey).where(Passkey.user_id == owner.id))
    owner.page.click("#sign-out")  # as above
    owner.expect_text("#sign-in .problem", "This passkey was deleted here. Please sign in another way.")
    assert owner.credentials() == []


def test_passkey_or_recovery_code_confirms_a_user_without_a_password(owner: Owner) -> None:
    codes = owner.add_passkey()
    owner.has_no_password()
    owner.renew_codes_much_later()
    owner.expect_focus("#again-passkey")
    expect(owner.page.locator("#again-password")).to_be_hidden()
    owner.page.keyboard.press("Enter")
    renewed = owner.save_codes()
    owner.expect_text("#factors-done", "You have new recovery codes.")
    owner.renew_codes_much_later()
    owner.page.click("#again-code")
    owner.expect_focus("#again-second-code")
    for code in (codes[0], renewed[0]):  # the first does not work any more
        owner.page.fill("#again-second-code", code)
        owner.page.keyboard.press("Enter")
        if code == codes[0]:
            expect(owner.page.locator("#again-second-code-error")).to_be_visible()
    assert len(owner.save_codes()) == 10


@may_install_axe
def test_required_passkey_is_set_up_and_leads_back(required: Site, axe: str, request: pytest.FixtureRequest) -> None:
    owner = Owner(required, request.node.name)
    owner.connect()
    owner.page.set_viewport_size({"width": 320, "height": 640})
    owner.open(address="?return_to=/docs")
    owner.submit_sign_in(PASSWORD)
    owner.expect_focus("#setup-title")
    assert run_axe(owner.page, axe) == []
    assert owner.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    owner.verify(verified=False)
    owner.page.click("#setup-passkey")
    owner.expect_text("#setup-problem", "The passkey was not used. Try again, or choose another way.")
    owner.verify(verified=True)
    owner.page.click("#setup-passkey")
    assert len(owner.save_codes()) == 10
    owner.page.wait_for_url(f"{required.origin}/docs")
    assert owner.errors == []
    owner.close()


def test_passkey_is_the_second_step(owner: Owner) -> None:
    owner.add_passkey()
    owner.be_present(presence=False)
    owner.page.click("#sign-out")
    owner.submit_sign_in(PASSWORD)
    owner.expect_focus("#second-code")
    owner.be_present(presence=True)
    owner.page.click("#second-passkey")
    owner.expect_text("#account-name", owner.name)


def test_second_click_on_a_button_that_waits_is_ignored(owner: Owner) -> None:
    owner.sign_in()
    owner.open_tab("security")
    owner.page.dblclick("#passkeys-add")
    owner.save_codes()
    owner.expect_text("#passkeys-done", ADDED)
    expect(owner.page.locator("#passkeys-problem")).to_be_hidden()
    expect(owner.page.locator("#passkeys-list li")).to_have_count(1)


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
    owner.renew_codes_much_later()
    expect(page.locator("#again-code")).to_be_visible()
    assert run_axe(page, axe) == []
    assert page.evaluate("document.querySelector('#again').scrollWidth - innerWidth") <= 0
    owner.close()


def test_page_of_a_service_without_passkeys_has_nothing_of_them(site: Site, databases: Databases) -> None:
    url, settings = databases("sqlite"), {"TOKENAPP_ISSUER": "http://127.0.0.1:3005"}
    with application(url, **settings) as app:
        page = app.test_client().get("/account").text
    assert [each for each in ("sign-in-passkey", "view-passkeys", "webauthn", "second-passkey") if each in page] == []
    assert site.server.client.send("GET", "/account").status == 200
