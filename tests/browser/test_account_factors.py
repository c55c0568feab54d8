"""The account page: apps, recovery codes, and the second step of a sign-in."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyotp
import pytest
from playwright.sync_api import expect

from tests.browser.conftest import new_visitor
from tests.support.account_scenes import NEW_PASSWORD, Site, Visitor
from tests.support.app import PASSWORD
from tests.support.axe import may_install_axe, run_axe

OVERFLOW = "document.documentElement.scrollWidth - innerWidth"
WRONG_CODE = "This code is wrong, or was used before. Please try the next one."


def confirm(visitor: Visitor, form: str) -> tuple[pyotp.TOTP, list[str]]:
    """Confirm the app whose key is shown; return it and the recovery codes."""
    key = visitor.page.locator(f"#{form} .totp-secret")
    expect(key).not_to_be_empty()
    app = pyotp.TOTP(key.inner_text().replace(" ", ""))
    # The next code is accepted too: it is for the sign-in that follows.
    visitor.page.fill(f"#{form}-code", app.now())
    visitor.page.click(f"#{form} [type=submit]")
    expect(visitor.page.locator("#codes-list li")).to_have_count(10)
    codes = visitor.page.locator("#codes-list li").all_inner_texts()
    visitor.page.check("#codes-saved")
    visitor.page.click("#codes-continue")
    expect(visitor.page.locator("#codes")).to_be_hidden()
    return app, codes


def later(app: pyotp.TOTP) -> str:
    """Return the next code of an app."""
    return app.at(int(time.time()) + 30)


def enrol(visitor: Visitor) -> tuple[pyotp.TOTP, list[str]]:
    """Sign in, and set up an app."""
    visitor.sign_in()
    visitor.open_tab("security")
    visitor.page.click("#factors-add")
    found = confirm(visitor, "enrol")
    expect(visitor.page.locator("#factors-done")).to_contain_text("is set up")
    return found


def enter(visitor: Visitor, code: str) -> None:
    """Submit a code in the second step."""
    visitor.page.fill("#second-code", code)
    visitor.page.click("#second [type=submit]")


def sign_in_again(visitor: Visitor) -> None:
    """Sign out, and give the password."""
    visitor.page.click("#sign-out")
    visitor.submit_sign_in(PASSWORD)
    visitor.expect_focus("#second-code")


def test_app_is_set_up_and_needed_at_the_next_sign_in(visitor: Visitor) -> None:
    app, _ = enrol(visitor)
    expect(visitor.page.locator("#factors-list li")).to_have_count(1)
    visitor.expect_text("#factors-left", "Codes left: 10")
    assert visitor.page.inner_text("#enrol .totp-secret") == ""
    sign_in_again(visitor)
    assert visitor.page.evaluate("document.cookie") == ""
    enter(visitor, "000000")
    visitor.expect_text("#second-code-error", WRONG_CODE)
    enter(visitor, later(app))
    visitor.expect_text("#account-name", visitor.name)
    assert visitor.page.evaluate("violations") == []
    assert visitor.errors == []


def test_wrong_code_does_not_confirm_an_app(visitor: Visitor) -> None:
    visitor.sign_in()
    visitor.open_tab("security")
    visitor.page.click("#factors-add")
    visitor.expect_focus("#enrol-code")
    visitor.page.fill("#enrol-code", "abc")
    visitor.page.click("#enrol [type=submit]")
    visitor.expect_text("#enrol-code-error", WRONG_CODE)
    visitor.page.click("#enrol [data-cancel]")
    visitor.expect_focus("#factors-add")
    expect(visitor.page.locator("#enrol")).to_be_hidden()
    expect(visitor.page.locator("#factors-list li")).to_have_count(0)


def test_picture_is_large_enough_to_scan(visitor: Visitor) -> None:
    visitor.sign_in()
    visitor.open_tab("security")
    visitor.page.click("#factors-add")
    modules = visitor.page.locator("#enrol .qr [stroke]").bounding_box()
    assert modules is not None
    assert modules["width"] > 150


def test_picture_has_the_paths_of_the_service_and_nothing_else(visitor: Visitor) -> None:
    visitor.sign_in()
    visitor.open_tab("security")
    evil = '<svg viewBox="0 0 9 9" onload="x()"><script>x()</script><path d="M0 0h9v9z" onclick="x()"/></svg>'
    body = {"id": "a", "secret": "ABCDEFGH", "uri": "", "qrSvg": evil}
    visitor.page.route("**/factors/totp", lambda route: route.fulfill(json=body))
    visitor.page.click("#factors-add")
    visitor.expect_text("#enrol .totp-secret", "ABCD EFGH")
    shown = visitor.page.inner_html("#enrol .qr")
    assert shown == '<svg viewBox="0 0 9 9"><path d="M0 0h9v9z"></path></svg>'


def test_recovery_code_signs_in_once_and_is_counted(visitor: Visitor) -> None:
    _, codes = enrol(visitor)
    sign_in_again(visitor)
    enter(visitor, codes[0].upper().replace("-", " "))
    visitor.open_tab("security")
    visitor.expect_text("#factors-left", "Codes left: 9")
    sign_in_again(visitor)
    enter(visitor, codes[0])
    visitor.expect_text("#second-code-error", WRONG_CODE)
    visitor.page.click("#second-back")
    expect(visitor.page.locator("#view-sign-in")).to_be_visible()


def test_codes_are_saved_before_the_page_goes_on(visitor: Visitor) -> None:
    visitor.context.grant_permissions(["clipboard-read", "clipboard-write"])
    app, _ = enrol(visitor)
    sign_in_again(visitor)
    enter(visitor, later(app))
    visitor.open_tab("security")
    page = visitor.page
    page.click("#factors-renew")
    page.click("#sure-yes")
    visitor.expect_focus("#codes-title")
    page.keyboard.press("Escape")
    page.click("#codes-continue")
    visitor.expect_text("#codes-saved-error", "Please save the codes first.")
    listed = page.locator("#codes-list li").all_inner_texts()
    page.click("#codes-copy")
    visitor.expect_text("#codes-done", "The codes were copied.")
    assert page.evaluate("navigator.clipboard.readText()") == "\n".join(listed) + "\n"
    with page.expect_download() as download:
        page.click("#codes-download")
    assert Path(download.value.path()).read_text().split() == listed
    page.evaluate("window.print = () => { window.printed = true; }")
    page.click("#codes-print")
    assert page.evaluate("printed") is True
    page.emulate_media(media="print")
    expect(page.locator("main")).to_be_hidden()
    expect(page.locator("#codes-list")).to_be_visible()
    page.emulate_media(media="screen")
    page.check("#codes-saved")
    page.click("#codes-continue")
    visitor.expect_text("#factors-done", "You have new recovery codes.")
    assert page.locator("#codes-list li").count() == 0


def test_app_is_removed_after_both_steps(visitor: Visitor) -> None:
    app, _ = enrol(visitor)
    visitor.update_sessions(authenticated_at=datetime.now(UTC) - timedelta(minutes=16))
    visitor.open("#view-account")
    visitor.open_tab("security")
    visitor.page.click("#factors-list .end")
    visitor.page.click("#sure-yes")
    visitor.confirm_password(PASSWORD)
    visitor.expect_focus("#again-second-code")
    visitor.page.fill("#again-second-code", later(app))
    visitor.page.click("#again-second [type=submit]")
    visitor.expect_text("#factors-done", "The authenticator app is removed.")
    expect(visitor.page.locator("#factors-codes")).to_be_hidden()


def test_password_is_changed_after_both_steps_however_long_they_take(visitor: Visitor) -> None:
    app, _ = enrol(visitor)
    visitor.page.clock.install()
    visitor.expire_authentication("#view-account")
    visitor.change_password(NEW_PASSWORD)
    visitor.expect_focus("#again-password")
    visitor.page.clock.fast_forward(11_000)
    assert visitor.page.text_content("#change .problem") == ""
    visitor.confirm_password(PASSWORD)
    visitor.expect_focus("#again-second-code")
    visitor.page.fill("#again-second-code", later(app))
    visitor.page.click("#again-second [type=submit]")
    expect(visitor.page.locator("#change-done")).to_contain_text("was changed")


def test_required_factor_is_set_up_before_the_account_opens(required: Site) -> None:
    visitor = new_visitor(required)
    visitor.open()
    visitor.submit_sign_in(PASSWORD)
    visitor.expect_focus("#setup-title")
    assert visitor.context.cookies() == []
    app, _ = confirm(visitor, "setup")
    visitor.expect_text("#account-name", visitor.name)
    sign_in_again(visitor)
    enter(visitor, later(app))
    visitor.open_tab("security")
    visitor.page.click("#factors-list .end")
    visitor.page.click("#sure-yes")
    visitor.expect_text("#factors-problem", "You need this to sign in. Add another one first.")
    visitor.close()


def test_expired_second_step_starts_again(visitor: Visitor) -> None:
    app, _ = enrol(visitor)
    sign_in_again(visitor)
    other = visitor.site.server.client.login(visitor.name).json
    assert other["methods"] == ["totp", "recovery_code"]
    expired = {"code": "sign_in_expired", "message": "This sign-in has expired."}
    visitor.page.route("**/api/login/second", lambda route: route.fulfill(status=401, json=expired))
    enter(visitor, later(app))
    expect(visitor.page.locator("#second-problem")).to_contain_text("start again with your password")
    visitor.page.click("#second-back")
    visitor.expect_focus("#sign-in-title")


@may_install_axe
@pytest.mark.parametrize("language", ["de", "ar"])
def test_views_of_factors_are_accessible_and_fit_a_small_screen(site: Site, axe: str, language: str) -> None:
    visitor = new_visitor(site, language)
    page = visitor.page
    page.set_viewport_size({"width": 320, "height": 640})
    found: dict[str, list[str]] = {}

    def inspect(name: str) -> None:
        found[name] = run_axe(page, axe) + ["too wide"] * (page.evaluate(OVERFLOW) > 0)

    visitor.sign_in()
    visitor.open_tab("security")
    page.click("#factors-add")
    expect(page.locator("#enrol .qr svg")).to_be_visible()
    inspect("enrol")
    page.fill("#enrol-code", pyotp.TOTP(page.inner_text("#enrol .totp-secret").replace(" ", "")).now())
    page.keyboard.press("Enter")
    visitor.expect_focus("#codes-title")
    page.click("#codes-continue")
    inspect("codes")
    page.check("#codes-saved")
    page.click("#codes-continue")
    expect(page.locator("#factors-codes")).to_be_visible()
    inspect("factors")
    sign_in_again(visitor)
    inspect("second")
    assert {name: faults for name, faults in found.items() if faults} == {}
    visitor.close()


def test_everything_works_with_the_keyboard(visitor: Visitor) -> None:
    _, codes = enrol(visitor)
    sign_in_again(visitor)
    visitor.page.keyboard.type(codes[1])
    visitor.page.keyboard.press("Enter")
    visitor.expect_text("#account-name", visitor.name)
    visitor.expect_focus("#account-title")
    expect(visitor.page.locator("#view-second")).to_be_hidden()
