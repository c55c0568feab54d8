"""The guards in Python and JavaScript give the same verdicts on hostile tokens."""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.conftest import Databases
from tests.support.app import ROOT, make_app
from tests.support.forge import MISSING, Issued, b64, compact, issue, unb64
from tests.support.guarded import stub_server
from tests.support.programs import find_program
from tests.tokens import test_claims, test_encoding, test_header, test_json
from tokenapp import db
from tokenapp_guard import AccessError, Verifier

AUDIENCE: Final = "tokenapp-api"
Verdicts = dict[str, str | int]


def good_tokens(issued: Issued) -> dict[str, str]:
    """Return tokens that must be accepted, so that rejections prove something."""
    now, text = int(time.time()), compact(issued.claims("access"))
    deep = text[:-1] + b',"y":"' + b"[" * 100 + b'","x":' + b"[" * 63 + b"]" * 63 + b"}"
    claims: dict[str, dict[str, Any]] = {
        "more claims": {"x": {"a": [1, 1.5, "é", None]}, "nbf": now},
        "what later versions state": {"roles": ["admin"], "roles_id": "r", "scope": "a b", "acr": "2", "amr": ["pwd"]},
        "no claims of a later version": {"amr": MISSING, "acr": MISSING, "auth_time": MISSING, "fresh": MISSING},
        "a minute ahead": {"iat": now + 50, "exp": now + 90},
    }
    tokens = {name: issued.with_claims("access", **changes) for name, changes in claims.items()}
    indented = json.dumps(issued.claims("access"), indent=1).encode()
    indented_header = json.dumps(issued.header("access"), indent=1).encode()
    tokens |= {
        "indented": issued.sign("access", indented_header, indented),
        "64 deep": issued.sign("access", None, deep),
    }
    return tokens | {"valid": issued.good["access"]}


def hostile_tokens(issued: Issued) -> dict[str, str]:
    """Return tokens that must be rejected, named for what is wrong with them."""
    good, text, header = issued.good["access"], compact(issued.claims("access")), compact(issued.header("access"))
    tokens = {f"shape: {name}": row(good.split(".")) for name, row in test_encoding.SHAPES.items()}
    tokens |= {f"JSON {name}": issued.sign("access", claims=row(text)) for name, row in test_json.NOT_STRICT.items()}
    for value in test_json.NOT_OBJECTS:
        tokens[f"claims {value!r}"] = issued.sign("access", claims=value)
        tokens[f"header {value!r}"] = issued.sign("access", header=value)
    odd: list[Any] = [None, 0, ["ES256"], {}, MISSING]
    more: Any = test_header.MORE_MEMBERS
    headers: list[dict[str, Any]] = [{"alg": alg} for alg in (*test_header.ALGORITHMS, *odd)]
    headers += [{"kid": kid} for kid in (*test_header.KIDS, *odd)]
    headers += [{"typ": typ} for typ in (*test_header.TYPES, *odd)] + list(more.values())
    tokens |= {f"header {changes!r}": issued.with_header("access", **changes) for changes in headers}
    tokens |= {f"claims {each!r}": issued.with_claims("access", **each) for each in hostile_claims(issued)}
    for number in (b"1e999", b"1.0", b"1e3", b"9" * 5000, b"9" * 400, b"NaN", b"Infinity"):
        for name in ("iat", "exp", "nbf", "auth_time"):
            changed = text[:-1].replace(b'"%s":' % name.encode(), b'"_":') + b',"%s":%s}' % (name.encode(), number)
            tokens[f"{name} {number[:9]!r} of {len(number)}"] = issued.sign("access", claims=changed)
    for member in ("sub", "exp", "aud"):
        again = compact({member: issued.claims("access")[member]})[1:-1]
        tokens[f"{member} twice"] = issued.sign("access", claims=text[:-1] + b"," + again + b"}")
    escaped = b',"\\u0061lg":"ES256"}'
    tokens |= {"alg twice": issued.sign("access", header=header[:-1] + escaped)}
    tokens |= {"a nested member twice": issued.sign("access", claims=text[:-1] + b',"x":[{"a":1,"a":1}]}')}
    tokens |= {"refresh token": issued.good["refresh"]}
    for place in range(0, len(good), 7):
        tokens[f"cut at {place}"] = good[:place]
        tokens[f"flipped at {place}"] = good[:place] + ("A" if good[place] != "A" else "B") + good[place + 1 :]
    return tokens | malleable_tokens(issued)


def hostile_claims(issued: Issued) -> Iterator[dict[str, Any]]:
    """Yield changes of claims after which a token must be rejected."""
    now, claims = int(time.time()), issued.claims("access")
    for name in test_claims.TEXT_CLAIMS:
        yield from ({name: value} for value in (*test_claims.NOT_TEXT, [claims[name]]))
    for name in ("iat", "exp"):
        yield from ({name: value} for value in (*test_claims.NOT_A_NUMBER, claims[name] + 0.5))
    for name in ("sub", "sid", "jti"):
        yield from ({name: value} for value in test_claims.BAD_IDS)
    yield from ({"type": value} for value in ("", "Access", "refresh", "id"))
    yield from ({"iss": value} for value in (claims["iss"] + "/", claims["iss"].upper(), "https://evil.example", ""))
    yield from ({"aud": value} for value in ("another", [AUDIENCE], AUDIENCE + " ", AUDIENCE.upper(), "*"))
    yield from ({"exp": now - ago, "iat": now - ago - 60} for ago in (0, 1, 3600))
    yield from ({"iat": now, "exp": now + length} for length in (0, -1, 901, 10**9, 10**18))
    yield from ({"iat": now + ahead, "exp": now + ahead + 60} for ahead in (300, 86400, 10**18))
    yield from ({"nbf": value} for value in (now + 300, "0", None, 0.5, True))
    yield from ({"roles": value} for value in ("admin", [1], {"admin": True}, None))
    yield from ({name: value} for name in ("scope", "acr", "roles_id") for value in (2, None, ["a"], True))
    yield from ({"amr": value} for value in ("pwd", [None], None))


def malleable_tokens(issued: Issued) -> dict[str, str]:
    """Return tokens that lax decoders take for the valid one."""
    header, payload, signature = issued.good["access"].split(".")
    raw = unb64(signature)
    changed = {
        "padded": f"{header}.{payload}.{signature}==",
        "white space": f"{header}.{payload}. {signature}",
        "line end": f"{header}.{payload}.{signature}\n",
        "the other alphabet": f"{header}.{payload}.{signature}".replace("-", "+").replace("_", "/") + "+",
        "stray bits": f"{header}.{payload}.{signature[:-1]}{chr(ord(signature[-1]) + 1)}",
        "no signature": f"{header}.{payload}.",
        "zero signature": f"{header}.{payload}.{b64(bytes(64)).decode()}",
        "DER signature": f"{header}.{payload}.{b64(b'0E' + raw).decode()}",
        "longer signature": f"{header}.{payload}.{b64(raw + bytes(1)).decode()}",
        "another's signature": f"{header}.{payload}.{issued.with_claims('access', x=1).split('.')[2]}",
    }
    for extra in (b" ", b"\n", b"=", b"!", b"\xa0"):
        message = f"{header}.{payload}".encode()
        changed[f"signed {extra!r}"] = issued.sign_raw("access", message + extra)
    return changed


@pytest.fixture(scope="module")
def issued(databases: Databases) -> Iterator[tuple[Issued, str]]:
    """Provide a session with tokens of an issuer, and the issuer's address."""
    app = make_app(databases("sqlite"))
    original = issue(app)
    published = app.test_client().get("/.well-known/jwks.json").get_json()
    document = {**published, "tokenapp_access_token_lifetime": 900}
    with stub_server(200, {}, document) as (address, _):
        document["issuer"] = address
        access = original.with_claims("access", iss=address)
        yield Issued(app, {**original.good, "access": access}, original.keys), address
    with app.app_context():
        db.db.engine.dispose()


def by_python(address: str, tokens: dict[str, str]) -> Verdicts:
    verifier = Verifier(address, audience=AUDIENCE)

    def verdict(token: str) -> str | int:
        try:
            return verifier.verify(token).subject
        except AccessError as error:
            return error.status

    return {name: verdict(token) for name, token in tokens.items()}


def by_javascript(folder: Path, address: str, tokens: dict[str, str]) -> Verdicts:
    question = {"options": {"issuer": address, "audience": AUDIENCE}, "tokens": tokens}
    done = subprocess.run(
        [find_program("node"), "verdicts.mjs"],
        cwd=folder,
        input=json.dumps(question),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    verdicts: Verdicts = json.loads(done.stdout)
    return verdicts


def test_both_guards_accept_only_valid_tokens(issued: tuple[Issued, str], node_guard: Path) -> None:
    session, address = issued
    good, hostile = good_tokens(session), hostile_tokens(session)
    subject = session.claims("access")["sub"]
    expected: Verdicts = dict.fromkeys(good, subject) | dict.fromkeys(hostile, 403)
    assert len(expected) > 400
    for verdicts in (
        by_python(address, good | hostile),
        by_javascript(node_guard, address, good | hostile),
    ):
        assert {name: verdict for name, verdict in verdicts.items() if verdict != expected[name]} == {}


def test_types_are_strict(node_guard: Path) -> None:
    options = ["--noEmit", "--strict", "--exactOptionalPropertyTypes", "--target", "es2022", "--module", "nodenext"]
    options += ["--types", "node", "--skipLibCheck"]
    command = [find_program("node"), "node_modules/typescript/bin/tsc", *options, "types.ts"]
    done = subprocess.run(command, cwd=node_guard, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout


def test_lock_file_names_no_registry() -> None:
    assert '"resolved": "http' not in (ROOT / "guard-node/package-lock.json").read_text()
