"""Libraries of others verify our tokens with the published keys, over real HTTP, and refuse what we refuse."""

import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jwt
import pytest
from joserfc import jwt as joserfc
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from tests.conftest import Databases
from tests.support.app import make_app
from tests.support.forge import b64, issue, unb64
from tests.support.server import Server
from tokenapp import db

AUDIENCE = "tokenapp-api"
JOSE = "jose@6.2.17"
PROGRAM = """
import { readFileSync } from 'node:fs'
import { calculateJwkThumbprint, createRemoteJWKSet, jwtVerify } from 'jose'
const { url, issuer, audience, tokens } = JSON.parse(readFileSync(0, 'utf8'))
const keys = createRemoteJWKSet(new URL(url))
const subjects = {}
for (const [name, token] of Object.entries(tokens)) {
  try {
    const options = { issuer, audience, typ: 'at+jwt', algorithms: ['ES256'] }
    subjects[name] = (await jwtVerify(token, keys, options)).payload.sub
  } catch (fault) {
    if (!fault.code?.startsWith('ERR_J')) throw fault
    subjects[name] = null
  }
}
const listed = (await (await fetch(url)).json()).keys
const thumbprints = await Promise.all(listed.map(key => calculateJwkThumbprint(key)))
console.log(JSON.stringify({ subjects, thumbprints }))
"""
Verdicts = dict[str, str | None]


class Published:
    """The service's key set at its address, and tokens by what is wrong with them."""

    def __init__(self, server: Server, tokens: Mapping[str, str], subject: str) -> None:
        self.issuer = f"http://localhost:{server.port}"
        self.url = f"http://127.0.0.1:{server.port}/.well-known/jwks.json"
        self.tokens, self.subject = tokens, subject
        with urllib.request.urlopen(self.url) as answer:
            self.keys: dict[str, Any] = json.load(answer)


@pytest.fixture(scope="module")
def published(databases: Databases) -> Iterator[Published]:
    """Give the service under gunicorn, with a good token and bad ones."""
    url = databases("sqlite")
    app = make_app(url)
    forged = issue(app)
    now = int(datetime.now(UTC).timestamp())
    with Server(url) as server:
        good: dict[str, Any] = {"iss": f"http://localhost:{server.port}"}
        token = forged.with_claims("access", **good)
        message, _, signature = token.rpartition(".")
        flipped = bytearray(unb64(signature))
        flipped[5] ^= 1
        tokens = {
            "good": token,
            "flipped signature": f"{message}.{b64(bytes(flipped)).decode()}",
            "another audience": forged.with_claims("access", **good, aud="another"),
            "another issuer": forged.with_claims("access", iss="https://login.example.com"),
            "expired": forged.with_claims("access", **good, iat=now - 901, exp=now - 1),
        }
        yield Published(server, tokens, forged.claims("access")["sub"])
    with app.app_context():
        db.db.engine.dispose()


def by_pyjwt(published: Published) -> Verdicts:
    client = jwt.PyJWKClient(published.url)

    def subject(token: str) -> str | None:
        try:
            key = client.get_signing_key_from_jwt(token)
            claims = jwt.decode(token, key, algorithms=["ES256"], audience=AUDIENCE, issuer=published.issuer)
        except jwt.PyJWTError:
            return None
        return str(claims["sub"])

    return {name: subject(token) for name, token in published.tokens.items()}


def by_joserfc(published: Published) -> Verdicts:
    keys: Any = KeySet.import_key_set(published.keys)  # type: ignore[arg-type]  # wants its own TypedDict
    rules = joserfc.JWTClaimsRegistry(
        iss={"essential": True, "value": published.issuer}, aud={"essential": True, "value": AUDIENCE}
    )

    def subject(token: str) -> str | None:
        try:
            claims = joserfc.decode(token, keys, algorithms=["ES256"]).claims
            rules.validate(claims)
        except JoseError:
            return None
        return str(claims["sub"])

    return {name: subject(token) for name, token in published.tokens.items()}


@pytest.fixture(scope="module")
def by_jose(published: Published, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Give what the npm package says of the tokens, and the thumbprints that it makes of the keys."""
    absent = pytest.fail if os.environ.get("REQUIRE_SERVERS") else pytest.skip
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        absent("node or npm is not installed")
    folder: Path = tmp_path_factory.mktemp("jose")
    install = [str(npm), "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--ignore-scripts", JOSE]
    if subprocess.run(install, cwd=folder, capture_output=True, timeout=90, check=False).returncode:
        absent(f"{JOSE} cannot be installed")
    (folder / "verify.mjs").write_text(PROGRAM)
    asked = {"url": published.url, "issuer": published.issuer, "audience": AUDIENCE, "tokens": published.tokens}
    done = subprocess.run(
        [str(node), "verify.mjs"],
        cwd=folder,
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def expected(published: Published) -> Verdicts:
    return {name: published.subject if name == "good" else None for name in published.tokens}


@pytest.mark.parametrize("verify", [by_pyjwt, by_joserfc])
def test_python_libraries_take_the_good_token_and_no_other(
    published: Published, verify: Callable[[Published], Verdicts]
) -> None:
    assert verify(published) == expected(published)


def test_the_npm_package_takes_the_good_token_and_no_other(published: Published, by_jose: dict[str, Any]) -> None:
    assert by_jose["subjects"] == expected(published)


def test_each_key_is_named_by_the_thumbprint_that_others_make_of_it(
    published: Published, by_jose: dict[str, Any]
) -> None:
    kids = [key["kid"] for key in published.keys["keys"]]
    keys = KeySet.import_key_set(published.keys).keys  # type: ignore[arg-type]  # wants its own TypedDict
    assert [key.thumbprint() for key in keys] == kids
    assert by_jose["thumbprints"] == kids
