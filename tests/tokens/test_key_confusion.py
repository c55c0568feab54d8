"""Tokens signed with an attacker's key, a public key or the key of the other use."""

import base64
import itertools
import json
import socket
from datetime import UTC, datetime
from typing import Final

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, HMACAlgorithm, RSAAlgorithm

from tests.support.forge import BAD_ACCESS, BAD_REFRESH, MISSING, Issued, Use, b64, changed, compact
from tests.tokens.conftest import other
from tokenapp import keys


def public_forms(key: ec.EllipticCurvePublicKey) -> dict[str, bytes]:
    """Return every encoding in which an attacker could have the public key."""
    encoding, form = serialization.Encoding, serialization.PublicFormat
    pem = key.public_bytes(encoding.PEM, form.SubjectPublicKeyInfo)
    der = key.public_bytes(encoding.DER, form.SubjectPublicKeyInfo)
    jwk = ECAlgorithm.to_jwk(key, as_dict=True)
    numbers = key.public_numbers()
    return {
        "PEM": pem,
        "PEM without its last line end": pem.rstrip(),
        "PEM with CRLF": pem.replace(b"\n", b"\r\n"),
        "PEM body": b"".join(pem.splitlines()[1:-1]),
        "DER": der,
        "base64 of DER": base64.b64encode(der),
        "base64url of DER": b64(der),
        "point": key.public_bytes(encoding.X962, form.UncompressedPoint),
        "compressed point": key.public_bytes(encoding.X962, form.CompressedPoint),
        "x and y": numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big"),
        "x": numbers.x.to_bytes(32, "big"),
        "x in base64url": jwk["x"].encode(),
        "JWK": json.dumps(jwk).encode(),
        "JWK without spaces": compact(jwk),
        "JWK as for a thumbprint": compact({name: jwk[name] for name in ("crv", "kty", "x", "y")}),
        "OpenSSH": key.public_bytes(encoding.OpenSSH, form.OpenSSH),
        "empty": b"",
        "a NUL": b"\x00",
        "32 NULs": bytes(32),
    }


PUBLIC_FORMS: Final = list(public_forms(ec.generate_private_key(ec.SECP256R1()).public_key()))


@pytest.mark.parametrize("form", PUBLIC_FORMS)
@pytest.mark.parametrize("alg", ["HS256", "ES256"])
def test_public_key_is_not_an_hmac_secret(issued: Issued, use: Use, form: str, alg: str) -> None:
    with issued.app.app_context():
        ring = keys.current(datetime.now(UTC))
    public = [key.public for key in ring.by_kid.values() if key.alg == "ES256"]
    for key in public or [ec.generate_private_key(ec.SECP256R1()).public_key()]:
        secret = public_forms(key)[form]
        for kid in (*ring.by_kid, "", secret.decode("latin-1")):
            message = b64(compact(issued.header(use) | {"alg": alg, "kid": kid})) + b"."
            message += b64(compact(issued.claims(use)))
            signature = HMACAlgorithm(HMACAlgorithm.SHA256).sign(message, secret)
            issued.assert_rejected((message + b"." + b64(signature)).decode())


def test_key_embedded_in_the_token_is_not_used(issued: Issued, use: Use) -> None:
    own = ec.generate_private_key(ec.SECP256R1())
    jwk = ECAlgorithm.to_jwk(own.public_key(), as_dict=True)
    for more in ({"jwk": jwk}, {"jwk": jwk, "kid": MISSING}, {"x5c": ["MIIB"], "kid": "own"}, {}):
        header = changed(issued.header(use), alg="ES256", **more)
        message = b64(compact(header)) + b"." + b64(compact(issued.claims(use)))
        signature = ECAlgorithm(ECAlgorithm.SHA256, ec.SECP256R1).sign(message, own)
        issued.assert_rejected((message + b"." + b64(signature)).decode())


@pytest.mark.parametrize("member", ["jku", "x5u", "iss", "kid"])
def test_address_in_a_token_is_never_requested(issued: Issued, use: Use, member: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/keys.json"
        issued.assert_rejected(issued.with_header(use, **{member: url}))
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_rsa_signature_is_rejected(issued: Issued, use: Use) -> None:
    own = rsa.generate_private_key(65537, 2048)
    message = b64(compact(issued.header(use) | {"alg": "RS256"})) + b"." + b64(compact(issued.claims(use)))
    issued.assert_rejected((message + b"." + b64(RSAAlgorithm(RSAAlgorithm.SHA256).sign(message, own))).decode())


def test_common_secret_is_rejected(issued: Issued, use: Use) -> None:
    for secret in (b"secret", b"change-me", issued.keys[use].kid.encode(), b"your-256-bit-secret"):
        message = b64(compact(issued.header(use) | {"alg": "HS256"})) + b"." + b64(compact(issued.claims(use)))
        signature = HMACAlgorithm(HMACAlgorithm.SHA256).sign(message, secret)
        issued.assert_rejected((message + b"." + b64(signature)).decode())


# One use in place of the other.


def test_refresh_token_is_rejected_as_access_token_and_vice_versa(issued: Issued) -> None:
    assert issued.protected(issued.good["refresh"]).problem == BAD_ACCESS
    response = issued.refresh(issued.good["access"])
    assert response.problem == BAD_REFRESH
    assert response.cookie is None


def test_sign_out_with_a_token_of_the_wrong_use_revokes_no_session(issued: Issued) -> None:
    before = issued.row()
    assert issued.logout(cookie=issued.good["access"]).status == 204
    assert issued.logout(bearer=issued.good["refresh"]).status == 204
    assert issued.row() == before


def test_mixture_of_the_two_uses_is_rejected(issued: Issued) -> None:
    for kid, typ, claims, type_claim, signer in itertools.product(
        keys.USES, keys.USES, keys.USES, ("own", "other"), keys.USES
    ):
        if kid == typ == claims == signer and type_claim == "own":
            continue
        header = issued.header(kid) | {"typ": issued.header(typ)["typ"]}
        payload = issued.claims(claims)
        if type_claim == "other":
            payload["type"] = other(claims)
        issued.assert_rejected(issued.sign(signer, header, payload))
