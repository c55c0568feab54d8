"""The pictures of mails, which `make screenshots` takes."""

import os
import re
from typing import Any, Final

import pytest
from playwright.sync_api import Browser

from tests.support.account_scenes import Site
from tests.support.app import PRODUCTION, ROOT, application
from tokenapp.mail import texts
from tokenapp.mail.outbox import Content

FOLDER: Final = ROOT / "docs/mail-pictures"
MAX_BYTES: Final = 60_000
KINDS: Final = [*texts.texts_of("en")]
SHOWN: Final = re.findall(r"\]\(mail-pictures/(\w+)\.png\)", (ROOT / "docs/mail.md").read_text())
LINKS: Final = {
    "registration": "register",
    "invitation": "register",
    "reset": "reset",
    "address": "email",
    "address_changed": "undo",
}
VALUES: Final = {
    "name": "alice",
    "when": "2026-11-27 16:45 UTC",
    "device": "Firefox on macOS",
    "address": "203.0.113.80",
}
SETTINGS: Final = {
    **PRODUCTION,
    "TOKENAPP_ISSUER": "https://login.example.com",
    "TOKENAPP_SMTP_URL": "smtp://127.0.0.1:1",
    "TOKENAPP_MAIL_FROM": "Example <accounts@example.com>",
}
# The language and the colour scheme of mails that do not look as the others do.
LOOKS: Final[dict[str, tuple[str, Any]]] = {"reset": ("en", "dark"), "locked": ("ar", "light")}


@pytest.mark.parametrize("kind", SHOWN)
def test_picture_of_each_mail_exists_and_is_small(kind: str, request: pytest.FixtureRequest) -> None:
    if os.environ.get("SCREENSHOTS"):
        take_picture(request.getfixturevalue("browser"), request.getfixturevalue("databases")("sqlite"), kind)
    assert 0 < (FOLDER / f"{kind}.png").stat().st_size < MAX_BYTES


def test_documentation_shows_all_pictures_once() -> None:
    assert sorted(SHOWN) == sorted(path.stem for path in FOLDER.iterdir())
    assert set(LINKS) < set(SHOWN) <= set(KINDS)  # the notices look alike


@pytest.mark.parametrize("kind", KINDS)
def test_mail_fits_a_small_screen_and_loads_nothing(mailing: Site, kind: str) -> None:
    with mailing.app.app_context():
        content = render(kind)
    page = mailing.browser.new_page(viewport={"width": 320, "height": 600})
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.set_content(content.html)
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    assert requests == []
    page.close()


def render(kind: str, language: str = "en") -> Content:
    """Return a mail of a kind, as the service renders it."""
    link = LINKS.get(kind)
    names = re.findall(r"\{(\w+)\}", " ".join(texts.texts_of(language)[kind].body))
    values = {name: VALUES.get(name, name) for name in names}
    return texts.render(kind, "alice@example.com", language, link=link and f"{link}={'EXAMPLE' * 6}A", **values)


def take_picture(browser: Browser, database_url: str, kind: str) -> None:
    """Render a mail as its recipient sees it, and take its picture."""
    language, scheme = LOOKS.get(kind, ("en", "light"))
    with application(database_url, **SETTINGS) as app, app.app_context():
        content = render(kind, language)
    page = browser.new_page(viewport={"width": 480, "height": 200}, color_scheme=scheme)
    page.set_content(content.html)
    FOLDER.mkdir(exist_ok=True)
    page.screenshot(path=FOLDER / f"{kind}.png", full_page=True)
    page.close()
