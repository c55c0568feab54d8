"""The account page: the words of forms and errors, and how fields behave."""

import re

import pytest
from playwright.sync_api import Route, expect

from tests.support.account_scenes import WRONG_PASSWORD, Visitor
from tests.support.app import PASSWORD

API_ERRORS = [
    (400, "invalid_request", "This input cannot be used. Please check it and try again."),
    (403, "cross_site_request", "The service does not accept requests from the address of this page."),
    (413, "request_too_large", "This input is too long. Please check it and try again."),
    (415, "unsupported_media_type", "Something went wrong on our side."),
    (500, "internal_error", "Something went wrong on our side."),
    (418, "new_code", "Something went wrong on our side."),
    (400, "toString", "Something went wrong on our side."),
]


def test_button_that_hides_the_password_says_so(visitor: Visitor) -> None:
    visitor.open()
    button = visitor.page.locator("#sign-in .reveal")
    for text in ("Show", "Hide", "Show"):
        expect(button).to_have_text(text)
        expect(button).to_have_accessible_name(f"{text} password")
        button.click()


def test_long_word_on_the_button_does_not_cover_the_field(visitor: Visitor) -> None:
    visitor.page.set_viewport_size({"width": 320, "height": 640})
    visitor.open()
    visitor.page.evaluate("document.querySelector('.reveal').textContent = 'Passwortausblendung'")
    field, button = (visitor.page.locator(f"#sign-in .secret {each}").bounding_box() for each in ("input", "button"))
    assert field is not None
    assert button is not None
    assert field["x"] + field["width"] <= button["x"]
    assert button["x"] + button["width"] <= 320


@pytest.mark.parametrize(("status", "code", "words"), API_ERRORS)
def test_words_of_the_service_are_not_shown(visitor: Visitor, status: int, code: str, words: str) -> None:
    def fail(route: Route) -> None:
        route.fulfill(status=status, content_type="application/json", json={"code": code, "message": "16 KiB of JSON"})

    visitor.open()
    visitor.page.route("**/api/login", fail)
    visitor.submit_sign_in(PASSWORD)
    visitor.expect_text("#sign-in .problem", re.compile(f"^{re.escape(words)}"))


def test_name_that_is_too_long_gets_the_same_words(visitor: Visitor) -> None:
    visitor.open()
    visitor.submit_sign_in("x" * 20_000)
    visitor.expect_text("#sign-in .problem", re.compile("This input is too long|This input cannot be used"))


def test_fields_are_not_corrected_and_passwords_not_spell_checked(visitor: Visitor) -> None:
    visitor.open()
    script = """() => [...document.querySelectorAll("input:not([readonly])")].map(each =>
        [each.getAttribute("autocapitalize"), each.getAttribute("autocorrect"), each.getAttribute("spellcheck")])"""
    assert {tuple(each) for each in visitor.page.evaluate(script)} == {("none", "off", "false")}


def test_caps_lock_is_mentioned_while_it_is_on(visitor: Visitor) -> None:
    visitor.open()
    press = """isOn => document.querySelector("#password").dispatchEvent(
        new KeyboardEvent("keydown", { key: "A", modifierCapsLock: isOn }))"""
    visitor.page.focus("#password")
    visitor.page.evaluate(press, True)  # noqa: FBT003 -- the argument of the script
    visitor.expect_text("#password-caps", "Caps Lock is on.")
    visitor.page.evaluate(press, False)  # noqa: FBT003 -- as above
    expect(visitor.page.locator("#password-caps")).to_be_hidden()
    visitor.page.evaluate("document.querySelector('#password').dispatchEvent(new Event('keydown'))")
    visitor.page.evaluate(press, True)  # noqa: FBT003 -- as above
    visitor.page.focus("#username")
    expect(visitor.page.locator("#password-caps")).to_be_hidden()


def test_user_without_a_password_learns_what_to_do(visitor: Visitor) -> None:
    visitor.open()
    expect(visitor.page.locator("#view-sign-in")).to_contain_text("Forgot your password?")


def test_all_devices_are_signed_out_after_a_question(visitor: Visitor) -> None:
    (client,) = visitor.sign_in_elsewhere("curl/8.5.0")
    visitor.sign_in()
    visitor.open_tab("security")
    visitor.page.click("#end-all")
    visitor.page.click("#sure [data-cancel]")
    expect(visitor.page.locator("#sure")).to_be_hidden()
    assert client.refresh().status == 200
    visitor.page.click("#end-all")
    visitor.page.click("#sure-yes")
    visitor.expect_text("#sign-in-notice", "You are signed out.")
    assert client.refresh().status == 403
    visitor.submit_sign_in(WRONG_PASSWORD)
    expect(visitor.page.locator("#sign-in .problem")).to_contain_text("is wrong")
