"""The screenshots of the account page, which `make screenshots` takes."""

import os
import re
from typing import Any, Final

import pyotp
import pytest
from playwright.sync_api import expect

from tests.support.account_scenes import SCENES, Site, Visitor
from tests.support.app import ROOT

FOLDER: Final = ROOT / "docs/screenshots"
MAX_BYTES: Final = 150_000
# The user's name and the looks of each scene.
SCREENSHOTS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "sign-in": ("cleo", ("light",)),
    "devices": ("hugo", ("light", "dark", "arabic")),
    "password-again": ("leo", ("light",)),
    "session-ended": ("finn", ("light",)),
    "second-factors": ("mara", ("light",)),
    "access-keys": ("noor", ("light",)),
    "check-your-mail": ("otto", ("light",)),
}
SITES: Final = {"check-your-mail": "mailing"}
# The colour scheme, width and height of each look.
LOOKS: Final[dict[str, tuple[Any, int, int]]] = {
    "light": ("light", 860, 860),
    "dark": ("dark", 860, 860),
    "arabic": ("light", 360, 860),
}
NAMES: Final = {f"{scene}-{look}.png" for scene, (_, looks) in SCREENSHOTS.items() for look in looks}


@pytest.mark.parametrize("scene", SCREENSHOTS)
def test_screenshots_exist_and_are_small(scene: str, request: pytest.FixtureRequest) -> None:
    if os.environ.get("SCREENSHOTS"):
        take_screenshots(request.getfixturevalue(SITES.get(scene, "site")), scene)
    sizes = [(FOLDER / f"{scene}-{look}.png").stat().st_size for look in SCREENSHOTS[scene][1]]
    assert 0 < min(sizes) <= max(sizes) < MAX_BYTES


def test_documentation_shows_exactly_these_screenshots() -> None:
    shown = re.findall(r"\]\(screenshots/([^)]+)\)", (ROOT / "docs/account-page.md").read_text())
    assert sorted(shown) == sorted(NAMES) == sorted(path.name for path in FOLDER.iterdir())


def take_screenshots(site: Site, scene: str) -> None:
    """Bring the page into a state, and take its screenshots."""
    name, looks = SCREENSHOTS[scene]
    visitor = Visitor(site, name)
    {**SCENES, **PICTURED}[scene](visitor)
    for look in looks:
        scheme, width, height = LOOKS[look]
        visitor.page.emulate_media(color_scheme=scheme)
        visitor.page.set_viewport_size({"width": width, "height": height})
        if look == "arabic":
            visitor.choose_language("ar")
            visitor.open("html[dir=rtl] .device.current")
        visitor.page.screenshot(path=FOLDER / f"{scene}-{look}.png")
    visitor.close()


def second_factors(visitor: Visitor) -> None:
    """Set up an authenticator app."""
    visitor.sign_in()
    visitor.open_tab("security")
    visitor.page.click("#factors-add")
    key = visitor.page.locator("#enrol .totp-secret")
    expect(key).not_to_be_empty()
    visitor.page.fill("#enrol-code", pyotp.TOTP(key.inner_text().replace(" ", "")).now())
    visitor.page.keyboard.press("Enter")
    visitor.page.check("#codes-saved")
    visitor.page.click("#codes-continue")
    expect(visitor.page.locator("#factors-list li")).to_have_count(1)


def access_keys(visitor: Visitor) -> None:
    """Create an access key."""
    visitor.sign_in()
    visitor.open_tab("keys")
    visitor.page.fill("#keys-name", "Deployment")
    visitor.page.fill("#keys-scopes", "orders:read")
    visitor.page.keyboard.press("Enter")
    visitor.page.click("#new-key [data-cancel]")
    visitor.page.locator(".key .end").scroll_into_view_if_needed()


def check_your_mail(visitor: Visitor) -> None:
    """Ask for the mail that creates an account."""
    visitor.open("#register-ask", address="#register")
    visitor.page.fill("#register-email", "otto@example.com")
    visitor.page.keyboard.press("Enter")
    expect(visitor.page.locator("#register-sent")).to_contain_text("otto")


PICTURED: Final = {
    "second-factors": second_factors,
    "access-keys": access_keys,
    "check-your-mail": check_your_mail,
}
