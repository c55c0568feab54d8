"""The browser client in React, Vue, Svelte and axios, and its types."""

import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.support.app import PASSWORD, ROOT
from tests.support.client import Response
from tests.support.programs import absent, find_program
from tests.support.proxy import Proxy, first, problem, respond
from tests.support.server import Server

SOURCE: Final = ROOT / "tests/browser/frameworks"
INSTALL: Final = ("ci", "--prefer-offline", "--ignore-scripts", "--no-audit", "--no-fund")
# The builds of the frameworks for development report mistakes, such as a value that changes each time it is read.
DEVELOPMENT: Final = {**os.environ, "NODE_ENV": "development"}
TYPES: Final = {".html": "text/html", ".js": "text/javascript"}
RECIPES: Final = (
    "axios-fetch.js",
    "axios-interceptor.js",
    "react-session.js",
    "vue-session.js",
    "svelte-session.svelte.js",
)
FRAMEWORKS: Final = ("react", "vue", "svelte")
COMPILE: Final = ("--noEmit", "--strict", "--exactOptionalPropertyTypes", "--target", "es2022")
LIBRARIES: Final = ("--lib", "es2022,dom,dom.iterable")
RESOLUTIONS: Final = {
    "nodenext": ("--module", "nodenext"),
    "bundler": ("--module", "esnext", "--moduleResolution", "bundler"),
    "node10": ("--module", "esnext", "--moduleResolution", "node10"),
}
# Records whether the form was ever in the page.
WATCH: Final = """new MutationObserver(() => {
    window.hadForm ||= document.querySelector("form") !== null;
}).observe(document, { childList: true, subtree: true });"""


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the applications once for all test processes; give their folder."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with (folder / "frameworks.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "frameworks").exists():
            build(tmp_path_factory.mktemp("frameworks")).rename(folder / "frameworks")
    return folder / "frameworks/tests/browser/frameworks"


def build(folder: Path) -> Path:
    """Copy the applications beside a copy of the client, and build them."""
    ignored = shutil.ignore_patterns("node_modules", "dist")
    for path in (SOURCE, ROOT / "tokenapp/web/client"):
        shutil.copytree(path, folder / path.relative_to(ROOT), ignore=ignored)
    project = folder / SOURCE.relative_to(ROOT)
    try:
        done = subprocess.run(
            [find_program("npm"), *INSTALL], cwd=project, capture_output=True, text=True, timeout=240, check=False
        )
    except subprocess.TimeoutExpired:
        absent("npm did not install the frameworks in time")
    if done.returncode:
        absent(f"npm cannot install the frameworks: {done.stderr[-500:]}")
    run(project, "vite/bin/vite.js", "build", "--mode", "development", "--logLevel", "warn")
    page = project / "dist/react.html"
    rendered = subprocess.run(
        [find_program("node"), "src/render.js"], cwd=project, capture_output=True, text=True, check=True, timeout=60
    )
    page.write_text(page.read_text().replace('<div id="app"></div>', f'<div id="app">{rendered.stdout.strip()}</div>'))
    return folder


def run(project: Path, script: str, *arguments: str) -> str:
    """Run a program of `node_modules`, and return what it prints."""
    command = [find_program("node"), str(project / "node_modules" / script), *arguments]
    done = subprocess.run(
        command, cwd=project, capture_output=True, text=True, timeout=240, check=False, env=DEVELOPMENT
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def apps(built: Path, server: Server) -> Iterator[Proxy]:
    """Give the applications on the origin of the service."""

    def serve(path: str) -> Response | None:
        file = built / "dist" / path.removeprefix("/")
        return respond(200, ("Content-Type", TYPES[file.suffix]), body=file.read_bytes()) if file.is_file() else None

    with Proxy(server.port) as proxy:
        proxy.intercept = serve
        yield proxy


def open_app(apps: Proxy, context: BrowserContext, name: str) -> tuple[Page, list[str]]:
    """Open an application, and give its errors and warnings."""
    page, errors = context.new_page(), list[str]()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type in {"error", "warning"} else None)
    page.add_init_script(WATCH)
    page.goto(f"{apps.origin}/{name}.html")
    return page, errors


def sign_in(page: Page) -> None:
    """Sign in with the form of an application."""
    page.fill("[name=username]", "alice")
    page.fill("[name=password]", PASSWORD)
    page.click("text=Sign in")
    expect(page.locator("p")).to_contain_text("Hello, alice.")


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_user_signs_in_reloads_and_signs_out(apps: Proxy, either: BrowserContext, name: str) -> None:
    page, errors = open_app(apps, either, name)
    sign_in(page)
    page.reload()
    expect(page.locator("p")).to_contain_text("Hello, alice.")
    assert page.evaluate("window.hadForm ?? false") is False
    page.click("text=Sign out")
    expect(page.locator("form")).to_be_visible()
    # Browsers report the 401 of the first refresh.
    assert [each for each in errors if "401" not in each] == []


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_client_works_in_a_store(apps: Proxy, context: BrowserContext, name: str) -> None:
    page, _ = open_app(apps, context, name)
    sign_in(page)
    calls = "[store.client.user.username, (await store.client.fetch('/api/protected')).status, store.client.state]"
    assert page.evaluate(f"async () => {calls}") == ["alice", 200, "signed-in"]


def test_page_that_was_rendered_by_a_server_shows_no_form_while_it_loads(built: Path) -> None:
    assert '<div id="app"><p>Loading…</p></div>' in (built / "dist/react.html").read_text()


@pytest.mark.parametrize("instance", ["withFetch", "withInterceptor"])
def test_axios_sends_the_token(apps: Proxy, either: BrowserContext, instance: str) -> None:
    page, _ = open_app(apps, either, "axios")
    page.wait_for_function("window.client")
    page.evaluate("password => client.signIn('alice', password)", PASSWORD)
    assert page.evaluate(f"{instance}.get('/api/protected').then(({{ status }}) => status)") == 200


def test_axios_with_the_fetch_of_the_client_renews_a_rejected_token(apps: Proxy, either: BrowserContext) -> None:
    page, _ = open_app(apps, either, "axios")
    page.wait_for_function("window.client")
    page.evaluate("password => client.signIn('alice', password)", PASSWORD)
    apps.intercept = first("/api/protected", problem(403, "access_token_invalid"))
    assert page.evaluate("withFetch.get('/api/protected').then(({ status }) => status)") == 200
    assert apps.statuses("/api/protected") == [403, 200]


@pytest.mark.parametrize("options", RESOLUTIONS.values(), ids=RESOLUTIONS)
def test_types_are_strict(built: Path, options: tuple[str, ...]) -> None:
    run(built, "typescript/bin/tsc", *COMPILE, *LIBRARIES, *options, "src/types.ts")


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_is_what_the_applications_use(name: str) -> None:
    assert f"```js\n{(SOURCE / 'src' / name).read_text()}```\n" in (ROOT / "docs/browser.md").read_text()


def test_lock_file_names_no_registry() -> None:
    assert re.findall(r'"resolved": "http.*', (SOURCE / "package-lock.json").read_text()) == []
