"""Hostile proofs of a device's key: each is rejected, and the session goes on."""

import json
from base64 import urlsafe_b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from time import sleep
from typing import Any, Final

import jwt
import pytest
import time_machine
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from flask import Flask
from jwt.algorithms import ECAlgorithm

from tests.conftest import Databases
from tests.support.app import create_user, make_app
from tests.support.bound_device import REFRESH, REGISTRATION, Browser
from tests.support.concurrency import at_once

URL: Final = "http://localhost:3005"
Hostile = Callable[[Browser, str], str]
ANOTHER_KEY: Final = ec.generate_private_key(ec.SECP256R1())
P384: Final = ec.generate_private_key(ec.SECP384R1())
WEAK_KEY: Final = rsa.generate_private_key(65537, 1024)  # noqa: S505 -- the point of a test
STRONG_KEY: Final = rsa.generate_private_key(65537, 2048)


@pytest.fixture
def enforcing(database_url: str) -> Flask:
    """Give an application that requires proofs."""
    app = make_app(database_url, TOKENAPP_DEVICE_BINDING="enforce")
    create_user(app)
    return app


@pytest.fixture
def browser(enforcing: Flask) -> Browser:
    """Give a browser that is signed in."""
    browser = Browser(enforcing)
    browser.sign_in()
    return browser


@pytest.fixture(scope="module")
def _shared(databases: Databases) -> Flask:
    app = make_app(databases("sqlite"), TOKENAPP_DEVICE_BINDING="enforce")
    create_user(app)
    return app


@pytest.fixture
def attacked(_shared: Flask) -> Browser:
    """Give a browser that is signed in, at an application that tests share."""
    browser = Browser(_shared)
    browser.sign_in()
    return browser


def signed_with(key: ec.EllipticCurvePrivateKey, browser: Browser, challenge: str) -> str:
    """Sign with another key, and name the right one."""
    return jwt.encode({"jti": challenge}, key, "ES256", {"typ": "dbsc+jwt", "jwk": browser.jwk()})


def unsigned(browser: Browser, challenge: str) -> str:
    """Return a proof without a signature."""
    return jwt.encode({"jti": challenge}, "", "none", {"typ": "dbsc+jwt", "jwk": browser.jwk()})


def with_public_key_as_secret(browser: Browser, challenge: str) -> str:
    """Return a proof with an HMAC under the public key's coordinates."""
    return jwt.encode({"jti": challenge}, browser.jwk()["x"] * 2, "HS256", {"typ": "dbsc+jwt", "jwk": browser.jwk()})


def with_claims(
    browser: Browser, claims: dict[str, Any], key: ec.EllipticCurvePrivateKey | None = None, **header: Any
) -> str:
    """Return a signed proof that no library would make."""
    used = key or browser.key
    jwk = json.loads(ECAlgorithm.to_jwk(used.public_key()))
    members = {"typ": "dbsc+jwt", "alg": "ES256", "jwk": jwk, **header}
    text = ".".join(encoded(json.dumps(part).encode()) for part in (members, claims))
    return f"{text}.{encoded(ECAlgorithm(hashes.SHA256).sign(text.encode(), used))}"


def encoded(raw: bytes) -> str:
    """Return base64url without padding."""
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


HOSTILE: Final[dict[str, Hostile]] = {
    "no proof": lambda _browser, _challenge: "",
    "garbage": lambda _browser, _challenge: "a.b.c",
    "huge": lambda browser, challenge: browser.sign(challenge, header={"jwk": browser.jwk()}, x="y" * 9000),
    "alg none": unsigned,
    "public key as secret": with_public_key_as_secret,
    "another key": partial(signed_with, ANOTHER_KEY),
    "another type": lambda browser, challenge: browser.sign(challenge, header={"jwk": browser.jwk(), "typ": "JWT"}),
    "critical header": lambda browser, challenge: browser.sign(
        challenge, header={"jwk": browser.jwk(), "crit": ["exp"], "exp": 1}
    ),
    "another audience": lambda browser, challenge: browser.sign(
        challenge, header={"jwk": browser.jwk()}, aud="https://elsewhere.test/"
    ),
    "another challenge": lambda browser, _challenge: browser.sign("1795792307446.AAAA", header={"jwk": browser.jwk()}),
    "no challenge": lambda browser, _challenge: browser.sign(None, header={"jwk": browser.jwk()}),  # type: ignore[arg-type]
    "huge time": lambda browser, _challenge: browser.sign("9" * 400 + ".AAAA", header={"jwk": browser.jwk()}),
    "lone surrogate": lambda browser, challenge: with_claims(browser, {"jti": challenge.replace(".", "\ud800.")}),
    "algorithm in a list": lambda browser, challenge: with_claims(browser, {"jti": challenge}, alg=["ES256"]),
    "key of another curve": lambda browser, challenge: with_claims(browser, {"jti": challenge}, P384),
    "detached": lambda browser, challenge: with_claims(browser, {"jti": challenge}, b64=False),
    "infinite time": lambda browser, challenge: with_claims(browser, {"jti": challenge, "exp": float("inf")}),
    "expired": lambda browser, challenge: browser.sign(challenge, header={"jwk": browser.jwk()}, exp=1),
    "list of challenges": lambda browser, challenge: with_claims(browser, {"jti": [challenge]}),
    "not ASCII": lambda browser, _challenge: browser.sign("1٣.é", header={"jwk": browser.jwk()}),
}
BAD_KEYS: Final = {
    "missing": None,
    "a string": "key",
    "empty": {},
    "another curve": {"kty": "EC", "crv": "P-384", "x": "AA", "y": "AA"},
    "not on the curve": {"kty": "EC", "crv": "P-256", "x": "A" * 43, "y": "A" * 43},
    "symmetric": {"kty": "oct", "k": "AAAA"},
    "mistyped": {"kty": "EC", "crv": "P-256", "x": 1, "y": None},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_registration_binds_nothing(attacked: Browser, name: str) -> None:
    response = attacked.register(HOSTILE[name](attacked, attacked.challenge))
    assert (response.status, response.code) == (403, "device_proof_invalid")
    assert response.all("Set-Cookie") == []
    assert attacked.refresh().status == 200
    assert attacked.register().status == 200


@pytest.mark.parametrize("name", BAD_KEYS)
def test_registration_with_an_unusable_key_binds_nothing(attacked: Browser, name: str) -> None:
    response = attacked.register(attacked.sign(attacked.challenge, header={"jwk": BAD_KEYS[name]}))
    assert (response.status, response.code) == (403, "device_proof_invalid")
    assert attacked.register().status == 200


@pytest.mark.parametrize("suffix", ["!" * 1500, "=", "\0", "\ud800"])
def test_key_that_is_not_base64url_binds_nothing(attacked: Browser, suffix: str) -> None:
    jwk = {**attacked.jwk(), "x": attacked.jwk()["x"] + suffix}
    response = attacked.register(attacked.sign(attacked.challenge, header={"jwk": jwk}))
    assert (response.status, response.code) == (403, "device_proof_invalid")


def test_key_that_is_too_long_to_store_binds_nothing(browser: Browser) -> None:
    browser.key, browser.algorithm = STRONG_KEY, "RS256"
    jwk = {**browser.jwk(), "n": "A" * 1000 + browser.jwk()["n"]}
    response = browser.register(browser.sign(browser.challenge, header={"jwk": jwk}))
    assert (response.status, response.code) == (403, "device_proof_invalid")


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_proof_gets_a_challenge_and_does_not_sign_the_user_out(attacked: Browser, name: str) -> None:
    assert attacked.register().status == 200
    response = attacked.prove(HOSTILE[name](attacked, attacked.ask()))
    assert (response.status, response.code) == (403, "device_proof_required")
    assert f';id="{attacked.sid}"' in (response.header("Secure-Session-Challenge") or "")
    assert response.all("Set-Cookie") == []
    assert attacked.prove().status == 200
    assert attacked.refresh().status == 200


def test_key_in_a_later_proof_is_ignored(browser: Browser) -> None:
    assert browser.register().status == 200
    thief = Browser(browser.target)
    thief.token = browser.token
    assert thief.prove(thief.sign(browser.ask(), header={"jwk": thief.jwk()})).status == 403
    assert browser.prove().status == 200


def test_challenge_of_another_session_is_rejected(browser: Browser, enforcing: Flask) -> None:
    other = Browser(enforcing)
    other.sign_in()
    assert browser.register(browser.sign(other.challenge, header={"jwk": browser.jwk()})).status == 403
    assert browser.register().status == 200
    assert other.register().status == 200
    assert browser.prove(browser.sign(other.ask())).status == 403


def test_proof_for_another_session_is_rejected(browser: Browser) -> None:
    assert browser.register().status == 200
    assert browser.prove(browser.sign(browser.ask(), sub="another")).status == 403
    assert browser.prove(browser.sign(browser.ask(), sub=browser.sid)).status == 200


def test_right_audience_is_accepted(browser: Browser) -> None:
    aud = URL + REGISTRATION
    assert browser.register(browser.sign(browser.challenge, header={"jwk": browser.jwk()}, aud=aud)).status == 200
    assert browser.prove(browser.sign(browser.ask(), aud=URL + REFRESH)).status == 200


def test_proof_works_once(browser: Browser) -> None:
    assert browser.register().status == 200
    proof = browser.sign(browser.ask())
    assert [browser.prove(proof).status for _ in range(2)] == [200, 403]
    assert browser.prove().status == 200


def test_two_challenges_work_in_their_order(browser: Browser) -> None:
    assert browser.register().status == 200
    first = browser.ask()
    sleep(0.002)  # challenges contain milliseconds
    second = browser.ask()
    assert [browser.prove(browser.sign(each)).status for each in (first, second)] == [200, 200]


def test_old_challenge_is_rejected(browser: Browser) -> None:
    offered = browser.challenge
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=6)):
        assert browser.register(browser.sign(offered, header={"jwk": browser.jwk()})).status == 403
    assert browser.register().status == 200
    asked = browser.ask()
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=6)):
        assert browser.prove(browser.sign(asked)).status == 403
        assert browser.prove().status == 200


def test_challenge_from_a_host_whose_clock_is_ahead_blocks_no_proof(browser: Browser) -> None:
    assert browser.register().status == 200
    with time_machine.travel(datetime.now(UTC) + timedelta(seconds=50)):
        assert browser.prove().status == 200
    assert browser.prove().status == 200


def test_wrong_clock_in_the_past_blocks_no_proof(browser: Browser) -> None:
    assert browser.register().status == 200
    with time_machine.travel(datetime.now(UTC) + timedelta(hours=1)):
        assert browser.prove().status == 200
    proof = browser.sign(browser.ask())
    assert [browser.prove(proof).status for _ in range(2)] == [200, 403]


def test_registration_is_not_repeated_after_the_first_proof(browser: Browser) -> None:
    proof = browser.sign(browser.challenge, header={"jwk": browser.jwk()})
    assert browser.register(proof).status == 200
    assert browser.prove().status == 200
    response = browser.register(proof)
    assert (response.status, response.code) == (403, "device_proof_invalid")
    assert response.all("Set-Cookie") == []
    assert browser.prove().status == 200


def test_registration_that_is_repeated_succeeds(browser: Browser) -> None:
    proof = browser.sign(browser.challenge, header={"jwk": browser.jwk()})
    assert [browser.register(proof).status for _ in range(2)] == [200, 200]


def test_bound_session_takes_no_other_key(browser: Browser) -> None:
    assert browser.register().status == 200
    thief = Browser(browser.target)
    thief.cookie, thief.offer = browser.cookie, browser.offer
    assert thief.register().status == 403
    assert browser.prove().status == 200


def test_simultaneous_registrations_bind_one_key(browser: Browser) -> None:
    rivals = [Browser(browser.target) for _ in range(6)]
    for rival in rivals:
        rival.cookie, rival.offer = browser.cookie, browser.offer
    statuses = [response.status for response in at_once(*[rival.register for rival in rivals])]
    assert sorted(statuses) == [200] + [403] * 5


def test_registration_needs_the_cookie(browser: Browser) -> None:
    proof = browser.sign(browser.challenge, header={"jwk": browser.jwk()})
    response = browser.send("POST", REGISTRATION, headers={"Secure-Session-Response": proof})
    assert (response.status, response.code) == (401, "refresh_token_missing")


def test_revoked_session_is_not_bound(browser: Browser) -> None:
    cookie = browser.cookie
    browser.logout()
    browser.cookie = cookie
    assert browser.register().status == 403


@pytest.mark.parametrize("sid", ["", "unknown", '"unknown"', "x" * 65, "a b", "\u00e9"])
def test_unknown_session_does_not_go_on(attacked: Browser, sid: str) -> None:
    headers = {"Sec-Secure-Session-Id": sid.encode("latin-1").decode("latin-1")}
    response = attacked.send("POST", REFRESH, headers=headers)
    assert (response.status, response.json["continue"]) == (200, False)
    assert response.all("Set-Cookie") == []


def test_session_that_is_not_bound_does_not_go_on(attacked: Browser) -> None:
    response = attacked.send("POST", REFRESH, headers={"Sec-Secure-Session-Id": attacked.sid})
    assert (response.status, response.json["continue"]) == (200, False)


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
@pytest.mark.parametrize(("key", "status"), [(STRONG_KEY, 200), (WEAK_KEY, 403)])
def test_rsa_keys_have_at_least_2048_bits(browser: Browser, key: rsa.RSAPrivateKey, status: int) -> None:
    browser.key, browser.algorithm = key, "RS256"
    assert browser.register().status == status


def test_rsa_key_proves(browser: Browser) -> None:
    browser.key, browser.algorithm = STRONG_KEY, "RS256"
    assert browser.register().status == 200
    assert browser.prove().status == 200
    assert browser.refresh().status == 200
