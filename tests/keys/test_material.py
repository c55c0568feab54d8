"""Key material: which keys are accepted, used, published and stored."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa, x25519
from flask import Flask
from joserfc.jwk import KeySet

from tests.keys.conftest import SQLITE, Restart, now, pem, published, rotate, signer, statuses, stored_keys
from tests.support.app import create_user
from tests.support.client import sign_in
from tests.support.forge import header_of
from tokenapp import config, errors, keys

P256 = ec.generate_private_key(ec.SECP256R1())
RSA_3072 = rsa.generate_private_key(65537, 3072)
ED25519 = ed25519.Ed25519PrivateKey.generate()


def public_pem(private: Any) -> bytes:
    """Return the public key of a private key in PEM."""
    return bytes(
        private.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


REJECTED: dict[str, Callable[[], bytes]] = {
    "RSA of 2048 bits": lambda: pem(rsa.generate_private_key(65537, 2048)),
    "P-384": lambda: pem(ec.generate_private_key(ec.SECP384R1())),
    "secp256k1": lambda: pem(ec.generate_private_key(ec.SECP256K1())),
    "X25519": lambda: pem(x25519.X25519PrivateKey.generate()),
    "DSA": lambda: pem(dsa.generate_private_key(2048)),
    "encrypted": lambda: pem(P256, password=b"password"),
    "public": lambda: public_pem(P256),
    "truncated": lambda: pem(P256)[:-60],
    "no PEM": lambda: b"garbage",
    "empty": lambda: b"",
}


@pytest.mark.parametrize("kind", REJECTED)
def test_weak_or_unsupported_key_is_rejected(kind: str) -> None:
    with pytest.raises(errors.KeyRejected):
        keys.read_pem(REJECTED[kind]())


@pytest.mark.parametrize(
    ("text", "alg"),
    [
        (pem(P256), "ES256"),
        (pem(P256, form="TraditionalOpenSSL"), "ES256"),
        (pem(RSA_3072), "RS256"),
        (pem(RSA_3072, form="TraditionalOpenSSL"), "RS256"),
        (pem(ED25519), "EdDSA"),
    ],
)
def test_supported_key_is_read_from_every_form_of_pem(text: bytes, alg: str) -> None:
    assert keys.read_pem(text)[0] == alg


@SQLITE
def test_refresh_tokens_cannot_be_signed_with_a_key_pair(app: Flask) -> None:
    with pytest.raises(errors.KeyRejected) as error:
        rotate(app, "refresh", now(), alg="ES256")
    assert "always signed with HS256" in error.value.detail


@SQLITE
@pytest.mark.parametrize("alg", keys.ALGORITHMS)
def test_every_algorithm_signs_verifies_and_is_published(app: Flask, alg: keys.Alg) -> None:
    kid = rotate(app, "access", now(), alg=alg).kid
    create_user(app)
    client = sign_in(app)
    header = header_of(client.token or "")
    assert (header["kid"], header["alg"]) == (kid, alg)
    assert statuses(app, client) == (200, 200)
    public = published(app)
    assert [jwk["kid"] for jwk in public] == ([] if alg == "HS256" else [kid])
    for jwk in KeySet.import_key_set({"keys": public}).keys if public else ():  # type: ignore[typeddict-item]  # any JWKs
        assert jwk.thumbprint() == kid
        assert not jwk.is_private
    assert all(jwk["use"] == "sig" and jwk["alg"] == alg for jwk in public)


@SQLITE
def test_jwk_set_contains_pending_active_and_retiring_keys_without_private_members(restart: Restart) -> None:
    app = restart(ACCESS_TOKEN_SECRET_FALLBACKS="a former access secret that is long enough")
    at, lead = now(), timedelta(seconds=302)
    former = signer(app, "access", at - 2 * lead)
    active = rotate(app, "access", at - 2 * lead, alg="EdDSA").kid
    pending = rotate(app, "access", at, alg="RS256").kid
    public = {jwk["kid"]: jwk for jwk in published(app)}
    assert public.keys() == {former, active, pending}
    members = {frozenset(jwk) - {"kid", "use", "alg"} for jwk in public.values()}
    assert members == {
        frozenset({"kty", "crv", "x", "y"}),
        frozenset({"kty", "crv", "x"}),
        frozenset({"kty", "n", "e"}),
    }
    later = at + timedelta(hours=1)
    with app.app_context():
        keys.load(later)
        assert former not in {jwk["kid"] for jwk in keys.public_set(later)}


def test_key_material_is_stored_encrypted_and_never_shown(app: Flask) -> None:
    alg, material = keys.read_pem(pem(P256))
    rotate(app, "access", now(), alg=alg, material=material)
    (row,) = stored_keys(app, "access")
    raw = P256.private_numbers().private_value.to_bytes(32, "big")
    assert raw not in bytes(row.encrypted)
    with app.app_context():
        shown = repr(keys.load(now()))
        assert config.current().secret_key not in shown
    assert str(P256.private_numbers().private_value) not in shown
    assert "secret=" not in shown
