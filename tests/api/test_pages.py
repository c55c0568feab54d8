"""The files for browsers: how they are served, packaged and documented."""

import json
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

import tokenapp
from tests.conftest import Databases
from tests.support.app import ROOT, make_app
from tests.support.client import Client
from tests.support.programs import find_program
from tokenapp.api import pages

WEB = ROOT / "tokenapp/web"
FOLDER = WEB / "client"
MEDIA_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml; charset=utf-8",
    ".json": "application/json",
}
CURRENT, VERSIONED = "tokenapp.js", f"tokenapp-{pages.VERSION}.js"
USE = """
import { ApiError, createClient, VERSION } from 'tokenapp-browser'
const client = createClient({ baseUrl: 'http://127.0.0.1:1/' })
const error = await client.signIn('a', 'b').catch(error => error)
console.log(JSON.stringify([VERSION, client.state, error instanceof ApiError, error.code]))
"""


@pytest.fixture
def client(databases: Databases) -> Client:
    """Return a client of the application."""
    return Client(make_app(databases("sqlite")))


# The files


@pytest.mark.parametrize("name", pages.FILES)
def test_file_is_served_to_pages_of_any_origin(client: Client, name: str) -> None:
    response = client.send("GET", f"/static/{name}", headers={"Origin": "https://anything.example"})
    assert (response.status, response.header("Content-Type")) == (200, MEDIA_TYPES[Path(name).suffix])
    if name != "account.js":  # which has all modules of the page
        assert response.body == (WEB / pages.FILES[name]).read_bytes() != b""
    assert response.header("Access-Control-Allow-Origin") == "*"
    assert response.header("Cross-Origin-Resource-Policy") == "cross-origin"
    assert response.header("Access-Control-Allow-Credentials") is None


def test_type_of_scripts_does_not_depend_on_the_operating_system() -> None:
    script = "import mimetypes; mimetypes.knownfiles.clear(); import tokenapp; print(mimetypes.guess_type('a.js')[0])"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "text/javascript\n"


def test_allowed_origin_gets_files_like_any_other(databases: Databases) -> None:
    client = Client(make_app(databases("sqlite"), TOKENAPP_ALLOWED_ORIGINS="https://app.example.com"))
    response = client.send("GET", f"/static/{VERSIONED}", headers={"Origin": "https://app.example.com"})
    assert response.all("Access-Control-Allow-Origin") == ["*"]


@pytest.mark.parametrize(
    ("name", "caching"), [(VERSIONED, "public, max-age=31536000, immutable"), (CURRENT, "public, no-cache")]
)
def test_only_the_file_with_a_version_in_its_name_is_immutable(client: Client, name: str, caching: str) -> None:
    assert client.send("GET", f"/static/{name}").header("Cache-Control") == caching


@pytest.mark.parametrize("name", pages.FILES)
def test_unchanged_file_is_not_sent_again(client: Client, name: str) -> None:
    tag = client.send("GET", f"/static/{name}").header("ETag") or ""
    again = client.send("GET", f"/static/{name}", headers={"If-None-Match": tag})
    assert (again.status, again.body, again.header("Access-Control-Allow-Origin")) == (304, b"", "*")


def test_file_is_sent_whole_even_if_a_range_is_requested(client: Client) -> None:
    whole = client.send("GET", f"/static/{CURRENT}")
    for value in ("bytes=0-9", "bytes=99999999-"):
        response = client.send("GET", f"/static/{CURRENT}", headers={"Range": value})
        assert (response.status, response.body) == (200, whole.body)


@pytest.mark.parametrize("name", ["", "client/tokenapp.js", "package.json", "../pages.py", "tokenapp-9.9.9.js", "%00"])
def test_other_file_is_not_found(client: Client, name: str) -> None:
    assert client.send("GET", f"/static/{name}").status == 404


# Versions and integrity


def test_version_is_the_same_everywhere() -> None:
    source = (FOLDER / "tokenapp.js").read_text()
    (written,) = re.findall(r'^export const VERSION = "(.+)";$', source, re.MULTILINE)
    package = json.loads((FOLDER / "package.json").read_text())
    assert {written, package["version"], pages.VERSION} == {tokenapp.__version__}


@pytest.mark.parametrize("path", ["docs/browser.md", "examples/single-page/index.html"])
def test_documented_integrity_is_that_of_the_file(path: str) -> None:
    text = (ROOT / path).read_text()
    assert set(re.findall(r"sha384-[\w+/=]*", text)) == {pages.integrity(VERSIONED)}
    assert set(re.findall(r"tokenapp-[\d.]+\.js", text)) == {VERSIONED}


def test_client_imports_nothing_and_stores_nothing() -> None:
    source = (FOLDER / "tokenapp.js").read_text()
    forbidden = r"^\s*import\b|\bimport\(|Storage\b|indexedDB|document\.cookie|\bcaches\b"
    assert re.findall(forbidden, source, re.MULTILINE) == []


# The npm package


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pack the client with npm and return a folder where it is installed."""
    folder = tmp_path_factory.mktemp("program")
    command = [find_program("npm"), "pack", "--silent", "--offline", "--pack-destination", str(folder)]
    environment = {**os.environ, "npm_config_cache": str(folder / "cache"), "npm_config_update_notifier": "false"}
    subprocess.run(command, cwd=FOLDER, env=environment, check=True, timeout=60, stdout=subprocess.DEVNULL)
    (archive,) = folder.glob("*.tgz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    (folder / "node_modules").mkdir()
    (folder / "package").rename(folder / "node_modules/tokenapp-browser")
    return folder


def run_module(folder: Path, script: str) -> Any:
    """Run a module with Node, and return what it prints as JSON."""
    command = [find_program("node"), "--input-type=module", "--eval", script]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=60)
    return json.loads(done.stdout)


def test_package_has_the_file_that_is_served(installed: Path) -> None:
    package = installed / "node_modules/tokenapp-browser"
    assert sorted(path.name for path in package.iterdir()) == ["package.json", "tokenapp.d.ts", "tokenapp.js"]
    assert (package / "tokenapp.js").read_bytes() == (WEB / pages.FILES[VERSIONED]).read_bytes()


def test_package_can_be_imported_by_name(installed: Path) -> None:
    assert run_module(installed, USE) == [pages.VERSION, "unknown", True, "network_error"]


def test_version_of_the_package_can_be_imported(installed: Path) -> None:
    script = """import { createRequire } from 'node:module'
    console.log(JSON.stringify(createRequire(process.cwd() + '/a.js')('tokenapp-browser/package.json').version))"""
    assert run_module(installed, script) == pages.VERSION


def test_every_export_and_member_has_a_type_declaration(installed: Path) -> None:
    types = (FOLDER / "tokenapp.d.ts").read_text()
    declared = re.findall(r"^export declare (?:class|const|function) (\w+)", types, re.MULTILINE)
    client = types[types.index("interface Client ") :].split("}\n")[0]
    members = re.findall(r"^  readonly (\w+):", client, re.MULTILINE)
    script = """import * as all from 'tokenapp-browser'
    const client = all.createClient({ baseUrl: 'http://127.0.0.1:1' })
    console.log(JSON.stringify([Object.keys(all), Object.keys(client)].map(names => names.sort())))"""
    assert run_module(installed, script) == [sorted(declared), sorted(members)]
