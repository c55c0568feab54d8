"""The account page in production, behind nginx with TLS."""

from typing import Final

from playwright.sync_api import expect

from tests.support.account_scenes import NEW_PASSWORD, OTHERS, Site, Visitor
from tests.support.tls import LOGIN

COOKIE: Final = "__Host-refreshToken"


def test_account_page_works_behind_a_proxy_with_tls(deployed: Site) -> None:
    visitor = Visitor(deployed, "ada")
    visitor.sign_in_elsewhere(OTHERS["curl"])
    visitor.sign_in()
    assert [cookie["name"] for cookie in visitor.context.cookies()] == [COOKIE]
    visitor.open(".device.current")
    visitor.sign_out_device("curl")
    visitor.expect_text("#devices-done", "curl is signed out.")
    visitor.change_password(NEW_PASSWORD)
    expect(visitor.page.locator("#change-done")).to_contain_text("Your password was changed")
    visitor.page.click("#sign-out")
    visitor.expect_text("#sign-in-notice", "You are signed out.")
    visitor.open()
    assert visitor.context.cookies() == []
    assert (visitor.errors, visitor.hosts) == ([], {LOGIN})
    visitor.close()
