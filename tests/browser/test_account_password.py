"""The account page: changing the password."""

from playwright.sync_api import expect

from tests.support.account_scenes import NEW_PASSWORD, OTHERS, WEAK_PASSWORD, WRONG_PASSWORD, Visitor


def test_rejected_password_is_reported_with_the_reason(visitor: Visitor) -> None:
    visitor.sign_in()
    for new, reason in (
        ("too short", "The password must have at least 15 characters."),
        (WEAK_PASSWORD, "This password is too easy to guess."),
        (f"{visitor.name} password", "This password is too easy to guess."),
        ("long " * 300, "The password must have at most 1024 bytes."),
    ):
        visitor.change_password(new)
        visitor.expect_text("#new-error", reason)
        visitor.expect_focus("#new")


def test_wrong_current_password_is_reported_at_its_field(visitor: Visitor) -> None:
    visitor.sign_in()
    visitor.change_password(NEW_PASSWORD, current=WRONG_PASSWORD)
    visitor.expect_text("#current-error", "This password is wrong. Please try again.")
    visitor.expect_focus("#current")


def test_changed_password_signs_out_other_devices_and_applies_to_the_next_sign_in(visitor: Visitor) -> None:
    (client,) = visitor.sign_in_elsewhere(OTHERS["curl"])
    visitor.sign_in()
    visitor.change_password(NEW_PASSWORD)
    expect(visitor.page.locator("#devices-empty")).to_be_visible()
    assert client.refresh().status == 403
    assert visitor.page.input_value("#new") == ""
    visitor.page.click("#sign-out")
    visitor.submit_sign_in(NEW_PASSWORD)
    expect(visitor.page.locator("#view-account")).to_be_visible()
