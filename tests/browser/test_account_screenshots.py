"""The screenshots of the account page, which `make screenshots` takes."""

import os
import re
from typing import Any, Final

import pytest

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
}
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
        take_screenshots(request.getfixturevalue("site"), scene)
    sizes = [(FOLDER / f"{scene}-{look}.png").stat().st_size for look in SCREENSHOTS[scene][1]]
    assert 0 < min(sizes) <= max(sizes) < MAX_BYTES


def test_documentation_shows_exactly_these_screenshots() -> None:
    shown = re.findall(r"\]\(screenshots/([^)]+)\)", (ROOT / "docs/account-page.md").read_text())
    assert sorted(shown) == sorted(NAMES) == sorted(path.name for path in FOLDER.iterdir())


def take_screenshots(site: Site, scene: str) -> None:
    """Bring the page into a state, and take its screenshots."""
    name, looks = SCREENSHOTS[scene]
    visitor = Visitor(site, name)
    SCENES[scene](visitor)
    for look in looks:
        scheme, width, height = LOOKS[look]
        visitor.page.emulate_media(color_scheme=scheme)
        visitor.page.set_viewport_size({"width": width, "height": height})
        if look == "arabic":
            visitor.choose_language("ar")
            visitor.open("html[dir=rtl] .device.current")
        visitor.page.screenshot(path=FOLDER / f"{scene}-{look}.png")
    visitor.close()
