"""The account page in each of its languages."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import new_visitor
from tests.support.account_scenes import OTHERS, WRONG_PASSWORD, Site, Visitor
from tests.support.axe import may_install_axe, run_axe
from tokenapp.api.account_page import LANGUAGES, read_texts

TABS = ("devices", "password", "security", "keys", "profile")
OVERFLOW = "document.documentElement.scrollWidth - innerWidth"
# Texts that are cut off, or lie over their neighbours.
CUT = """() => [...document.querySelectorAll("button, a, label, .secret > *")].filter(each => each.checkVisibility())
    .filter(each => each.scrollWidth > each.clientWidth + 1 && each.clientWidth > 0
        && getComputedStyle(each).display !== "inline" && each.tagName !== "INPUT")
    .map(each => each.outerHTML)"""


# Shows the views that need a mail or a second step with all their steps and messages, one below the other.
SHOW_ALL = """() => document.querySelectorAll("main > section").forEach(section => {
    const shown = ["register", "reset", "email", "undo", "temporary", "second", "setup"];
    section.hidden = !shown.some(each => section.id === `view-${each}`);
    if (section.hidden) return;
    for (const each of section.querySelectorAll("[hidden]:not([readonly])")) each.hidden = false;
    for (const each of section.querySelectorAll("p:empty")) each.textContent = section.querySelector("h1").textContent;
})"""
# Opens the dialog that asks for the password or a second factor, with everything that it can show.
SHOW_DIALOG = """() => {
    const dialog = document.querySelector("#again");
    for (const each of dialog.querySelectorAll("[hidden]:not([readonly])")) each.hidden = false;
    dialog.showModal();
}"""


@pytest.fixture(params=LANGUAGES)
def foreigner(site: Site, request: pytest.FixtureRequest) -> Iterator[Visitor]:
    """Give a user whose browser asks for one of the languages."""
    visitor = new_visitor(site, request.param)
    visitor.page.set_viewport_size({"width": 320, "height": 640})
    yield visitor
    visitor.close()


@may_install_axe
def test_every_tab_is_accessible_and_fits_a_small_screen(foreigner: Visitor, axe: str) -> None:
    found: dict[str, list[str]] = {}

    def inspect(name: str) -> None:
        page = foreigner.page
        found[name] = run_axe(page, axe) + page.evaluate(CUT)
        page.emulate_media(forced_colors="active")
        found[name] += page.evaluate("async () => (await axe.run()).violations.map(each => `forced: ${each.id}`)")
        page.emulate_media(forced_colors="none")
        if page.evaluate(OVERFLOW) > 0:
            found[name].append("is too wide")

    foreigner.sign_in_elsewhere(*OTHERS.values())
    foreigner.open()
    foreigner.page.click("#sign-in .reveal")
    foreigner.submit_sign_in(WRONG_PASSWORD)
    expect(foreigner.page.locator("#sign-in .problem")).to_be_visible()
    inspect("sign-in")
    foreigner.sign_in()
    for tab in TABS:
        foreigner.open_tab(tab)
        inspect(tab)
    foreigner.open_tab("security")
    foreigner.page.click("#end-all")
    inspect("sure")
    assert {name: faults for name, faults in found.items() if faults} == {}


@may_install_axe
def test_views_outside_the_account_are_accessible_and_fit_a_small_screen(foreigner: Visitor, axe: str) -> None:
    foreigner.open()
    foreigner.page.evaluate(SHOW_ALL)
    assert foreigner.page.locator("main > section form:visible").count() == 13
    assert run_axe(foreigner.page, axe) == []
    assert foreigner.page.evaluate(CUT) == []
    assert foreigner.page.evaluate(OVERFLOW) <= 0
    foreigner.page.evaluate(SHOW_DIALOG)
    assert foreigner.page.locator("#again form:visible").count() == 2
    assert foreigner.page.evaluate(CUT) == []
    assert foreigner.page.evaluate("document.querySelector('#again').scrollWidth - innerWidth") <= 0


def test_page_is_in_the_language_of_the_browser(foreigner: Visitor) -> None:
    texts = read_texts(foreigner.language)
    foreigner.open()
    foreigner.expect_text("#sign-in-title", texts["sign-in"]["title"].replace("{brand}", "tokenapp"))
    foreigner.page.click("#sign-in [type=submit]")
    foreigner.expect_text("#password-error", texts["empty"]["password"])
    direction = "rtl" if foreigner.language == "ar" else "ltr"
    expect(foreigner.page.locator("html")).to_have_attribute("dir", direction)
    expect(foreigner.page.locator("html")).to_have_attribute("lang", foreigner.language)
    assert foreigner.page.evaluate("getComputedStyle(document.body).direction") == direction


def test_account_chooses_the_language_until_its_user_leaves(visitor: Visitor) -> None:
    german, english = read_texts("de"), read_texts("en")
    visitor.choose_language("de-CH")
    visitor.sign_in_elsewhere(OTHERS["curl"], OTHERS["Firefox on macOS"])
    visitor.sign_in()
    expect(visitor.page.locator("html")).to_have_attribute("lang", "de")
    visitor.expect_text("#view-devices h2", german["page"]["devices"])
    expect(visitor.row("Firefox auf macOS").locator(".end")).to_have_attribute(
        "aria-label", "Abmelden: Firefox auf macOS"
    )
    assert visitor.page.title() == german["page"]["title"]
    visitor.page.click("#sign-out")
    visitor.expect_text("#sign-in-notice", english["page"]["signed-out"])
    visitor.expect_text("#sign-in [type=submit]", english["sign-in"]["submit"])
    assert visitor.errors == []


def test_missing_dictionary_leaves_the_page_as_it_is(visitor: Visitor) -> None:
    visitor.choose_language("de-CH")
    visitor.page.route("**/texts-de.json", lambda route: route.abort())
    visitor.sign_in()
    visitor.open_tab("profile")
    visitor.expect_text("#profile-name", visitor.name)
    expect(visitor.page.locator("html")).to_have_attribute("lang", "en")


def test_names_and_devices_are_not_translated(visitor: Visitor) -> None:
    visitor.sign_in()
    for selector in ("#account-name", ".device .title", ".seen bdi", ".opened bdi", "#profile-name", ".brand"):
        assert visitor.page.locator(selector).first.evaluate("each => each.translate") is False, selector
