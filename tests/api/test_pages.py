"""The files that we serve to pages, the package that is made of them, and what the documents say of both."""

import json
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from flask import Flask

import tokenapp
from tests.conftest import Databases
from tests.support.app import ROOT, make_app
from tokenapp.api import pages

WEB = ROOT / "tokenapp/web"
FOLDER = WEB / "client"
MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
CURRENT, PINNED = "tokenapp.js", f"tokenapp-{pages.VERSION}.js"
USE = """
import { ApiError, createClient, VERSION } from 'tokenapp-browser'
const client = createClient({ baseUrl: 'http://127.0.0.1:1/' })
const error = await client.signIn('a', 'b').catch(error => error)
console.log(JSON.stringify([VERSION, client.state, error instanceof ApiError, error.code]))
"""


@pytest.fixture
def plain(databases: Databases) -> Flask:
    """Give the application."""
    return make_app(databases("sqlite"))


def program(name: str) -> str:
    """Return where the program is, or skip the test where it is not (and fail where it must be)."""
    found = shutil.which(name)
    if found is None:
        (pytest.fail if os.environ.get("REQUIRE_SERVERS") else pytest.skip)(f"{name} is not installed")
    return str(found)


@pytest.mark.parametrize("name", pages.FILES)
def test_each_file_is_served_to_pages_of_any_origin(plain: Flask, name: str) -> None:
    reply = plain.test_client().get(f"/static/{name}", headers={"Origin": "https://anything.example"})
    assert (reply.status_code, reply.mimetype) == (200, MEDIA_TYPES[Path(name).suffix])
    assert reply.data == (WEB / pages.FILES[name]).read_bytes() != b""
    assert reply.headers["Access-Control-Allow-Origin"] == "*"
    assert reply.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert "Access-Control-Allow-Credentials" not in reply.headers


def test_a_page_that_may_call_us_gets_files_like_any_other(databases: Databases) -> None:
    app = make_app(databases("sqlite"), TOKENAPP_ALLOWED_ORIGINS="https://app.example.com")
    reply = app.test_client().get(f"/static/{PINNED}", headers={"Origin": "https://app.example.com"})
    assert reply.headers.getlist("Access-Control-Allow-Origin") == ["*"]


def test_the_file_with_a_version_in_its_name_is_kept_for_ever_and_the_other_is_asked_about(plain: Flask) -> None:
    kept = [plain.test_client().get(f"/static/{name}").headers["Cache-Control"] for name in (PINNED, CURRENT)]
    assert kept == ["public, max-age=31536000, immutable", "public, no-cache"]


@pytest.mark.parametrize("name", pages.FILES)
def test_a_file_that_has_not_changed_is_not_sent_again(plain: Flask, name: str) -> None:
    tag = plain.test_client().get(f"/static/{name}").headers["ETag"]
    again = plain.test_client().get(f"/static/{name}", headers={"If-None-Match": tag})
    assert (again.status_code, again.data, again.headers["Access-Control-Allow-Origin"]) == (304, b"", "*")


@pytest.mark.parametrize("name", ["", "client/tokenapp.js", "package.json", "../pages.py", "tokenapp-9.9.9.js", "%00"])
def test_no_other_file_can_be_had(plain: Flask, name: str) -> None:
    assert plain.test_client().get(f"/static/{name}").status_code == 404


def test_the_version_is_the_same_everywhere() -> None:
    source = (FOLDER / "tokenapp.js").read_text()
    (written,) = re.findall(r'^export const VERSION = "(.+)";$', source, re.MULTILINE)
    package = json.loads((FOLDER / "package.json").read_text())
    assert {written, package["version"], pages.VERSION} == {tokenapp.__version__}


@pytest.mark.parametrize("path", ["docs/browser.md", "examples/single-page/index.html"])
def test_the_integrity_told_is_that_of_the_file(path: str) -> None:
    text = (ROOT / path).read_text()
    assert set(re.findall(r"sha384-[\w+/=]*", text)) == {pages.integrity(PINNED)}
    assert set(re.findall(r"tokenapp-[\d.]+\.js", text)) == {PINNED}


def test_the_client_needs_nothing_and_stores_nothing() -> None:
    source = (FOLDER / "tokenapp.js").read_text()
    assert (
        re.findall(r"^\s*import\b|\bimport\(|Storage\b|indexedDB|document\.cookie|\bcaches\b", source, re.MULTILINE)
        == []
    )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pack the client with npm, and put the package where a program finds it; return the program's folder."""
    folder = tmp_path_factory.mktemp("program")
    command = [program("npm"), "pack", "--silent", "--offline", "--pack-destination", str(folder)]
    environment = {**os.environ, "npm_config_cache": str(folder / "cache"), "npm_config_update_notifier": "false"}
    subprocess.run(command, cwd=FOLDER, env=environment, check=True, timeout=60, stdout=subprocess.DEVNULL)
    (archive,) = folder.glob("*.tgz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    (folder / "node_modules").mkdir()
    (folder / "package").rename(folder / "node_modules/tokenapp-browser")
    return folder


def test_the_package_holds_the_very_file_that_is_served(installed: Path) -> None:
    package = installed / "node_modules/tokenapp-browser"
    assert sorted(path.name for path in package.iterdir()) == ["package.json", "tokenapp.d.ts", "tokenapp.js"]
    assert (package / "tokenapp.js").read_bytes() == (WEB / pages.FILES[PINNED]).read_bytes()


def test_the_package_can_be_imported_by_its_name(installed: Path) -> None:
    command = [program("node"), "--input-type=module", "--eval", USE]
    done = subprocess.run(command, cwd=installed, capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout) == [pages.VERSION, "unknown", True, "network_error"]


def test_every_export_and_member_has_a_type() -> None:
    source, types = ((FOLDER / name).read_text() for name in ("tokenapp.js", "tokenapp.d.ts"))
    exports = set(re.findall(r"^export (?:class|const|function) (\w+)", source, re.MULTILINE))
    public = set(re.findall(r"^  (?:async |get )?(\w+)(?:\(.*\) \{| = async \()", source, re.MULTILINE))
    declared = set(re.findall(r"^export declare (?:class|const|function) (\w+)", types, re.MULTILINE))
    client = types[types.index("interface Client ") :].split("}\n")[0]
    assert declared == exports
    assert set(re.findall(r"^  (?:readonly )?(\w+)[:(]", client, re.MULTILINE)) == public - {"constructor"}
