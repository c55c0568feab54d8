"""Passkeys in Chromium with a virtual authenticator, behind TLS (F4 and F5)."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

import pytest
from flask import Flask
from playwright.sync_api import Browser, CDPSession, Page, Playwright

from tests.conftest import Databases
from tests.support.app import application, create_user
from tests.support.chromium import launch
from tests.support.client import Client, claims_of, sign_in
from tests.support.security_keys import decode, passkey_login
from tests.support.server import Server
from tests.support.tls import APP, LOGIN, SIBLING, Sites, production_settings
from tokenapp import audit

RP_ID: Final = "tokenapp.test"
# As a misconfigured proxy or a client may send them.
FORWARDED: Final = {
    "X-Forwarded-Host": "attacker.example",
    "X-Forwarded-Proto": "http",
    "X-Forwarded-Port": "1",
    "Forwarded": "host=attacker.example;proto=http",
}
POST: Final = """async (origin, path, body, token) => {
    const headers = { "Content-Type": "application/json", ...(token && { Authorization: `Bearer ${token}` }) };
    const init = { method: "POST", credentials: "include", headers, body: JSON.stringify(body) };
    return (await fetch(origin + path, init)).json();
}"""
REGISTER: Final = f"""async ([origin, token]) => {{
    const post = {POST};
    const {{ publicKey }} = await post(origin, "/api/me/passkeys/options", {{}}, token);
    const options = PublicKeyCredential.parseCreationOptionsFromJSON(publicKey);
    try {{
        const credential = await navigator.credentials.create({{ publicKey: options }});
        return await post(origin, "/api/me/passkeys", {{ credential: credential.toJSON(), name: "Here" }}, token);
    }} catch (error) {{
        return {{ error: error.name, message: error.message }};
    }}
}}"""
SIGN: Final = f"""async ([origin, mediation, milliseconds]) => {{
    const {{ publicKey }} = await ({POST})(origin, "/api/passkeys/options", {{}});
    const options = PublicKeyCredential.parseRequestOptionsFromJSON(publicKey);
    const signal = milliseconds ? AbortSignal.timeout(milliseconds) : undefined;
    try {{
        return (await navigator.credentials.get({{ publicKey: options, mediation, signal }})).toJSON();
    }} catch (error) {{
        return {{ error: error.name, message: error.message }};
    }}
}}"""
LOGIN_WITH: Final = f"([origin, credential]) => ({POST})(origin, '/api/login/passkey', {{ credential }})"

pytestmark = pytest.mark.timeout(300)


@dataclass
class Deployed:
    """The service in production behind TLS at an unusual port, and a browser."""

    app: Flask
    server: Server
    browser: Browser
    port: int

    def url(self, host: str) -> str:
        """Return the origin of a site."""
        return f"https://{host}:{self.port}"


@pytest.fixture(scope="module")
def rig(databases: Databases, playwright: Playwright, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """Give the service with a parent domain for passkeys."""
    url, folder = databases("sqlite"), tmp_path_factory.mktemp("passkeys")
    for name in ("app", "forum"):
        (folder / name).mkdir()
        (folder / name / "index.html").write_text("<!doctype html><title>A page</title><body>")
    sites = Sites(folder, 0, LOGIN, {APP: folder / "app", SIBLING: folder / "forum"})
    settings = {
        **production_settings(LOGIN),
        "TOKENAPP_ISSUER": f"https://{LOGIN}:{sites.port}",
        "TOKENAPP_ALLOWED_ORIGINS": f"https://{APP}:{sites.port}",
        "TOKENAPP_RP_ID": RP_ID,
    }
    with ExitStack() as stack:
        app = stack.enter_context(application(url, **settings))
        server = stack.enter_context(Server(url, settings, log=folder / "server.log"))
        sites.upstream = server.port
        stack.enter_context(sites)
        browser = stack.enter_context(launch(playwright, *sites.browser_arguments))
        yield Deployed(app, server, browser, sites.port)


class Visitor:
    """A new user with a browser that has a virtual authenticator."""

    def __init__(self, rig: Deployed, name: str, *, synchronised: bool) -> None:
        self.rig, self.name = rig, name
        create_user(rig.app, name)
        self.context = rig.browser.new_context(extra_http_headers=FORWARDED)
        self.page: Page = self.context.new_page()
        # Not the account page: its autofill is a request of its own, and a page can have only one at a time.
        self.page.route("**/empty", lambda route: route.fulfill(body="<!doctype html>", content_type="text/html"))
        self.page.goto(rig.url(LOGIN) + "/empty")
        self.cdp: CDPSession = self.context.new_cdp_session(self.page)
        self.cdp.send("WebAuthn.enable")
        options = {
            "protocol": "ctap2",
            "ctap2Version": "ctap2_1",
            "transport": "internal",
            "hasResidentKey": True,
            "hasUserVerification": True,
            "isUserVerified": True,
            "automaticPresenceSimulation": True,
            "defaultBackupEligibility": synchronised,
            "defaultBackupState": synchronised,
        }
        added = self.cdp.send("WebAuthn.addVirtualAuthenticator", {"options": options})
        self.authenticator: str = added["authenticatorId"]
        self.account = sign_in(rig.server.port, name)

    def register(self) -> dict[str, Any]:
        """Add a passkey on the page; return the response."""
        added: dict[str, Any] = self.page.evaluate(REGISTER, [self.rig.url(LOGIN), self.account.token])
        return added

    def sign(self, mediation: str = "optional", *, milliseconds: int = 0) -> dict[str, Any]:
        """Sign on the page; return the credential, or the error's name."""
        signed: dict[str, Any] = self.page.evaluate(SIGN, [self.rig.url(LOGIN), mediation, milliseconds])
        return signed

    def sign_in(self, mediation: str = "optional") -> dict[str, Any]:
        """Sign in with a passkey on the page; return the response."""
        credential = self.sign(mediation)
        assert "error" not in credential, credential
        response: dict[str, Any] = self.page.evaluate(LOGIN_WITH, [self.rig.url(LOGIN), credential])
        return response

    def credentials(self) -> list[dict[str, Any]]:
        """Return the credentials in the authenticator."""
        found = self.cdp.send("WebAuthn.getCredentials", {"authenticatorId": self.authenticator})
        stored: list[dict[str, Any]] = found["credentials"]
        return stored

    def restore(self, credential: dict[str, Any]) -> None:
        """Put a credential back as it was."""
        where = {"authenticatorId": self.authenticator}
        self.cdp.send("WebAuthn.removeCredential", {**where, "credentialId": credential["credentialId"]})
        self.cdp.send("WebAuthn.addCredential", {**where, "credential": credential})

    def set_option(self, method: str, **values: Any) -> None:
        """Change the authenticator."""
        self.cdp.send(f"WebAuthn.{method}", {"authenticatorId": self.authenticator, **values})


@pytest.fixture(params=[True, False], ids=["synchronised", "device-bound"])
def visitor(rig: Deployed, request: pytest.FixtureRequest) -> Iterator[Visitor]:
    """Give a visitor whose passkeys are of either kind."""
    visitor = Visitor(rig, request.node.name, synchronised=request.param)
    yield visitor
    visitor.context.close()


@pytest.fixture
def synchronised(rig: Deployed, request: pytest.FixtureRequest) -> Iterator[Visitor]:
    """Give a visitor whose passkeys are synchronised."""
    visitor = Visitor(rig, request.node.name, synchronised=True)
    yield visitor
    visitor.context.close()


def test_passkey_signs_in_at_an_unusual_port_whatever_headers_say(visitor: Visitor) -> None:
    added = visitor.register()["passkey"]
    response = visitor.sign_in()
    amr = "swk" if added["synced"] else "hwk"
    assert claims_of(response["accessToken"])["amr"] == [amr, "user", "mfa"]
    (stored,) = visitor.credentials()
    assert stored["isResidentCredential"]
    assert stored["rpId"] == RP_ID
    cookies = {each["name"] for each in visitor.context.cookies()}
    assert "__Host-refreshToken" in cookies


def test_autofill_signs_in(synchronised: Visitor) -> None:
    synchronised.register()
    assert synchronised.sign_in("conditional")["message"] == "Logged in successfully."


def test_counter_that_goes_back(visitor: Visitor) -> None:
    synced = visitor.register()["passkey"]["synced"]
    visitor.sign_in()
    (old,) = visitor.credentials()
    visitor.sign_in()
    visitor.restore(old)
    response = visitor.sign_in()
    with visitor.rig.app.app_context():
        events = [each.reason for each in audit.list_events(kind="passkey_counter")]
    assert ("accessToken" in response) is synced
    assert ("synchronised: accepted" if synced else "bound to a device: rejected") in events


def test_known_authenticator_is_not_registered_twice(synchronised: Visitor) -> None:
    synchronised.register()
    synchronised.account = Client(synchronised.rig.server.port)
    synchronised.account.token = synchronised.sign_in()["accessToken"]
    assert synchronised.register()["error"] == "InvalidStateError"


def test_cancelled_dialog_leaves_everything_as_it_was(synchronised: Visitor) -> None:
    synchronised.set_option("setUserVerified", isUserVerified=False)
    assert synchronised.register()["error"] == "NotAllowedError"
    synchronised.set_option("setUserVerified", isUserVerified=True)
    synchronised.register()
    synchronised.set_option("setAutomaticPresenceSimulation", enabled=False)
    assert synchronised.sign(milliseconds=300)["error"] == "TimeoutError"
    synchronised.set_option("setAutomaticPresenceSimulation", enabled=True)
    assert "accessToken" in synchronised.sign_in()


def test_page_of_an_allowed_origin_signs_in_and_another_one_does_not(synchronised: Visitor) -> None:
    rig = synchronised.rig
    synchronised.register()
    synchronised.context.set_extra_http_headers({})  # a page could not send those to another origin
    synchronised.page.goto(rig.url(APP))
    assert "accessToken" in synchronised.sign_in()
    options = Client(rig.server.port).send("POST", "/api/passkeys/options").json["publicKey"]
    synchronised.page.goto(rig.url(SIBLING))  # the browser lets it sign for the parent domain
    signed = synchronised.page.evaluate(
        "async publicKey => (await navigator.credentials.get({ publicKey:"
        " PublicKeyCredential.parseRequestOptionsFromJSON(publicKey) })).toJSON()",
        options,
    )
    assert rig.url(SIBLING).encode() in decode(signed["response"]["clientDataJSON"])
    assert passkey_login(Client(rig.server.port), signed).code == "passkey_invalid"


def test_deleted_passkey_disappears_from_the_authenticator(synchronised: Visitor) -> None:
    passkey_id = synchronised.register()["passkey"]["id"]
    synchronised.account.token = synchronised.sign_in()["accessToken"]
    deleted = synchronised.account.call("DELETE", f"/api/me/passkeys/{passkey_id}")
    assert len(synchronised.credentials()) == 1
    synchronised.page.evaluate(
        "signal => PublicKeyCredential.signalAllAcceptedCredentials(signal)", deleted.json["signal"]
    )
    assert synchronised.credentials() == []


def test_unknown_passkey_disappears_from_the_authenticator(synchronised: Visitor) -> None:
    passkey_id = synchronised.register()["passkey"]["id"]
    synchronised.account.token = synchronised.sign_in()["accessToken"]
    synchronised.account.call("DELETE", f"/api/me/passkeys/{passkey_id}")
    credential = synchronised.sign()
    response = synchronised.page.evaluate(LOGIN_WITH, [synchronised.rig.url(LOGIN), credential])
    assert response["code"] == "passkey_unknown"
    synchronised.page.evaluate(
        "([rpId, credentialId]) => PublicKeyCredential.signalUnknownCredential({ rpId, credentialId })",
        [RP_ID, credential["id"]],
    )
    assert synchronised.credentials() == []
