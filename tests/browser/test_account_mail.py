"""The account page: the links of mails, and what users do with an address."""

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.support.account_scenes import NEW_PASSWORD, OTHERS, WEAK_PASSWORD, Site, Visitor, wait_for_start
from tests.support.app import PASSWORD
from tests.support.mailbox import Mailbox

UNKNOWN_TOKEN = "A" * 43


def submit(page: Page, view: str, step: str) -> None:
    """Press the button of a step of a view."""
    page.click(f"#{view}-{step} [type=submit]")


def ask(visitor: Visitor, view: str, address: str) -> None:
    """Open a view from the sign-in, and ask it for a mail."""
    visitor.open()
    visitor.page.click(f'#view-sign-in [href="#{view}"]')
    visitor.page.fill(f"#{view}-email", address)
    submit(visitor.page, view, "ask")
    expect(visitor.page.locator(f"#{view}-sent")).to_contain_text(address)


def follow(visitor: Visitor, link: str) -> None:
    """Open the link of a mail in a new tab."""
    visitor.page = visitor.new_page()
    visitor.open(f"#{link.partition('=')[0]}-use", address=f"#{link}")


def create_account(page: Page, name: str, password: str = PASSWORD) -> None:
    """Fill in and submit the form for a new account."""
    page.fill("#register-name", name)
    page.fill("#register-new", password)
    submit(page, "register", "use")


def test_newcomer_creates_an_account(correspondent: Visitor, mailbox: Mailbox) -> None:
    address = f"new.{correspondent.email}"
    ask(correspondent, "register", address)
    correspondent.expect_focus("#register-check")
    follow(correspondent, f"register={mailbox.wait_for_token('register', address)}")
    correspondent.expect_focus("#register-name")
    assert correspondent.page.url == correspondent.url
    create_account(correspondent.page, correspondent.name)
    correspondent.expect_text("#register-name-error", re.compile("is taken"))
    create_account(correspondent.page, "new", WEAK_PASSWORD)
    correspondent.expect_text("#register-new-error", re.compile("too easy to guess"))
    create_account(correspondent.page, "new", "short")
    correspondent.expect_text("#register-new-error", re.compile("at least"))
    create_account(correspondent.page, f"new {correspondent.name}")
    correspondent.expect_text("#account-name", f"new {correspondent.name}")
    correspondent.open_tab("profile")
    correspondent.expect_text("#profile-email", address)
    assert correspondent.errors == []


def test_new_account_takes_the_place_of_the_one_that_is_signed_in(correspondent: Visitor, mailbox: Mailbox) -> None:
    address = f"second.{correspondent.email}"
    ask(correspondent, "register", address)
    correspondent.sign_in()
    follow(correspondent, f"register={mailbox.wait_for_token('register', address)}")
    create_account(correspondent.page, f"second {correspondent.name}")
    correspondent.expect_text("#account-name", f"second {correspondent.name}")
    correspondent.open("#view-account")
    correspondent.expect_text("#account-name", f"second {correspondent.name}")
    correspondent.expect_text(".device .title", re.compile("Chrome"))
    expect(correspondent.page.locator(".device")).to_have_count(1)


def test_known_address_looks_like_an_unknown_one(correspondent: Visitor, mailbox: Mailbox) -> None:
    assert correspondent.email is not None
    mailbox.clear()
    ask(correspondent, "register", correspondent.email)
    shown = correspondent.page.inner_text("#register-sent")
    ask(correspondent, "register", f"x{correspondent.email}")
    assert correspondent.page.inner_text("#register-sent") == shown.replace(
        correspondent.email, f"x{correspondent.email}"
    )


def test_address_that_is_none_is_reported_at_its_field(correspondent: Visitor) -> None:
    correspondent.open()
    correspondent.page.click('[href="#register"]')
    submit(correspondent.page, "register", "ask")
    correspondent.expect_text("#register-email-error", "Please enter your e-mail address.")
    correspondent.page.fill("#register-email", "no address")
    submit(correspondent.page, "register", "ask")
    correspondent.expect_text("#register-email-error", "Mail cannot be sent to this address. Please check it.")


def test_forgotten_password_is_replaced(correspondent: Visitor, mailbox: Mailbox) -> None:
    assert correspondent.email is not None
    (other,) = correspondent.sign_in_elsewhere(OTHERS["curl"])
    ask(correspondent, "reset", correspondent.email)
    follow(correspondent, f"reset={mailbox.wait_for_token('reset', correspondent.email)}")
    correspondent.page.fill("#reset-new", WEAK_PASSWORD)
    submit(correspondent.page, "reset", "use")
    correspondent.expect_text("#reset-new-error", re.compile("too easy to guess"))
    correspondent.page.fill("#reset-new", NEW_PASSWORD)
    submit(correspondent.page, "reset", "use")
    correspondent.expect_text("#sign-in-notice", re.compile("Your password was changed"))
    assert other.refresh().status == 403
    correspondent.submit_sign_in(NEW_PASSWORD)
    correspondent.expect_text("#account-name", correspondent.name)


def test_reset_signs_this_browser_out(correspondent: Visitor, mailbox: Mailbox) -> None:
    assert correspondent.email is not None
    ask(correspondent, "reset", correspondent.email)
    correspondent.sign_in()
    follow(correspondent, f"reset={mailbox.wait_for_token('reset', correspondent.email)}")
    correspondent.page.fill("#reset-new", NEW_PASSWORD)
    submit(correspondent.page, "reset", "use")
    correspondent.expect_text("#sign-in-notice", re.compile("Your password was changed"))
    correspondent.open("#view-sign-in")


def test_address_is_changed_and_the_change_undone(correspondent: Visitor, mailbox: Mailbox) -> None:
    assert correspondent.email is not None
    new = f"new.address.{correspondent.email}"
    correspondent.sign_in()
    correspondent.open_tab("profile")
    correspondent.expect_text("#profile-email", correspondent.email)
    correspondent.expire_authentication("#view-account")
    correspondent.open_tab("profile")
    correspondent.page.fill("#address-email", new)
    correspondent.page.click("#address [type=submit]")
    correspondent.confirm_password(PASSWORD)
    expect(correspondent.page.locator("#address-done")).to_contain_text(new)
    follow(correspondent, f"email={mailbox.wait_for_token('email', new)}")
    submit(correspondent.page, "email", "use")
    correspondent.expect_text("#email-done", re.compile("Your address is confirmed"))
    correspondent.page.click('#view-email [href="#sign-in"]')
    correspondent.open_tab("profile")
    correspondent.expect_text("#profile-email", new)
    follow(correspondent, f"undo={mailbox.wait_for_token('undo', correspondent.email)}")
    submit(correspondent.page, "undo", "use")
    correspondent.expect_text("#undo-done", re.compile("Your previous address is back"))
    follow(correspondent, f"reset={mailbox.wait_for_token('reset', correspondent.email)}")
    correspondent.page.fill("#reset-new", NEW_PASSWORD)
    submit(correspondent.page, "reset", "use")
    correspondent.submit_sign_in(NEW_PASSWORD)
    correspondent.expect_text("#account-name", correspondent.name)
    assert correspondent.errors == []


def test_temporary_password_is_replaced_before_the_sign_in(correspondent: Visitor) -> None:
    correspondent.make_password_temporary()
    correspondent.open()
    correspondent.submit_sign_in(PASSWORD)
    correspondent.expect_focus("#temporary-new")
    correspondent.page.click("#temporary-cancel")
    expect(correspondent.page.locator("#view-sign-in")).to_be_visible()
    correspondent.submit_sign_in(PASSWORD)
    for password, problem in ((PASSWORD, "must differ"), (WEAK_PASSWORD, "too easy to guess")):
        correspondent.page.fill("#temporary-new", password)
        correspondent.page.click("#temporary [type=submit]")
        correspondent.expect_text("#temporary-new-error", re.compile(problem))
    correspondent.page.fill("#temporary-new", NEW_PASSWORD)
    correspondent.page.click("#temporary [type=submit]")
    correspondent.expect_text("#account-name", correspondent.name)


def test_account_is_deleted_after_its_name_and_password(correspondent: Visitor) -> None:
    correspondent.sign_in()
    correspondent.expire_authentication("#view-account")
    correspondent.open_tab("profile")
    correspondent.page.fill("#leave-name", "somebody else")
    correspondent.page.click("#leave [type=submit]")
    correspondent.expect_text("#leave-name-error", "This is not your user name.")
    correspondent.page.fill("#leave-name", f" {correspondent.name.upper()} ")
    correspondent.page.click("#leave [type=submit]")
    correspondent.page.click("#again [data-cancel]")
    expect(correspondent.page.locator("#again")).to_be_hidden()
    correspondent.page.click("#leave [type=submit]")
    correspondent.confirm_password(PASSWORD)
    correspondent.expect_text("#sign-in-notice", "Your account is deleted.")
    correspondent.submit_sign_in(PASSWORD, correspondent.name)
    correspondent.expect_text("#sign-in .problem", re.compile("is wrong"))
    assert correspondent.errors == []


def test_data_is_downloaded(correspondent: Visitor) -> None:
    correspondent.sign_in()
    correspondent.open_tab("profile")
    with correspondent.page.expect_download() as download:
        correspondent.page.click("#download")
    assert download.value.suggested_filename == "account.json"
    stored = json.loads(Path(download.value.path()).read_text())
    assert str(correspondent.email) in json.dumps(stored)
    correspondent.expect_text("#data-done", re.compile("was downloaded"))


def test_link_is_pasted_in_any_view(correspondent: Visitor, mailbox: Mailbox) -> None:
    assert correspondent.email is not None
    ask(correspondent, "reset", correspondent.email)
    token = mailbox.wait_for_token("reset", correspondent.email)
    correspondent.page.fill("#reset-link", "https://example.com/account#reset=too-short")
    submit(correspondent.page, "reset", "paste")
    correspondent.expect_text("#reset-link-error", re.compile("This is not a link"))
    correspondent.page.fill("#reset-link", f" {token} ")
    submit(correspondent.page, "reset", "paste")
    expect(correspondent.page.locator("#reset-use")).to_be_visible()
    correspondent.page.goto(f"{correspondent.url}#undo")
    correspondent.page.fill("#undo-link", f"{correspondent.url}#reset={token}")
    submit(correspondent.page, "undo", "paste")
    expect(correspondent.page.locator("#reset-use")).to_be_visible()
    assert token not in correspondent.page.url


@pytest.mark.parametrize("view", ["register", "reset", "email", "undo"])
def test_link_that_does_not_work_is_explained(correspondent: Visitor, view: str) -> None:
    follow(correspondent, f"{view}={UNKNOWN_TOKEN}")
    if view == "register":
        correspondent.page.fill("#register-name", "a name")
    if view in {"register", "reset"}:
        correspondent.page.fill(f"#{view}-new", NEW_PASSWORD)
    submit(correspondent.page, view, "use")
    expect(correspondent.page.locator(f"#{view}-use .problem")).to_contain_text("This link does not work any more")
    if view in {"register", "reset"}:
        correspondent.page.click(f"#{view}-use [data-again]")
        correspondent.expect_focus(f"#{view}-email")


def test_back_button_and_reload_leave_a_view(correspondent: Visitor, mailbox: Mailbox) -> None:
    assert correspondent.email is not None
    page = correspondent.page
    ask(correspondent, "reset", correspondent.email)
    token = mailbox.wait_for_token("reset", correspondent.email)
    page.go_back()
    expect(page.locator("#view-sign-in")).to_be_visible()
    page.go_forward()
    expect(page.locator("#reset-ask")).to_be_visible()
    page.reload()
    wait_for_start(page)
    expect(page.locator("#reset-ask")).to_be_visible()
    page.goto(f"{correspondent.url}#reset={token}")
    expect(page.locator("#reset-use")).to_be_visible()
    page.reload()
    wait_for_start(page)
    expect(page.locator("#view-sign-in")).to_be_visible()
    page.go_back()
    expect(page.locator("#reset-ask")).to_be_visible()
    assert token not in page.evaluate("JSON.stringify([history.state, location.href, { ...sessionStorage }])")
    page.goto(f"{correspondent.url}#reset={token}")
    page.fill("#reset-new", NEW_PASSWORD)
    submit(page, "reset", "use")
    correspondent.expect_text("#sign-in-notice", re.compile("Your password was changed"))


def test_everything_works_with_the_keyboard(correspondent: Visitor, mailbox: Mailbox) -> None:
    address, page = f"keys.{correspondent.email}", correspondent.page

    def tab_to(selector: str) -> None:
        for _ in range(30):
            page.keyboard.press("Tab")
            if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                return
        pytest.fail(f"the tab key does not reach {selector}")

    correspondent.open()
    correspondent.expect_focus("#username")
    tab_to('[href="#register"]')
    page.keyboard.press("Enter")
    correspondent.expect_focus("#register-email")
    page.keyboard.type(address)
    page.keyboard.press("Enter")
    correspondent.expect_focus("#register-check")
    tab_to("#register-link")
    page.keyboard.type(mailbox.wait_for_token("register", address))
    page.keyboard.press("Enter")
    correspondent.expect_focus("#register-name")
    page.keyboard.type(f"keys {correspondent.name}")
    tab_to("#register-new")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    correspondent.expect_text("#account-name", f"keys {correspondent.name}")
    correspondent.expect_focus("#account-title")


def test_page_of_a_service_without_mail_has_nothing_of_it(deployed: Site) -> None:
    page = deployed.server.client.send("GET", "/account").text
    assert [each for each in ("#register", "#reset", "view-email", "view-undo", "view-leave") if each in page] == []


def test_link_is_used_before_the_page_knows_who_is_signed_in(correspondent: Visitor, mailbox: Mailbox) -> None:
    assert correspondent.email is not None
    ask(correspondent, "reset", correspondent.email)
    token = mailbox.wait_for_token("reset", correspondent.email)
    correspondent.sign_in()
    correspondent.hold_refreshes()
    correspondent.page.goto("about:blank")
    correspondent.page.goto(f"{correspondent.url}#reset={token}")
    correspondent.wait_for_held_refresh()
    correspondent.page.fill("#reset-new", NEW_PASSWORD)
    with correspondent.page.expect_response("**/api/password-reset/complete"):
        submit(correspondent.page, "reset", "use")
    correspondent.held.pop().continue_()
    correspondent.context.unroute("**/api/token")
    correspondent.expect_text("#sign-in-notice", re.compile("Your password was changed"))


def test_view_that_is_left_forgets_what_was_typed(correspondent: Visitor) -> None:
    follow(correspondent, f"register={UNKNOWN_TOKEN}")
    correspondent.page.fill("#register-new", NEW_PASSWORD)
    correspondent.page.click('#view-register [href="#sign-in"]')
    expect(correspondent.page.locator("#view-sign-in")).to_be_visible()
    correspondent.page.click('[href="#register"]')
    expect(correspondent.page.locator("#register-ask")).to_be_visible()
    assert correspondent.page.input_value("#register-new") == ""
