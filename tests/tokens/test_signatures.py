"""Signatures: every known way to fake one is refused, and two independent libraries agree with the gate.

The tables follow Project Wycheproof's vectors for ECDSA (P1363 form) and HMAC, made anew over our own tokens.
"""

import dataclasses
import hashlib
import hmac
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import joserfc.jwt
import jwt
import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from flask import Flask
from flask_jwt_extended import create_access_token, create_refresh_token
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc.jwk import ECKey, OctKey

from tests.conftest import Databases
from tests.support.app import SETTINGS, make_app
from tests.support.concurrency import at_once, wait_until
from tests.support.forge import MISSING, Issued, Use, b64, changed, code_of, compact, issue, unb64
from tokenapp import db, keys
from tokenapp.keys import keyring
from tokenapp.models import SigningKey
from tokenapp.tokens import verification

N: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
P: Final = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
SECRETS: Final = {"ACCESS_TOKEN_SECRET": "access " * 6, "REFRESH_TOKEN_SECRET": "refresh " * 6}


@pytest.fixture(scope="module")
def issued(databases: Databases) -> Iterator[Issued]:
    """Give a session whose access token is signed with ES256 and whose refresh token with HS256."""
    app = make_app(databases("sqlite"))
    yield issue(app)
    with app.app_context():
        db.db.engine.dispose()


@pytest.fixture(scope="module")
def of_secrets(databases: Databases) -> Iterator[Issued]:
    """Give a session whose tokens are signed with secrets from the settings."""
    app = make_app(databases("sqlite"), **SECRETS)
    yield issue(app)
    with app.app_context():
        db.db.engine.dispose()


def message_of(issued: Issued, use: Use) -> bytes:
    """Return what the good token's signature is over."""
    return issued.good[use].rpartition(".")[0].encode()


def raw(r: int, s: int, size: int = 32) -> bytes:
    """Write a signature in the form of JWS (RFC 7518, 3.4)."""
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


def name(thing: hashes.HashAlgorithm | ec.EllipticCurve) -> str:
    """Return what to call a row of a table."""
    return thing.name


# ES256.

Forged = Callable[[int, int], bytes]
FORGED_ES256: Final[dict[str, Forged]] = {
    "nothing": lambda _r, _s: b"",
    "all zero, as in CVE-2022-21449": lambda _r, _s: raw(0, 0),
    "r zero": lambda _r, s: raw(0, s),
    "s zero": lambda r, _s: raw(r, 0),
    "r and s one": lambda _r, _s: raw(1, 1),
    "r one": lambda _r, s: raw(1, s),
    "s one": lambda r, _s: raw(r, 1),
    "r the order": lambda _r, s: raw(N, s),
    "s the order": lambda r, _s: raw(r, N),
    "r and s the order": lambda _r, _s: raw(N, N),
    "r the order less one": lambda _r, s: raw(N - 1, s),
    "s the order less one": lambda r, _s: raw(r, N - 1),
    "r the order and one": lambda _r, s: raw(N + 1, s),
    "r the prime": lambda _r, s: raw(P, s),
    "s the prime": lambda r, _s: raw(r, P),
    "r the prime and one": lambda _r, s: raw(P + 1, s),
    "all ones": lambda _r, _s: b"\xff" * 64,
    "r negative": lambda r, s: raw(N - r, s),
    "r and s negative": lambda r, s: raw(N - r, N - s),
    "r in two's complement": lambda r, s: raw(2**256 - r, s),
    "s in two's complement": lambda r, s: raw(r, 2**256 - s),
    "r larger by the order": lambda r, s: raw(r + N, s, 33),
    "s larger by the order": lambda r, s: raw(r, s + N, 33),
    "swapped": lambda r, s: raw(s, r),
    "little-endian": lambda r, s: r.to_bytes(32, "little") + s.to_bytes(32, "little"),
    "inverted": lambda r, s: raw(r, pow(s, -1, N)),
    "doubled": lambda r, s: raw(r, 2 * s % N),
    "in DER": utils.encode_dss_signature,
    "in DER, cut to 64 bytes": lambda r, s: utils.encode_dss_signature(r, s)[:64],
    "in DER, with zeros behind": lambda r, s: utils.encode_dss_signature(r, s) + b"\x00\x00",
    "in hexadecimal": lambda r, s: raw(r, s).hex().encode(),
    "r only": lambda r, _s: r.to_bytes(32, "big"),
    "63 bytes": lambda r, s: raw(r, s)[:-1],
    "63 bytes, the first gone": lambda r, s: raw(r, s)[1:],
    "65 bytes": lambda r, s: raw(r, s) + b"\x00",
    "65 bytes, a zero in front": lambda r, s: b"\x00" + raw(r, s),
    "wider numbers": lambda r, s: raw(r, s, 33),
    "the width of P-384": lambda r, s: raw(r, s, 48),
    "twice": lambda r, s: raw(r, s) * 2,
    "a kilobyte": lambda r, s: raw(r, s) + bytes(1024),
}


@pytest.mark.parametrize("forged", FORGED_ES256.values(), ids=FORGED_ES256.keys())
def test_a_forged_es256_signature_is_refused(issued: Issued, forged: Forged) -> None:
    message = message_of(issued, "access")
    true = issued.keys["access"].sign(message)
    signature = forged(int.from_bytes(true[:32], "big"), int.from_bytes(true[32:], "big"))
    issued.assert_refused((message + b"." + b64(signature)).decode())


def test_the_twin_of_an_es256_signature_is_as_good_and_gains_nothing(issued: Issued) -> None:
    message = message_of(issued, "access")
    true = issued.keys["access"].sign(message)
    twin = raw(int.from_bytes(true[:32], "big"), N - int.from_bytes(true[32:], "big"))
    with issued.app.app_context():
        claims = verification.verify((message + b"." + b64(twin)).decode(), now=datetime.now(UTC))
    # (r, s) and (r, -s) are both ECDSA's, whoever verifies. Nothing of ours is known by a token's text.
    assert claims == issued.claims("access")


@pytest.mark.parametrize("kind", [hashes.SHA224(), hashes.SHA384(), hashes.SHA512(), hashes.SHA3_256()], ids=name)
def test_the_true_key_over_another_hash_is_refused(issued: Issued, kind: hashes.HashAlgorithm) -> None:
    message = message_of(issued, "access")
    r, s = utils.decode_dss_signature(issued.keys["access"].secret.sign(message, ec.ECDSA(kind)))
    issued.assert_refused((message + b"." + b64(raw(r, s))).decode())


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP256K1(), ec.BrainpoolP256R1()], ids=name)
def test_another_key_on_any_curve_is_refused(issued: Issued, curve: ec.EllipticCurve) -> None:
    message = message_of(issued, "access")
    r, s = utils.decode_dss_signature(ec.generate_private_key(curve).sign(message, ec.ECDSA(hashes.SHA256())))
    issued.assert_refused((message + b"." + b64(raw(r, s))).decode())


def test_a_wider_curve_is_refused(issued: Issued) -> None:
    message = message_of(issued, "access")
    for curve, size in ((ec.SECP384R1(), 48), (ec.SECP521R1(), 66)):
        r, s = utils.decode_dss_signature(ec.generate_private_key(curve).sign(message, ec.ECDSA(hashes.SHA256())))
        issued.assert_refused((message + b"." + b64(raw(r, s, size))).decode())


@pytest.mark.parametrize("use", ["access", "refresh"])
def test_a_signature_over_anything_but_the_two_segments_is_refused(issued: Issued, use: Use) -> None:
    message = message_of(issued, use)
    header, payload = message.split(b".")
    others = (b"", header, payload, message + b".", header + payload, payload + b"." + header, message + b"\n")
    decoded = unb64(header.decode()) + b"." + unb64(payload.decode())
    for signed in (*others, decoded, hashlib.sha256(message).digest()):
        issued.assert_refused((message + b"." + b64(issued.keys[use].sign(signed))).decode())


# HS256.

Tagged = Callable[[bytes, bytes], bytes]
FORGED_HS256: Final[dict[str, Tagged]] = {
    "nothing": lambda _key, _message: b"",
    "one byte": lambda key, message: hmac.digest(key, message, "sha256")[:1],
    "half": lambda key, message: hmac.digest(key, message, "sha256")[:16],
    "one byte less": lambda key, message: hmac.digest(key, message, "sha256")[:-1],
    "the first byte gone": lambda key, message: hmac.digest(key, message, "sha256")[1:],
    "one byte more": lambda key, message: hmac.digest(key, message, "sha256") + b"\x00",
    "twice": lambda key, message: hmac.digest(key, message, "sha256") * 2,
    "backwards": lambda key, message: hmac.digest(key, message, "sha256")[::-1],
    "all zero": lambda _key, _message: bytes(32),
    "all ones": lambda _key, _message: b"\xff" * 32,
    "in hexadecimal": lambda key, message: hmac.digest(key, message, "sha256").hex().encode(),
    "SHA-1": lambda key, message: hmac.digest(key, message, "sha1"),
    "SHA-224": lambda key, message: hmac.digest(key, message, "sha224"),
    "SHA-384": lambda key, message: hmac.digest(key, message, "sha384"),
    "SHA-512": lambda key, message: hmac.digest(key, message, "sha512"),
    "SHA-512, cut to 32 bytes": lambda key, message: hmac.digest(key, message, "sha512")[:32],
    "SHA-3": lambda key, message: hmac.digest(key, message, "sha3_256"),
    "a hash without key": lambda _key, message: hashlib.sha256(message).digest(),
    "a hash of key and message": lambda key, message: hashlib.sha256(key + message).digest(),
    "an empty key": lambda _key, message: hmac.digest(b"", message, "sha256"),
    "half of the key": lambda key, message: hmac.digest(key[:16], message, "sha256"),
    "the key in hexadecimal": lambda key, message: hmac.digest(key.hex().encode(), message, "sha256"),
    "the hash of the key": lambda key, message: hmac.digest(hashlib.sha256(key).digest(), message, "sha256"),
    "key and message exchanged": lambda key, message: hmac.digest(message, key, "sha256"),
}


@pytest.mark.parametrize("forged", FORGED_HS256.values(), ids=FORGED_HS256.keys())
def test_a_forged_hs256_tag_is_refused(issued: Issued, of_secrets: Issued, forged: Tagged) -> None:
    signed: list[tuple[Issued, Use]] = [(issued, "refresh"), (of_secrets, "access"), (of_secrets, "refresh")]
    for each, use in signed:
        message = message_of(each, use)
        each.assert_refused((message + b"." + b64(forged(each.keys[use].secret, message))).decode())


def test_every_flipped_bit_of_a_signature_is_refused(issued: Issued) -> None:
    with issued.app.app_context():
        for use in keys.USES:
            message, true = message_of(issued, use), unb64(issued.good[use].rpartition(".")[2])
            for bit in range(len(true) * 8):
                flipped = (int.from_bytes(true, "big") ^ 1 << bit).to_bytes(len(true), "big")
                with pytest.raises(jwt.InvalidTokenError):
                    verification.verify((message + b"." + b64(flipped)).decode(), now=datetime.now(UTC))


def test_the_secrets_of_the_two_kinds_are_not_exchanged(of_secrets: Issued) -> None:
    for use, signer in zip(keys.USES, reversed(keys.USES), strict=True):
        message = message_of(of_secrets, use)
        of_secrets.assert_refused((message + b"." + b64(of_secrets.keys[signer].sign(message))).decode())


def reopened(issued: Issued, **settings: str) -> Issued:
    """Start the service anew, with other settings, on the database of `issued`."""
    url = str(issued.app.config["SQLALCHEMY_DATABASE_URI"])
    return dataclasses.replace(issued, app=make_app(url, **settings))


def test_a_former_secret_is_good_as_long_as_it_is_listed(databases: Databases) -> None:
    old = issue(make_app(databases("sqlite"), **SECRETS))
    new = {"ACCESS_TOKEN_SECRET": "new access " * 4, "REFRESH_TOKEN_SECRET": "new refresh " * 4}
    listed = {f"{name}_FALLBACKS": f"{name} and another,{value}" for name, value in SECRETS.items()}
    assert reopened(old, **new, **listed).protected(old.good["access"]).status_code == 200
    assert reopened(old, **new, **listed).refresh(old.good["refresh"]).status_code == 200
    reopened(old, **new).assert_refused(old.good["access"])
    reopened(old, **new).assert_refused(old.good["refresh"])


def test_tokens_of_stored_keys_stay_good_when_secrets_are_set(databases: Databases) -> None:
    old = issue(make_app(databases("sqlite")))
    assert reopened(old, **SECRETS).protected(old.good["access"]).status_code == 200
    assert reopened(old, **SECRETS).refresh(old.good["refresh"]).status_code == 200


def test_no_key_can_be_opened_with_another_secret_key_and_the_answer_is_503(databases: Databases) -> None:
    old = issue(make_app(databases("sqlite")))
    before = old.row()
    other = reopened(old, SECRET_KEY=SETTINGS["SECRET_KEY"][::-1])
    for answer in (other.protected(old.good["access"]), other.refresh(old.good["refresh"])):
        assert code_of(answer)[:2] == (503, "service_unavailable")
        assert "Retry-After" in answer.headers
        assert "Set-Cookie" not in answer.headers
    assert other.logout(cookie=old.good["refresh"]).status_code == 503
    assert old.row() == before


def test_what_is_remembered_of_good_tokens_has_a_bound(issued: Issued) -> None:
    with issued.app.app_context():
        remembered = keys.current(datetime.now(UTC)).verified
        remembered.update((str(number), {}) for number in range(verification._VERIFIED_MAX))
        claims = verification.verify(issued.with_claims("access", jti="one-more"), now=datetime.now(UTC))
    assert list(remembered.values()) == [claims]


def test_of_workers_that_make_the_first_keys_at_once_one_wins(database_url: str) -> None:
    workers = [make_app(database_url) for _ in range(3)]
    now = datetime.now(UTC)

    def load(worker: Flask) -> set[str]:
        with worker.app_context():
            try:
                keys.lifecycle.create_first("access", now)
                return set(keys.load(now).by_kid)
            finally:
                db.db.engine.dispose()

    kids = at_once(*(partial(load, worker) for worker in workers))
    assert len(kids[0]) == 2
    assert kids == kids[:1] * len(kids)


def test_headers_of_tokens_that_nobody_signed_are_not_remembered(databases: Databases) -> None:
    app = make_app(databases("sqlite"))
    issued = issue(app)
    with app.app_context():
        ring = keys.current(datetime.now(UTC))
        before = dict(ring.named)
        header, payload, signature = issued.good["access"].split(".")
        text = unb64(header).decode()
        for spaces in range(1, 100):
            spelt = b64(text.replace(",", "," + " " * spaces, 1).encode()).decode()
            with pytest.raises(jwt.InvalidTokenError):
                verification.verify(f"{spelt}.{payload}.{signature}", now=datetime.now(UTC))
        assert ring.named == before


# Other libraries.


def pem(key: keys.Key) -> str:
    """Write the public key as anybody may have it."""
    encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    text: bytes = key.public.public_bytes(encoding, form)
    return text.decode()


def jose_key(key: keys.Key) -> ECKey | OctKey:
    """Return what verifies our tokens, for joserfc."""
    return ECKey.import_key(pem(key)) if key.alg == "ES256" else OctKey.import_key(key.secret)


@pytest.mark.parametrize("use", ["access", "refresh"])
def test_joserfc_verifies_our_tokens(issued: Issued, of_secrets: Issued, use: Use) -> None:
    for each in (issued, of_secrets):
        key = each.keys[use]
        token = joserfc.jwt.decode(each.good[use], jose_key(key), [key.alg])
        assert token.header == {"alg": key.alg, "kid": key.kid, "typ": key.typ}
        assert token.claims == each.claims(use)


@pytest.mark.parametrize("use", ["access", "refresh"])
def test_the_gate_accepts_what_joserfc_signs_with_our_key(issued: Issued, of_secrets: Issued, use: Use) -> None:
    for each in (issued, of_secrets):
        key = each.keys[use]
        signer = ECKey.import_key(_private_pem(key)) if key.alg == "ES256" else OctKey.import_key(key.secret)
        token = joserfc.jwt.encode(each.header(use), each.claims(use), signer, [key.alg])
        assert (each.protected if use == "access" else each.refresh)(token).status_code == 200


def test_each_kind_is_signed_with_its_own_key_and_named_as_what_it_is(issued: Issued) -> None:
    assert issued.header("access") == {"alg": "ES256", "kid": issued.keys["access"].kid, "typ": "at+jwt"}
    assert issued.header("refresh") == {"alg": "HS256", "kid": issued.keys["refresh"].kid, "typ": "refresh+jwt"}
    assert issued.keys["access"].kid != issued.keys["refresh"].kid


def test_the_library_s_own_functions_sign_with_the_key_of_the_kind(issued: Issued) -> None:
    with issued.app.app_context():
        for use, token in (("access", create_access_token("somebody")), ("refresh", create_refresh_token("somebody"))):
            key = issued.keys["access" if use == "access" else "refresh"]
            claims = joserfc.jwt.decode(token, jose_key(key), [key.alg]).claims
            assert (claims["sub"], claims["type"]) == ("somebody", use)


def kid_of(token: str) -> str:
    """Return the name of the key that `token` says it was signed with."""
    return str(json.loads(unb64(token.split(".", maxsplit=1)[0]))["kid"])


def test_a_token_minted_while_keys_change_is_signed_with_the_key_that_it_names(databases: Databases) -> None:
    app = make_app(databases("sqlite"))
    issue(app)
    with app.app_context():
        now = datetime.now(UTC)
        before, known = keys.current(now), db.per_process(keyring._Cache)
        db.execute_now(sa.update(SigningKey).values(retired_at=now))
        after = keys.load(now)
        assert before.signing["access"].kid != after.signing["access"].kid
        over = threading.Event()

        def keep_changing() -> None:
            while not over.wait(0.00002):
                known.ring = after if known.ring is before else before

        changing = threading.Thread(target=keep_changing)
        changing.start()
        minted: list[str] = []
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            wait_until(lambda: _mint_some(minted) >= 300 and len({kid_of(token) for token in minted}) > 1)
        finally:
            sys.setswitchinterval(interval)
            over.set()
            changing.join()
        db.db.engine.dispose()
    for token in minted:
        key = (before if kid_of(token) in before.by_kid else after).by_kid[kid_of(token)]
        joserfc.jwt.decode(token, jose_key(key), [key.alg])


# What no library accepts, the gate does not.

ODD: Final = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=5),
    st.just(MISSING),
    st.lists(st.text(max_size=3), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=1),
)
HEADER_CHANGES: Final = st.dictionaries(
    st.sampled_from(["alg", "kid", "typ", "crit", "b64", "cty", "jwk", "zip"]),
    ODD | st.sampled_from(["none", "HS256", "ES256", "at+jwt", "refresh+jwt", "JWT", ["exp"]]),
    max_size=2,
)
TIMES: Final = st.integers(-1000, 1000).map(lambda seconds: int(time.time()) + seconds)
CLAIM_CHANGES: Final = st.dictionaries(
    st.sampled_from(["iss", "aud", "sub", "sid", "jti", "iat", "exp", "nbf", "auth_time", "type", "fresh", "gen", "x"]),
    ODD | TIMES,
    max_size=3,
)
EDITS: Final = st.lists(
    st.tuples(st.integers(0, 700), st.sampled_from(["", ".", "=", " ", "A", "-", "+", "\n"])), max_size=2
)


def strictly(token: str, issued: Issued) -> dict[str, Any]:
    """Read `token` with PyJWT at its strictest; the key and its algorithm are found by kid, as they must be."""
    with issued.app.app_context():
        key = keys.current(datetime.now(UTC)).by_kid[jwt.get_unverified_header(token)["kid"]]
    claims: dict[str, Any] = jwt.decode(
        token,
        pem(key) if key.alg == "ES256" else key.secret,
        algorithms=[key.alg],
        audience="tokenapp-api" if key.use == "access" else "http://localhost:3005",
        issuer="http://localhost:3005",
        leeway=verification.CLOCK_LEEWAY,
        options={"require": ["iss", "aud", "sub", "sid", "jti", "iat", "exp", "type"], "strict_aud": True},
    )
    return claims


def forge(issued: Issued, use: Use, parts: tuple[dict[str, Any], dict[str, Any], Use, list[tuple[int, str]]]) -> str:
    """Make a token with changed header, changed claims, the key of either kind, and letters replaced."""
    header, claims, signer, edits = parts
    token = issued.sign(signer, changed(issued.header(use), **header), changed(issued.claims(use), **claims))
    for place, letter in edits:
        token = token[:place] + letter + token[place + 1 :]
    return token


@settings(max_examples=300, deadline=None)
@given(
    use=st.sampled_from(keys.USES),
    parts=st.tuples(HEADER_CHANGES, CLAIM_CHANGES, st.sampled_from(keys.USES), EDITS),
)
def test_the_gate_accepts_nothing_that_pyjwt_refuses_and_reads_it_alike(
    issued: Issued, use: Use, parts: tuple[dict[str, Any], dict[str, Any], Use, list[tuple[int, str]]]
) -> None:
    token = forge(issued, use, parts)
    now = datetime.now(UTC)
    with issued.app.app_context():
        try:
            claims = verification.verify(token, now=now)
        except jwt.InvalidTokenError:
            return
    assert claims == strictly(token, issued)
    assert now.timestamp() < claims["exp"]


@settings(max_examples=100, deadline=None)
@given(use=st.sampled_from(keys.USES), seconds=st.integers(-30, 0), life=st.integers(31, 900), more=st.text())
def test_the_gate_and_pyjwt_accept_the_same_good_tokens(
    issued: Issued, use: Use, seconds: int, life: int, more: str
) -> None:
    start = int(time.time()) + seconds
    token = issued.with_claims(use, iat=start, exp=start + life, x=more.encode(errors="replace").decode())
    with issued.app.app_context():
        assert verification.verify(token, now=datetime.now(UTC)) == strictly(token, issued)


@settings(max_examples=200, deadline=None)
@given(
    token=st.one_of(st.text(), st.lists(st.binary(), max_size=6).map(lambda raws: b".".join(map(b64, raws)).decode()))
)
def test_the_gate_answers_any_text_at_all(issued: Issued, token: str) -> None:
    with issued.app.app_context(), pytest.raises(jwt.InvalidTokenError):
        verification.verify(token, now=datetime.now(UTC))


JSON: Final = st.recursive(ODD.filter(lambda value: value is not MISSING), lambda inner: st.lists(inner, max_size=3))


@settings(max_examples=200, deadline=None)
@given(use=st.sampled_from(keys.USES), header=JSON, claims=JSON)
def test_the_gate_answers_any_json_that_is_truly_signed(issued: Issued, use: Use, header: Any, claims: Any) -> None:
    with issued.app.app_context():
        for token in (issued.sign(use, compact(json.loads(json.dumps(header)))), issued.sign(use, claims=[claims])):
            with pytest.raises(jwt.InvalidTokenError):
                verification.verify(token, now=datetime.now(UTC))


def _private_pem(key: keys.Key) -> str:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    text: bytes = key.secret.private_bytes(encoding, form, serialization.NoEncryption())
    return text.decode()


def _mint_some(minted: list[str]) -> int:
    minted += [create_access_token("somebody") for _ in range(100)]
    return len(minted)
