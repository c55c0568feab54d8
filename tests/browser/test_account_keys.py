"""The account page: access keys are created, shown once, listed and revoked."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from playwright.sync_api import expect

from tests.browser.conftest import new_visitor
from tests.support.access_keys import exchange
from tests.support.account_scenes import Site, Visitor
from tests.support.app import PASSWORD
from tests.support.axe import may_install_axe, run_axe
from tests.support.client import Client
from tokenapp import access_keys
from tokenapp.api.account_page import read_texts
from tokenapp.db import execute_now
from tokenapp.models import AccessKey

OVERFLOW = "document.documentElement.scrollWidth - innerWidth"
# Everything in which a page can keep a text: markup, fields, storage, history.
CONTENT = """() => JSON.stringify([document.documentElement.outerHTML, { ...localStorage }, { ...sessionStorage },
    [...document.querySelectorAll("input, textarea")].map(each => each.value), history.state, location.href])"""


@pytest.fixture
def owner(visitor: Visitor) -> Visitor:
    """Give a user who has opened the tab of the access keys."""
    visitor.sign_in()
    visitor.open_tab("keys")
    visitor.expect_focus("#keys-title")
    return visitor


def submit(owner: Visitor, name: str, scopes: str = "") -> None:
    """Fill in and submit the form for a new key."""
    owner.page.fill("#keys-name", name)
    owner.page.fill("#keys-scopes", scopes)
    owner.page.click("#keys [type=submit]")


def create(owner: Visitor, name: str, scopes: str = "") -> str:
    """Create a key and return its text. The dialog stays open."""
    submit(owner, name, scopes)
    return shown_key(owner)


def shown_key(owner: Visitor) -> str:
    """Wait for the dialog with the new key, and return its text."""
    expect(owner.page.locator("#new-key-text")).to_have_value(re.compile(f"^{access_keys.PATTERN}$"))
    return owner.page.input_value("#new-key-text")


def close(owner: Visitor) -> None:
    """Close the dialog with the new key."""
    owner.page.click("#new-key [data-cancel]")
    expect(owner.page.locator("#new-key")).to_be_hidden()


def test_key_is_created_used_and_revoked(owner: Visitor) -> None:
    page, port = owner.page, owner.site.server.port
    owner.expect_text("#keys-empty", "You have no access keys.")
    page.select_option("#keys-life", "604800")
    key = create(owner, " nightly <b>build</b> ", "orders:write  orders:read")
    owner.expect_focus("#new-key-copy")
    curl = 'curl -X POST -H "Authorization: Bearer $TOKENAPP_KEY" '
    owner.expect_text("#new-key-curl", f"{curl}{owner.site.origin}/api/token")
    assert exchange(port, key)
    close(owner)
    expect(page.locator("#keys-empty")).to_be_hidden()
    owner.expect_text(".key .title", "nightly <b>build</b>")
    owner.expect_text(".key .scopes", "orders:read orders:write")
    owner.expect_text(".key .used", "Never used")
    shown = [each.evaluate("each => each.dateTime") for each in page.locator(".key .life time").all()]
    created, expires = (datetime.fromisoformat(each) for each in shown)
    assert expires - created == timedelta(days=7)
    owner.come_online()
    owner.expect_text(".key .used", re.compile("^Last used (now|. minutes? ago)$"))  # it is stored to the minute
    page.click(".key .end")
    page.click("#sure [data-cancel]")
    assert exchange(port, key)
    page.click(".key .end")
    page.click("#sure-yes")
    expect(page.locator("#keys-done")).to_contain_text("is revoked.")
    owner.expect_focus("#keys-title")
    expect(page.locator("#keys-empty")).to_be_visible()
    rejected = Client(port).send("POST", "/api/token", bearer=key)
    assert (rejected.status, rejected.json["code"]) == (403, "access_key_invalid")
    assert owner.errors == []


def test_key_is_nowhere_in_the_page_after_leaving_the_view(owner: Visitor) -> None:
    page = owner.page

    def sign_out() -> None:
        page.evaluate("document.querySelector('#sign-out').click()")
        expect(page.locator("#view-sign-in")).to_be_visible()

    ways = {
        "close": lambda: close(owner),
        "escape": lambda: page.keyboard.press("Escape"),
        "another tab": lambda: page.evaluate("location.hash = '#profile'"),
        "back": page.go_back,
        "sign-out": sign_out,
    }
    left = {}
    for way, leave in ways.items():
        owner.open_tab("keys")
        expect(page.locator("#view-keys")).to_be_visible()
        key = create(owner, way)
        assert key in page.evaluate(CONTENT)
        leave()
        expect(page.locator("#new-key")).to_be_hidden()
        expect(page.locator("#new-key-text")).to_have_value("")
        left[way] = key in page.evaluate(CONTENT)
    assert left == dict.fromkeys(ways, False)
    expect(page.locator(".key")).to_have_count(0)
    assert owner.errors == []


def test_key_needs_a_recent_password(owner: Visitor) -> None:
    owner.expire_authentication("#view-account")
    owner.open_tab("keys")
    submit(owner, "CI")
    owner.page.click("#again [data-cancel]")
    expect(owner.page.locator("#again")).to_be_hidden()
    expect(owner.page.locator(".key")).to_have_count(0)
    submit(owner, "CI")
    owner.confirm_password(PASSWORD)
    assert exchange(owner.site.server.port, shown_key(owner))
    close(owner)
    expect(owner.page.locator(".key")).to_have_count(1)


def test_key_is_copied_or_selected(owner: Visitor) -> None:
    owner.context.grant_permissions(["clipboard-read", "clipboard-write"])
    key = create(owner, "CI")
    owner.page.click("#new-key-copy")
    owner.expect_text("#new-key-copied", "The key was copied.")
    assert owner.page.evaluate("navigator.clipboard.readText()") == key
    owner.page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    owner.page.click("#new-key-copy")
    owner.expect_text("#new-key-copied", re.compile("The key is selected"))
    assert owner.page.evaluate("getSelection().toString()") == key


def test_input_that_cannot_be_used_is_reported_at_its_field(owner: Visitor) -> None:
    many = " ".join(f"scope{number}" for number in range(21))
    for name, scopes, field, problem in (
        ("", "", "name", "Please enter a name"),
        ("  ", "", "name", "Please enter a name"),
        ("CI", "orders:read -orders", "scopes", "at most 20 scopes"),
        ("CI", many, "scopes", "at most 20 scopes"),
    ):
        submit(owner, name, scopes)
        expect(owner.page.locator(f"#keys-{field}-error")).to_contain_text(problem)
        owner.expect_focus(f"#keys-{field}")
    create(owner, "CI", "a.b_c:/-d")


def test_too_many_keys_and_one_that_is_gone_are_explained(owner: Visitor) -> None:
    (other,) = owner.sign_in_elsewhere("curl/8.5.0")
    for number in range(access_keys.MAX_KEYS):
        assert other.call("POST", "/api/me/access-keys", payload={"name": str(number)}).status == 200
    submit(owner, "CI")
    owner.expect_text("#keys-problem", "You have too many access keys. Revoke some that you do not need.")
    owner.come_online()
    expect(owner.page.locator(".key")).to_have_count(access_keys.MAX_KEYS)
    key = owner.page.locator(".key").first
    key_id = key.get_attribute("data-id")
    assert other.call("DELETE", f"/api/me/access-keys/{key_id}").status == 204
    key.locator(".end").click()
    owner.page.click("#sure-yes")
    expect(owner.page.locator(".key")).to_have_count(access_keys.MAX_KEYS - 1)


def test_expired_key_says_so(owner: Visitor) -> None:
    create(owner, "CI")
    close(owner)
    expect(owner.page.locator(".key .life")).to_contain_text("Expires on")
    with owner.site.app.app_context():
        past = datetime.now(UTC) - timedelta(days=1)
        execute_now(sa.update(AccessKey).where(AccessKey.user_id == owner.id).values(expires_at=past))
    owner.come_online()
    expect(owner.page.locator(".key .life")).to_contain_text("Expired on")


def test_everything_works_with_the_keyboard(owner: Visitor) -> None:
    page = owner.page

    def tab_to(selector: str) -> None:
        for _ in range(12):
            page.keyboard.press("Tab")
            if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                return
        pytest.fail(f"the tab key does not reach {selector}")

    tab_to("#keys-name")
    page.keyboard.type("CI")
    page.keyboard.press("Enter")
    shown_key(owner)
    tab_to("#new-key [data-cancel]")
    page.keyboard.press("Enter")
    expect(page.locator("#new-key")).to_be_hidden()
    owner.expect_focus("#keys-name")
    tab_to(".key .end")
    page.keyboard.press("Enter")
    owner.expect_focus("#sure [data-cancel]")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    owner.expect_focus("#keys-title")


@pytest.fixture(params=["en", "ar"])
def reader(site: Site, request: pytest.FixtureRequest) -> Iterator[Visitor]:
    """Give a user of one of two languages with a small screen."""
    visitor = new_visitor(site, request.param)
    visitor.page.set_viewport_size({"width": 320, "height": 640})
    yield visitor
    visitor.close()


@may_install_axe
def test_keys_are_accessible_and_fit_a_small_screen(reader: Visitor, axe: str) -> None:
    texts, page = read_texts(reader.language)["keys"], reader.page
    reader.sign_in()
    reader.open_tab("keys")
    submit(reader, "CI", "-")
    reader.expect_text("#keys-scopes-error", texts["wrongScopes"])
    create(reader, "x" * 64, f"{'y' * 64} orders:read")
    assert run_axe(page, axe) == []
    assert page.evaluate(OVERFLOW) <= 0
    assert page.evaluate("document.querySelector('#new-key').scrollWidth <= innerWidth")
    close(reader)
    expect(page.locator(".key")).to_be_visible()
    assert run_axe(page, axe) == []
    assert page.evaluate(OVERFLOW) <= 0
    page.click(".key .end")
    reader.expect_text("#sure-text", texts["sureHint"])
    assert run_axe(page, axe) == []
