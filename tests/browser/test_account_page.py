"""The account page, in a real browser: each of its states, and what people do there."""

import fcntl
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import APIResponse, Page, Route, expect

from tests.conftest import Databases
from tests.support.account_scenes import (
    NEW_PASSWORD,
    OTHERS,
    SCENES,
    WRONG,
    Site,
    Visitor,
    device_signed_out,
    devices,
    loading,
    many_devices,
    no_connection,
    offline,
    password_again,
    session_ended,
    too_many_attempts,
)
from tests.support.app import PASSWORD, ROOT, make_app
from tests.support.chromium import chromium
from tests.support.concurrency import wait_until
from tests.support.server import Server
from tokenapp.db import db

AXE = "axe-core@4.14.1"
INSTALLING = 60
# Where axe may have to be installed first, or another process be waited for that does it, and then fails.
wants_axe = pytest.mark.timeout(120 + 2 * INSTALLING)
PICTURES = ROOT / "docs/screenshots"
LOOKS = ("light", "dark", "phone")
LARGEST_PICTURE = 150_000
PEOPLE = ("ada", "ben", "cleo", "dan", "eva", "finn", "gina", "hugo", "ida", "jon", "kim", "leo", "mia", "noah", "olga")
NAMES = count(1)
TIMES: Counter[str] = Counter()
RUN_AXE = """
    async rules => (await axe.run({ resultTypes: ["violations"], ...rules })).violations
        .map(each => `${each.id}: ${each.nodes.map(node => node.html).join(" ")}`)
"""
# In the dark only the colours are others.
RULES: dict[Any, dict[str, Any]] = {"light": {}, "dark": {"runOnly": ["color-contrast"]}}
# Counts answers once the page has read them and done with them what it does.
COUNT_READ = """
    window.read = 0;
    const { json } = Response.prototype;
    Response.prototype.json = function () {
        return json.call(this).finally(() => setTimeout(() => { read += 1; }));
    };
"""
OVERFLOW = "document.documentElement.scrollWidth - innerWidth"


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Give axe's program, which the first process to want it installs for all that run these tests at a time."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with (folder / "axe.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "axe").exists():
            made = tmp_path_factory.mktemp("axe")
            install_axe(made)
            made.rename(folder / "axe")
    return (folder / "axe/node_modules/axe-core/axe.min.js").read_text()


def install_axe(folder: Path) -> None:
    """Install axe, or skip the test where that cannot be done (and fail where it must be)."""
    absent = pytest.fail if os.environ.get("REQUIRE_SERVERS") else pytest.skip
    npm = shutil.which("npm")
    if npm is None:
        absent("npm is not installed")
    install = [str(npm), "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--ignore-scripts", AXE]
    try:
        done = subprocess.run(install, cwd=folder, capture_output=True, text=True, timeout=INSTALLING, check=False)
    except subprocess.TimeoutExpired:
        absent(f"npm has not installed {AXE} in {INSTALLING} s")
    if done.returncode:
        absent(f"npm cannot install {AXE}: {done.stderr[-500:]}")


@pytest.fixture(scope="module")
def site(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Give the service under gunicorn, and a browser."""
    url = databases("sqlite")
    app = make_app(url)
    with chromium() as browser, Server(url, log=tmp_path_factory.mktemp("account") / "server.log") as server:
        yield Site(app, browser, server, f"http://localhost:{server.port}")
    with app.app_context():
        db.engine.dispose()


@pytest.fixture
def visitor(site: Site) -> Iterator[Visitor]:
    """Give somebody new."""
    visitor = Visitor(site, f"visitor {next(NAMES)}")
    yield visitor
    visitor.close()


# Each state.


@dataclass(frozen=True)
class Seen:
    """What was seen of the page in one state."""

    visitor: Visitor
    overflow: dict[str, int]
    complaints: list[str]
    hosts: set[str]


@pytest.fixture(scope="module", params=SCENES)
def seen(site: Site, request: pytest.FixtureRequest) -> Iterator[Seen]:
    """Bring the page to a state, and look at it in every way."""
    visitor = Visitor(site, name_for(request.param))
    SCENES[request.param](visitor)
    page = visitor.page
    take_pictures(page, request.param)
    page.set_viewport_size({"width": 320, "height": 640})
    overflow = {"at 320 px": page.evaluate(OVERFLOW)}
    page.set_viewport_size({"width": 640, "height": 640})
    page.evaluate("document.documentElement.style.fontSize = '200%'")
    overflow["with text at 200 %"] = page.evaluate(OVERFLOW)
    page.evaluate("document.documentElement.style.fontSize = ''")
    page.set_viewport_size({"width": 1000, "height": 720})
    broken = page.evaluate("window.violations")
    yield Seen(visitor, overflow, visitor.complaints + broken, visitor.hosts)
    visitor.close()


def name_for(scene: str) -> str:
    """Return whose page it is: the same name in each picture, but a new one where a scene is shown a second time.

    That happens when two processes share out the tests; whoever was there first may have another password since.
    """
    person = PEOPLE[[*SCENES].index(scene)]
    TIMES[scene] += 1
    return person if TIMES[scene] == 1 else f"{person} {TIMES[scene]}"


def run_axe(page: Page, axe: str) -> list[str]:
    """Return what axe finds fault with."""
    page.evaluate(axe)
    found: list[str] = []
    for scheme, rules in RULES.items():
        page.emulate_media(color_scheme=scheme)
        found += [f"{scheme}: {each}" for each in page.evaluate(RUN_AXE, rules)]
    return found


def take_pictures(page: Page, scene: str) -> None:
    """Take the documents' pictures, where that is asked for."""
    if not os.environ.get("SCREENSHOTS"):
        return
    looks: dict[str, tuple[Any, int, int]] = {
        "light": ("light", 860, 860),
        "dark": ("dark", 860, 860),
        "phone": ("light", 360, 1000),
    }
    for look, (scheme, width, height) in looks.items():
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": height})
        page.screenshot(path=PICTURES / f"{scene}-{look}.png")
    page.set_viewport_size({"width": 1000, "height": 720})


@wants_axe
def test_axe_finds_nothing_in_light_or_dark(seen: Seen, axe: str) -> None:
    assert run_axe(seen.visitor.page, axe) == []


def test_nothing_is_wider_than_a_small_screen_or_large_text_allows(seen: Seen) -> None:
    assert {how: pixels for how, pixels in seen.overflow.items() if pixels > 0} == {}


def test_the_browser_has_nothing_to_complain_about(seen: Seen) -> None:
    assert seen.complaints == []


def test_no_other_host_is_called(seen: Seen) -> None:
    assert seen.hosts == {f"localhost:{seen.visitor.site.server.port}"}


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("scene", SCENES)
def test_each_state_has_its_picture_in_the_documents(scene: str, look: str) -> None:
    picture = PICTURES / f"{scene}-{look}.png"
    assert 0 < picture.stat().st_size < LARGEST_PICTURE
    assert f"screenshots/{picture.name}" in (ROOT / "docs/account-page.md").read_text()


# What people do.


def expect_focus(visitor: Visitor, selector: str) -> None:
    expect(visitor.page.locator(selector)).to_be_focused()


def is_signed_in(visitor: Visitor, cookie: str) -> bool:
    return visitor.site.server.client.refresh(cookie).status == 200


def test_everything_can_be_done_with_the_keyboard_alone(visitor: Visitor) -> None:
    keyboard = visitor.page.keyboard
    visitor.sign_in_elsewhere(OTHERS["curl"])
    visitor.open()

    def go_to(selector: str) -> None:
        for _ in range(30):
            keyboard.press("Tab")
            if visitor.page.evaluate("selector => document.activeElement.matches(selector)", selector):
                return
        pytest.fail(f"{selector} cannot be reached")

    expect_focus(visitor, "#username")
    keyboard.type(visitor.name)
    go_to("#password")
    keyboard.type(PASSWORD)
    keyboard.press("Enter")
    expect(visitor.page.locator(".device")).to_have_count(2)
    expect_focus(visitor, "#account-title")
    visitor.let_time_pass()
    go_to('[aria-label="Sign out curl"]')
    keyboard.press("Enter")
    expect_focus(visitor, "#again-password")
    keyboard.type(PASSWORD)
    keyboard.press("Enter")
    expect(visitor.page.locator(".device")).to_have_count(1)
    expect_focus(visitor, "#devices-title")
    go_to("#current")
    keyboard.type(PASSWORD)
    go_to("#new")
    keyboard.type(NEW_PASSWORD)
    keyboard.press("Enter")
    expect(visitor.page.locator("#change-done")).to_contain_text("Your password is changed")


def test_a_reload_keeps_people_signed_in(visitor: Visitor) -> None:
    visitor.sign_in()
    visitor.open("#view-account")
    expect(visitor.page.locator("#account-name")).to_have_text(visitor.name)


def test_what_is_missing_is_said_at_its_field(visitor: Visitor) -> None:
    visitor.open()
    visitor.page.click("#sign-in [type=submit]")
    expect(visitor.page.locator("#username-error")).to_have_text("Please enter your user name.")
    expect(visitor.page.locator("#password-error")).to_have_text("Please enter your password.")
    expect(visitor.page.locator("#username")).to_have_attribute("aria-invalid", "true")
    expect_focus(visitor, "#username")


def test_a_password_can_be_looked_at_and_is_hidden_again_when_it_is_sent(visitor: Visitor) -> None:
    visitor.open()
    visitor.page.fill("#password", WRONG)
    visitor.page.click("#sign-in .reveal")
    expect(visitor.page.locator("#password")).to_have_attribute("type", "text")
    visitor.give(WRONG)
    expect(visitor.page.locator("#password")).to_have_attribute("type", "password")


def test_signing_out_ends_the_session_and_leaves_nothing_on_the_page(visitor: Visitor) -> None:
    visitor.sign_in()
    visitor.page.fill("#current", PASSWORD)
    visitor.page.click("#sign-out")
    expect(visitor.page.locator("#sign-in-notice")).to_have_text("You are signed out.")
    expect_focus(visitor, "#sign-in-title")
    assert visitor.name not in visitor.page.evaluate("document.body.innerHTML")
    assert visitor.page.evaluate("[...document.querySelectorAll('input')].map(each => each.value).join('')") == ""
    visitor.open()


def test_a_session_that_was_ended_elsewhere_asks_for_the_password_alone(visitor: Visitor) -> None:
    session_ended(visitor)
    expect(visitor.page.locator("#sign-in-notice")).to_contain_text("You were signed out")
    expect(visitor.page.locator("#username")).to_have_value(visitor.name)
    visitor.page.fill("#password", PASSWORD)
    visitor.page.click("#sign-in [type=submit]")
    expect(visitor.page.locator("#view-account")).to_be_visible()


def test_the_end_of_the_session_closes_a_dialog_that_is_open(visitor: Visitor) -> None:
    password_again(visitor)
    tab = visitor.new_page()
    tab.goto(visitor.url)
    tab.click("#sign-out")
    expect(visitor.page.locator("#again")).to_be_hidden()
    expect(visitor.page.locator("#view-sign-in")).to_be_visible()


def test_a_wait_is_counted_down_and_over_at_its_end(visitor: Visitor) -> None:
    visitor.page.clock.install()
    too_many_attempts(visitor)
    problem, button = visitor.page.locator("#sign-in .problem"), visitor.page.locator("#sign-in [type=submit]")
    expect(problem).to_have_text(re.compile(r"You can try again (in \d+ seconds?\.){2}"))
    expect(button).to_have_attribute("aria-disabled", "true")
    visitor.page.clock.fast_forward(31_000)
    expect(problem).to_have_text("You can try again now.")
    expect(button).to_have_attribute("aria-disabled", "false")


def test_a_wait_of_one_account_keeps_nobody_else_from_signing_in(visitor: Visitor) -> None:
    too_many_attempts(visitor)
    other = Visitor(visitor.site, f"{visitor.name} too")
    other.close()
    visitor.give(PASSWORD, other.name)
    expect(visitor.page.locator("#account-name")).to_have_text(other.name)


def test_times_are_told_as_people_tell_them_and_exactly_to_those_who_ask(visitor: Visitor) -> None:
    devices(visitor)
    seen = visitor.row("Firefox on macOS").locator(".seen")
    expect(seen).to_have_text("Last seen 2 hours ago · 203.0.113.80")
    title, machine = (seen.locator("time").get_attribute(name) for name in ("title", "datetime"))
    assert re.search(r"\d{4}.* \d+:\d\d", str(title))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", str(machine))


def test_this_device_comes_first_and_cannot_be_ended_by_mistake(visitor: Visitor) -> None:
    visitor.sign_in()
    visitor.sign_in_elsewhere(*(OTHERS["curl"],) * 12)
    visitor.open(".device.current")
    first = visitor.page.locator(".device").first
    expect(first).to_contain_text("Chrome on Windows This device")
    expect(first.locator(".end")).to_be_hidden()
    expect(visitor.page.locator(".device")).to_have_count(11)


def test_more_devices_are_shown_until_all_are(visitor: Visitor) -> None:
    many_devices(visitor)
    expect(visitor.page.locator(".device")).to_have_count(10)
    visitor.page.click("#devices-more")
    expect(visitor.page.locator(".device")).to_have_count(13)
    expect_focus(visitor, ".device:nth-child(11) h3")
    expect(visitor.page.locator("#devices-more")).to_be_hidden()


def test_a_device_that_is_signed_out_here_is_signed_out(visitor: Visitor) -> None:
    cookies = visitor.sign_in_elsewhere(*OTHERS.values())
    visitor.sign_in()
    visitor.row("Firefox on macOS").locator(".end").click()
    expect(visitor.page.locator("#devices-done")).to_have_text("Firefox on macOS is signed out.")
    expect_focus(visitor, '[aria-label="Sign out curl"]')
    assert [is_signed_in(visitor, cookie) for cookie in cookies] == [True, False, True]


def test_a_device_that_has_signed_out_by_itself_is_gone_all_the_same(visitor: Visitor) -> None:
    (cookie,) = visitor.sign_in_elsewhere(OTHERS["curl"])
    visitor.sign_in()
    visitor.site.server.client.logout(cookie)
    visitor.row("curl").locator(".end").click()
    expect(visitor.page.locator("#devices-empty")).to_be_visible()
    expect(visitor.page.locator("#devices-problem")).to_be_hidden()


def test_all_others_are_signed_out_and_this_device_is_not(visitor: Visitor) -> None:
    cookies = visitor.sign_in_elsewhere(*OTHERS.values())
    visitor.sign_in()
    visitor.page.click("#end-others")
    visitor.page.click("#sure-yes")
    expect(visitor.page.locator("#devices-done")).to_contain_text("All your other devices are signed out")
    expect(visitor.page.locator(".device")).to_have_count(1)
    assert [is_signed_in(visitor, cookie) for cookie in cookies] == [False] * 3
    visitor.open(".device.current")


@pytest.mark.parametrize("give_up", ["Escape", "Cancel"])
def test_whoever_thinks_better_of_it_signs_nobody_out(visitor: Visitor, give_up: str) -> None:
    cookies = visitor.sign_in_elsewhere(OTHERS["curl"])
    visitor.sign_in()
    visitor.page.click("#end-others")
    press_or_click(visitor.page, give_up)
    expect(visitor.page.locator("#sure")).to_be_hidden()
    expect_focus(visitor, "#end-others")
    assert is_signed_in(visitor, cookies[0])


def test_the_password_is_asked_for_again_and_then_what_was_asked_is_done(visitor: Visitor) -> None:
    password_again(visitor)
    visitor.page.fill("#again-password", WRONG)
    visitor.page.click("#again [type=submit]")
    expect(visitor.page.locator("#again-password-error")).to_contain_text("This is not your password")
    visitor.page.fill("#again-password", PASSWORD)
    visitor.page.click("#again [type=submit]")
    expect(visitor.page.locator("#devices-done")).to_have_text("curl is signed out.")
    visitor.row("Firefox on macOS").locator(".end").click()
    expect(visitor.row("Firefox on macOS")).to_have_count(0)


def test_whoever_does_not_give_the_password_again_ends_nothing(visitor: Visitor) -> None:
    password_again(visitor)
    visitor.page.keyboard.press("Escape")
    expect(visitor.page.locator("#again")).to_be_hidden()
    expect_focus(visitor, '[aria-label="Sign out curl"]')
    expect(visitor.page.locator("#devices-problem")).to_be_hidden()
    visitor.row("curl").locator(".end").click()
    expect(visitor.page.locator("#again")).to_be_visible()


def test_a_password_that_was_given_once_does_not_count_for_a_later_question(visitor: Visitor) -> None:
    visitor.page.clock.install()
    password_again(visitor)
    visitor.page.fill("#again-password", PASSWORD)
    visitor.page.click("#again [type=submit]")
    expect(visitor.row("curl")).to_have_count(0)
    visitor.update_sessions(authenticated_at=datetime.now(UTC) - timedelta(minutes=16))
    with visitor.page.expect_response("**/api/token"):
        visitor.page.clock.fast_forward(15 * 60_000)
    visitor.row("Firefox on macOS").locator(".end").click()
    expect(visitor.page.locator("#again")).to_be_visible()
    visitor.page.click("#again [data-cancel]")
    expect(visitor.page.locator("#again")).to_be_hidden()
    expect(visitor.row("Firefox on macOS").locator(".end")).to_have_attribute("aria-disabled", "false")
    expect(visitor.page.locator("#devices-problem")).to_be_hidden()


def test_a_password_that_breaks_the_rule_is_refused_with_the_reason(visitor: Visitor) -> None:
    visitor.sign_in()
    for new, reason in (
        ("too short", "must have at least 15 characters"),
        ("passwordpassword", "among those that are tried first"),
        (f"by {visitor.name} and no one", "must not contain the user name"),
        ("long " * 300, "must have at most 1024 bytes"),
    ):
        visitor.change_password(new)
        expect(visitor.page.locator("#new-error")).to_contain_text(reason)
        expect_focus(visitor, "#new")


def test_a_wrong_current_password_is_said_at_its_field(visitor: Visitor) -> None:
    visitor.sign_in()
    visitor.change_password(NEW_PASSWORD, current=WRONG)
    expect(visitor.page.locator("#current-error")).to_contain_text("This is not your password")
    expect_focus(visitor, "#current")


def test_a_new_password_counts_from_now_on_and_signs_the_others_out(visitor: Visitor) -> None:
    (cookie,) = visitor.sign_in_elsewhere(OTHERS["curl"])
    visitor.sign_in()
    visitor.change_password(NEW_PASSWORD)
    expect(visitor.page.locator("#devices-empty")).to_be_visible()
    assert not is_signed_in(visitor, cookie)
    assert visitor.page.input_value("#new") == ""
    visitor.page.click("#sign-out")
    visitor.give(NEW_PASSWORD)
    expect(visitor.page.locator("#view-account")).to_be_visible()


def test_whoever_was_offline_goes_on_without_a_reload(visitor: Visitor) -> None:
    offline(visitor)
    expect(visitor.page.locator("#banner-text")).to_contain_text("You are offline.")
    visitor.page.click("#banner-retry")
    expect(visitor.page.locator("#banner")).to_be_visible()
    visitor.context.set_offline(False)
    expect(visitor.page.locator("#banner")).to_be_hidden()


def test_what_was_asked_for_offline_is_said_not_to_be_done(visitor: Visitor) -> None:
    offline(visitor)
    visitor.row("curl").locator(".end").click()
    expect(visitor.page.locator("#devices-problem")).to_have_text(
        "You are offline. Nothing was changed: please try again."
    )
    expect(visitor.row("curl")).to_be_visible()


@pytest.mark.parametrize("status", [200, 403])
def test_a_password_that_something_else_answered_for_is_not_said_to_be_changed(visitor: Visitor, status: int) -> None:
    visitor.sign_in()
    visitor.page.route("**/api/me/password", lambda route: answer_instead(route, status))
    visitor.change_password(NEW_PASSWORD)
    said = "The service cannot be reached." if status == 200 else "Something went wrong on our side."
    expect(visitor.page.locator("#change .problem")).to_contain_text(said)
    expect(visitor.page.locator("#change-done")).to_be_empty()


def test_of_a_change_whose_answer_was_lost_the_page_does_not_claim_to_know(visitor: Visitor) -> None:
    def lose(route: Route) -> None:
        assert route.fetch().status == 204
        route.abort()

    visitor.sign_in()
    visitor.page.route("**/api/me/password", lose)
    visitor.change_password(NEW_PASSWORD)
    expect(visitor.page.locator("#change .problem")).to_have_text("The service cannot be reached. Please try again.")


def test_a_device_that_something_else_answered_for_is_not_said_to_be_signed_out(visitor: Visitor) -> None:
    devices(visitor)
    visitor.page.route("**/api/sessions/*", lambda route: answer_instead(route, 200))
    visitor.row("curl").locator(".end").click()
    expect(visitor.page.locator("#devices-problem")).to_contain_text("The service cannot be reached.")
    expect(visitor.row("curl")).to_be_visible()
    expect(visitor.page.locator("#devices-done")).to_be_empty()


@pytest.mark.parametrize(
    ("kind", "body", "said"),
    [
        ("text/html", "<!doctype html><title>A hotel</title>", "The service cannot be reached."),
        ("application/json", '{"items": [{"id', "The service cannot be reached."),
        ("application/json", '{"room": 42}', "Something went wrong on our side."),
    ],
    ids=["of something else", "broken off", "of another shape"],
)
def test_a_list_that_cannot_be_read_is_told_of_in_words_for_people(
    visitor: Visitor, kind: str, body: str, said: str
) -> None:
    many_devices(visitor)
    visitor.page.route("**/api/sessions?*", lambda route: route.fulfill(content_type=kind, body=body))
    visitor.page.click("#devices-more")
    expect(visitor.page.locator("#devices-problem")).to_contain_text(said)
    expect(visitor.page.locator(".device")).to_have_count(10)


def answer_instead(route: Route, status: int) -> None:
    """Answer in the service's place, as the sign-in page of a hotel's network does."""
    route.fulfill(status=status, content_type="text/html", body="<!doctype html><title>A hotel</title>")


def test_whoever_tries_again_in_vain_can_try_once_more(visitor: Visitor) -> None:
    no_connection(visitor)
    visitor.context.unroute_all()
    visitor.page.click("#unreachable-retry")
    expect(visitor.page.locator("#unreachable-retry")).to_have_attribute("aria-disabled", "false")
    expect_focus(visitor, "#unreachable-retry")


def test_whoever_found_no_connection_can_try_again(visitor: Visitor) -> None:
    no_connection(visitor)
    visitor.context.unroute_all()
    visitor.context.set_offline(False)
    expect(visitor.page.locator("#view-sign-in")).to_be_visible()


def test_a_sign_in_without_a_connection_says_so(visitor: Visitor) -> None:
    visitor.open()
    visitor.context.set_offline(True)
    visitor.give(PASSWORD)
    expect(visitor.page.locator("#sign-in .problem")).to_have_text(
        "You are offline. Nothing was changed: please try again."
    )


def test_names_and_devices_are_shown_as_the_text_that_they_are(site: Site) -> None:
    markup = "<img src=x onerror=document.title='taken'>"
    visitor = Visitor(site, f"{markup}{next(NAMES)}")
    visitor.sign_in_elsewhere(markup, f"{markup}bot/1.0", "<svg/onload=a()>/1.0 bot")
    visitor.sign_in()
    for sid in visitor.sids()[:3]:
        visitor.update_sessions(sid, ip_address=f"<b>{markup}</b>")
    visitor.open(".device.current")
    expect(visitor.page.locator("#account-name")).to_have_text(visitor.name)
    expect(visitor.page.locator(".seen", has_text=markup)).to_have_count(3)
    assert visitor.page.locator("main img, main b").count() == 0
    assert (visitor.page.title(), visitor.complaints) == ("Your account", [])
    visitor.close()


def test_another_person_who_signs_in_sees_nothing_of_the_one_before(visitor: Visitor) -> None:
    devices(visitor)
    other = Visitor(visitor.site, f"{visitor.name} two")
    other.close()
    visitor.page.click("#sign-out")
    visitor.give(PASSWORD, other.name)
    expect(visitor.page.locator("#account-name")).to_have_text(other.name)
    expect(visitor.page.locator("#devices-empty")).to_be_visible()
    expect(visitor.page.locator(".device")).to_have_count(1)


def test_an_answer_that_comes_late_is_not_shown_to_the_next_person(visitor: Visitor) -> None:
    visitor.page.add_init_script(COUNT_READ)
    devices(visitor)
    with answered_late(visitor, "**/api/sessions/*"):
        visitor.row("curl").locator(".end").click()
    assert visitor.page.inner_text("#devices-done") == ""


def test_the_next_person_is_not_told_of_a_new_password(visitor: Visitor) -> None:
    visitor.page.add_init_script(COUNT_READ)
    visitor.sign_in()
    with answered_late(visitor, "**/api/sessions?*"):
        visitor.change_password(NEW_PASSWORD)
    assert visitor.page.inner_text("#change-done") == ""


@contextmanager
def answered_late(visitor: Visitor, url: str) -> Iterator[None]:
    """Hold back the answer to what is done meanwhile, until somebody else is signed in and the page has read it."""
    other = Visitor(visitor.site, f"{visitor.name} three")
    other.close()
    late: list[tuple[Route, APIResponse]] = []
    visitor.page.route(url, lambda route: late.append((route, route.fetch())), times=1)
    yield
    wait_until(lambda: visitor.page.evaluate("1") == len(late), what="the answer")
    visitor.page.click("#sign-out")
    visitor.give(PASSWORD, other.name)
    expect(visitor.page.locator("#devices-empty")).to_be_visible()
    before = visitor.page.evaluate("read")
    (route, answer) = late.pop()
    route.fulfill(response=answer)
    visitor.page.wait_for_function("before => read > before", arg=before)


def test_whoever_wants_less_motion_sees_none(visitor: Visitor) -> None:
    loading(visitor)
    moving = "getComputedStyle(document.querySelector('.spinner')).animationName"
    before = visitor.page.evaluate(moving)
    visitor.page.emulate_media(reduced_motion="reduce")
    assert (before, visitor.page.evaluate(moving)) == ("turn", "none")


def test_password_managers_find_what_they_look_for(visitor: Visitor) -> None:
    visitor.open()
    script = "form => [...document.querySelectorAll(form + ' input')].map(each => each.autocomplete)"
    found = {form: visitor.page.evaluate(script, form) for form in ("#sign-in", "#change", "#again")}
    assert found == {
        "#sign-in": ["username", "current-password"],
        "#change": ["username", "current-password", "new-password"],
        "#again": ["username", "current-password"],
    }


@wants_axe
def test_a_state_that_axe_has_to_find_fault_with_is_found_out(visitor: Visitor, axe: str) -> None:
    device_signed_out(visitor)
    visitor.page.evaluate("document.querySelector('#account-name').style.color = '#777'")
    visitor.page.evaluate("document.querySelector('#account-name').style.background = '#999'")
    found = " ".join(run_axe(visitor.page, axe))
    assert all(f"{scheme}: color-contrast" in found for scheme in RULES)


def press_or_click(page: Page, what: str) -> None:
    act: dict[str, Callable[[], None]] = {
        "Escape": lambda: page.keyboard.press("Escape"),
        "Cancel": lambda: page.click("dialog[open] [data-cancel]"),
    }
    act[what]()


# Without a browser.


def test_the_page_may_load_only_files_of_ours_and_make_no_text_a_program(databases: Databases) -> None:
    reply = make_app(databases("sqlite")).test_client().get("/account")
    policy = dict(each.split(" ", 1) for each in reply.headers["Content-Security-Policy"].split("; "))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self'",
        "connect-src": "'self'",
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }


def test_the_page_knows_how_short_a_password_may_be(databases: Databases) -> None:
    app = make_app(databases("sqlite"), TOKENAPP_PASSWORD_MIN_LENGTH="17")
    assert "At least 17 characters" in app.test_client().get("/account").text


def test_the_page_is_asked_about_each_time(databases: Databases) -> None:
    client = make_app(databases("sqlite")).test_client()
    first = client.get("/account")
    assert first.headers["Cache-Control"] == "public, no-cache"
    again = client.get("/account", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
