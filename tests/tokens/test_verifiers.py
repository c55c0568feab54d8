"""Independent libraries verify the tokens, also with the published keys."""

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
from cryptography.hazmat.primitives import serialization
from joserfc import jwt as joserfc
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet, OctKey

from tests.conftest import Databases
from tests.support.app import make_app
from tests.support.forge import Issued, Use, b64, issue, unb64
from tests.support.server import Server
from tests.tokens.conftest import joserfc_key
from tokenapp import db, keys

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


@pytest.mark.parametrize("use", ["access", "refresh"])
def test_joserfc_verifies_the_tokens(stored: Issued, of_secrets: Issued, use: Use) -> None:
    for issued in (stored, of_secrets):
        key = issued.keys[use]
        token = joserfc.decode(issued.good[use], joserfc_key(key), [key.alg])
        assert token.header == {"alg": key.alg, "kid": key.kid, "typ": key.typ}
        assert token.claims == issued.claims(use)


@pytest.mark.parametrize("use", ["access", "refresh"])
def test_token_signed_by_joserfc_is_accepted(stored: Issued, of_secrets: Issued, use: Use) -> None:
    for issued in (stored, of_secrets):
        key = issued.keys[use]
        signer = ECKey.import_key(private_pem(key)) if key.alg == "ES256" else OctKey.import_key(key.secret)
        token = joserfc.encode(issued.header(use), issued.claims(use), signer, [key.alg])
        assert issued.present(use, token).status == 200


def private_pem(key: keys.Key) -> str:
    """Return the private key in PEM."""
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    text: bytes = key.secret.private_bytes(encoding, form, serialization.NoEncryption())
    return text.decode()


# With the published keys.


class Published:
    """A server's address and key set, and tokens named for what is wrong with them."""

    def __init__(self, server: Server, tokens: Mapping[str, str], subject: str) -> None:
        self.issuer = f"http://localhost:{server.port}"
        self.url = f"http://127.0.0.1:{server.port}/.well-known/jwks.json"
        self.tokens, self.subject = tokens, subject
        with urllib.request.urlopen(self.url) as response:
            self.keys: dict[str, Any] = json.load(response)


@pytest.fixture(scope="module")
def published(databases: Databases) -> Iterator[Published]:
    """Provide the service under gunicorn, with a valid token and invalid ones."""
    url = databases("sqlite")
    app = make_app(url)
    issued = issue(app)
    now = int(datetime.now(UTC).timestamp())
    with Server(url) as server:
        good: dict[str, Any] = {"iss": f"http://localhost:{server.port}"}
        token = issued.with_claims("access", **good)
        message, _, signature = token.rpartition(".")
        flipped = bytearray(unb64(signature))
        flipped[5] ^= 1
        tokens = {
            "good": token,
            "flipped signature": f"{message}.{b64(bytes(flipped)).decode()}",
            "another audience": issued.with_claims("access", **good, aud="another"),
            "another issuer": issued.with_claims("access", iss="https://login.example.com"),
            "expired": issued.with_claims("access", **good, iat=now - 901, exp=now - 1),
        }
        yield Published(server, tokens, issued.claims("access")["sub"])
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
    key_set: Any = KeySet.import_key_set(published.keys)  # type: ignore[arg-type]  # expects its own TypedDict
    rules = joserfc.JWTClaimsRegistry(
        iss={"essential": True, "value": published.issuer}, aud={"essential": True, "value": AUDIENCE}
    )

    def subject(token: str) -> str | None:
        try:
            claims = joserfc.decode(token, key_set, algorithms=["ES256"]).claims
            rules.validate(claims)
        except JoseError:
            return None
        return str(claims["sub"])

    return {name: subject(token) for name, token in published.tokens.items()}


@pytest.fixture(scope="module")
def by_jose(published: Published, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Provide the npm package's verdicts on the tokens and thumbprints of the keys."""
    absent = pytest.fail if os.environ.get("REQUIRE_SERVERS") else pytest.skip
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        absent("node or npm is not installed")
    folder: Path = tmp_path_factory.mktemp("jose")
    install = [str(npm), "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--ignore-scripts", JOSE]
    if subprocess.run(install, cwd=folder, capture_output=True, timeout=90, check=False).returncode:
        absent(f"{JOSE} cannot be installed")
    (folder / "verify.mjs").write_text(PROGRAM)
    question = {"url": published.url, "issuer": published.issuer, "audience": AUDIENCE, "tokens": published.tokens}
    done = subprocess.run(
        [str(node), "verify.mjs"],
        cwd=folder,
        input=json.dumps(question),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    verdicts: dict[str, Any] = json.loads(done.stdout)
    return verdicts


def only_good(published: Published) -> Verdicts:
    return {name: published.subject if name == "good" else None for name in published.tokens}


@pytest.mark.parametrize("verify", [by_pyjwt, by_joserfc])
def test_python_libraries_accept_only_the_valid_token(
    published: Published, verify: Callable[[Published], Verdicts]
) -> None:
    assert verify(published) == only_good(published)


def test_npm_package_accepts_only_the_valid_token(published: Published, by_jose: dict[str, Any]) -> None:
    assert by_jose["subjects"] == only_good(published)


def test_kid_is_the_thumbprint_that_other_libraries_compute(published: Published, by_jose: dict[str, Any]) -> None:
    kids = [key["kid"] for key in published.keys["keys"]]
    others = KeySet.import_key_set(published.keys).keys  # type: ignore[arg-type]  # expects its own TypedDict
    assert [key.thumbprint() for key in others] == kids
    assert by_jose["thumbprints"] == kids
