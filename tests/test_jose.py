"""Our access tokens in the hands of JavaScript: the npm package jose, from the published key set, over HTTP."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Databases, Servers
from tests.harness import create_user, make_app

PROGRAM = """
import {createRemoteJWKSet, calculateJwkThumbprint, jwtVerify} from 'jose';
const [issuer, token] = process.argv.slice(2);
const keys = createRemoteJWKSet(new URL(issuer + '/.well-known/jwks.json'));
const rules = {issuer, audience: 'tokenapp-api', typ: 'at+jwt', algorithms: ['ES256']};
const {payload, protectedHeader} = await jwtVerify(token, keys, rules);
const published = (await (await fetch(issuer + '/.well-known/jwks.json')).json()).keys[0];
console.log(payload.username, protectedHeader.kid === await calculateJwkThumbprint(published));
const bad = [token.slice(0, -4) + 'AAAA', token + 'A', token.split('.').slice(0, 2).join('.') + '.'];
const refused = await Promise.all(bad.map(each => jwtVerify(each, keys, rules).then(() => false, () => true)));
const another = jwtVerify(token, keys, {...rules, audience: 'another'}).then(() => false, () => true);
console.log(refused.every(Boolean), await another);
"""


@pytest.fixture(scope="module")
def jose(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder in which the npm package is installed."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        (pytest.fail if os.environ.get("REQUIRE_SERVERS") else pytest.skip)("node and npm are not installed")
    folder = tmp_path_factory.mktemp("jose")
    command = [npm or "npm", "install", "--no-audit", "--no-fund", "--silent", "jose@6"]
    subprocess.run(command, cwd=folder, check=True, timeout=100, capture_output=True)
    (folder / "verify.mjs").write_text(PROGRAM)
    return folder


def test_the_npm_package_jose_takes_our_tokens_and_refuses_what_we_refuse(
    jose: Path, databases: Databases, serve: Servers
) -> None:
    url = databases("sqlite")
    create_user(make_app(url))
    server = serve(url)
    issuer = f"http://localhost:{server.port}"
    token = server.client.login().json["accessToken"]
    command = ["node", "verify.mjs", issuer, token]
    done = subprocess.run(command, cwd=jose, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["alice", "true", "true", "true"]), done.stderr
