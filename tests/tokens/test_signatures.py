"""Signatures: every known way to forge one is rejected.

The tables follow Project Wycheproof's vectors for ECDSA (P1363 form) and HMAC, applied to the service's own tokens.
"""

import hashlib
import hmac
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import jwt
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from tests.support.forge import Issued, Use, b64, unb64
from tokenapp import keys
from tokenapp.tokens import verification

# The order of the group of P-256, and the prime of its field.
N: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
P: Final = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF


def message_of(issued: Issued, use: Use) -> bytes:
    """Return what the signature of the valid token covers."""
    return issued.good[use].rpartition(".")[0].encode()


def raw(r: int, s: int, size: int = 32) -> bytes:
    """Encode a signature in the form of JWS (RFC 7518, 3.4)."""
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


def name(thing: hashes.HashAlgorithm | ec.EllipticCurve) -> str:
    """Return the test id of a hash or a curve."""
    return thing.name


# ES256.

Forged = Callable[[int, int], bytes]
FORGED_ES256: Final[dict[str, Forged]] = {
    "empty": lambda _r, _s: b"",
    "all zero, as in CVE-2022-21449": lambda _r, _s: raw(0, 0),
    "r zero": lambda _r, s: raw(0, s),
    "s zero": lambda r, _s: raw(r, 0),
    "r and s one": lambda _r, _s: raw(1, 1),
    "r one": lambda _r, s: raw(1, s),
    "s one": lambda r, _s: raw(r, 1),
    "r = n": lambda _r, s: raw(N, s),
    "s = n": lambda r, _s: raw(r, N),
    "r = s = n": lambda _r, _s: raw(N, N),
    "r = n - 1": lambda _r, s: raw(N - 1, s),
    "s = n - 1": lambda r, _s: raw(r, N - 1),
    "r = n + 1": lambda _r, s: raw(N + 1, s),
    "r = p": lambda _r, s: raw(P, s),
    "s = p": lambda r, _s: raw(r, P),
    "r = p + 1": lambda _r, s: raw(P + 1, s),
    "all ones": lambda _r, _s: b"\xff" * 64,
    "r negated": lambda r, s: raw(N - r, s),
    "r and s negated": lambda r, s: raw(N - r, N - s),
    "r in two's complement": lambda r, s: raw(2**256 - r, s),
    "s in two's complement": lambda r, s: raw(r, 2**256 - s),
    "r + n": lambda r, s: raw(r + N, s, 33),
    "s + n": lambda r, s: raw(r, s + N, 33),
    "swapped": lambda r, s: raw(s, r),
    "little-endian": lambda r, s: r.to_bytes(32, "little") + s.to_bytes(32, "little"),
    "inverted": lambda r, s: raw(r, pow(s, -1, N)),
    "doubled": lambda r, s: raw(r, 2 * s % N),
    "in DER": utils.encode_dss_signature,
    "in DER, cut to 64 bytes": lambda r, s: utils.encode_dss_signature(r, s)[:64],
    "in DER, with trailing zeros": lambda r, s: utils.encode_dss_signature(r, s) + b"\x00\x00",
    "in hexadecimal": lambda r, s: raw(r, s).hex().encode(),
    "r only": lambda r, _s: r.to_bytes(32, "big"),
    "63 bytes": lambda r, s: raw(r, s)[:-1],
    "63 bytes, without the first": lambda r, s: raw(r, s)[1:],
    "65 bytes": lambda r, s: raw(r, s) + b"\x00",
    "65 bytes, with a leading zero": lambda r, s: b"\x00" + raw(r, s),
    "wider numbers": lambda r, s: raw(r, s, 33),
    "the width of P-384": lambda r, s: raw(r, s, 48),
    "twice": lambda r, s: raw(r, s) * 2,
    "a kilobyte": lambda r, s: raw(r, s) + bytes(1024),
}


@pytest.mark.parametrize("forged", FORGED_ES256.values(), ids=FORGED_ES256.keys())
def test_forged_es256_signature_is_rejected(stored: Issued, forged: Forged) -> None:
    message = message_of(stored, "access")
    valid = stored.keys["access"].sign(message)
    signature = forged(int.from_bytes(valid[:32], "big"), int.from_bytes(valid[32:], "big"))
    stored.assert_rejected((message + b"." + b64(signature)).decode())


def test_negated_es256_signature_is_valid_and_yields_the_same_claims(stored: Issued) -> None:
    message = message_of(stored, "access")
    valid = stored.keys["access"].sign(message)
    negated = raw(int.from_bytes(valid[:32], "big"), N - int.from_bytes(valid[32:], "big"))
    with stored.app.app_context():
        claims = verification.verify((message + b"." + b64(negated)).decode(), now=datetime.now(UTC))
    # ECDSA accepts both (r, s) and (r, -s). This is harmless, because nothing identifies a token by its text.
    assert claims == stored.claims("access")


@pytest.mark.parametrize("kind", [hashes.SHA224(), hashes.SHA384(), hashes.SHA512(), hashes.SHA3_256()], ids=name)
def test_signature_over_another_hash_is_rejected(stored: Issued, kind: hashes.HashAlgorithm) -> None:
    message = message_of(stored, "access")
    r, s = utils.decode_dss_signature(stored.keys["access"].secret.sign(message, ec.ECDSA(kind)))
    stored.assert_rejected((message + b"." + b64(raw(r, s))).decode())


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP256K1(), ec.BrainpoolP256R1()], ids=name)
def test_signature_by_another_key_is_rejected(stored: Issued, curve: ec.EllipticCurve) -> None:
    message = message_of(stored, "access")
    r, s = utils.decode_dss_signature(ec.generate_private_key(curve).sign(message, ec.ECDSA(hashes.SHA256())))
    stored.assert_rejected((message + b"." + b64(raw(r, s))).decode())


def test_signature_on_a_larger_curve_is_rejected(stored: Issued) -> None:
    message = message_of(stored, "access")
    for curve, size in ((ec.SECP384R1(), 48), (ec.SECP521R1(), 66)):
        r, s = utils.decode_dss_signature(ec.generate_private_key(curve).sign(message, ec.ECDSA(hashes.SHA256())))
        stored.assert_rejected((message + b"." + b64(raw(r, s, size))).decode())


@pytest.mark.parametrize("use", ["access", "refresh"])
def test_signature_over_anything_but_the_two_segments_is_rejected(stored: Issued, use: Use) -> None:
    message = message_of(stored, use)
    header, payload = message.split(b".")
    others = (b"", header, payload, message + b".", header + payload, payload + b"." + header, message + b"\n")
    decoded = unb64(header.decode()) + b"." + unb64(payload.decode())
    for signed in (*others, decoded, hashlib.sha256(message).digest()):
        stored.assert_rejected((message + b"." + b64(stored.keys[use].sign(signed))).decode())


# HS256.

Tagged = Callable[[bytes, bytes], bytes]
FORGED_HS256: Final[dict[str, Tagged]] = {
    "empty": lambda _key, _message: b"",
    "one byte": lambda key, message: hmac.digest(key, message, "sha256")[:1],
    "half": lambda key, message: hmac.digest(key, message, "sha256")[:16],
    "without the last byte": lambda key, message: hmac.digest(key, message, "sha256")[:-1],
    "without the first byte": lambda key, message: hmac.digest(key, message, "sha256")[1:],
    "with one more byte": lambda key, message: hmac.digest(key, message, "sha256") + b"\x00",
    "twice": lambda key, message: hmac.digest(key, message, "sha256") * 2,
    "reversed": lambda key, message: hmac.digest(key, message, "sha256")[::-1],
    "all zero": lambda _key, _message: bytes(32),
    "all ones": lambda _key, _message: b"\xff" * 32,
    "in hexadecimal": lambda key, message: hmac.digest(key, message, "sha256").hex().encode(),
    "SHA-1": lambda key, message: hmac.digest(key, message, "sha1"),
    "SHA-224": lambda key, message: hmac.digest(key, message, "sha224"),
    "SHA-384": lambda key, message: hmac.digest(key, message, "sha384"),
    "SHA-512": lambda key, message: hmac.digest(key, message, "sha512"),
    "SHA-512, cut to 32 bytes": lambda key, message: hmac.digest(key, message, "sha512")[:32],
    "SHA-3": lambda key, message: hmac.digest(key, message, "sha3_256"),
    "a hash without a key": lambda _key, message: hashlib.sha256(message).digest(),
    "a hash of key and message": lambda key, message: hashlib.sha256(key + message).digest(),
    "an empty key": lambda _key, message: hmac.digest(b"", message, "sha256"),
    "half of the key": lambda key, message: hmac.digest(key[:16], message, "sha256"),
    "the key in hexadecimal": lambda key, message: hmac.digest(key.hex().encode(), message, "sha256"),
    "the hash of the key": lambda key, message: hmac.digest(hashlib.sha256(key).digest(), message, "sha256"),
    "key and message swapped": lambda key, message: hmac.digest(message, key, "sha256"),
}


@pytest.mark.parametrize("forged", FORGED_HS256.values(), ids=FORGED_HS256.keys())
def test_forged_hs256_tag_is_rejected(stored: Issued, of_secrets: Issued, forged: Tagged) -> None:
    signed: list[tuple[Issued, Use]] = [(stored, "refresh"), (of_secrets, "access"), (of_secrets, "refresh")]
    for each, use in signed:
        message = message_of(each, use)
        each.assert_rejected((message + b"." + b64(forged(each.keys[use].secret, message))).decode())


def test_every_flipped_bit_of_a_signature_is_rejected(stored: Issued) -> None:
    with stored.app.app_context():
        for use in keys.USES:
            message, valid = message_of(stored, use), unb64(stored.good[use].rpartition(".")[2])
            for bit in range(len(valid) * 8):
                flipped = (int.from_bytes(valid, "big") ^ 1 << bit).to_bytes(len(valid), "big")
                with pytest.raises(jwt.InvalidTokenError):
                    verification.verify((message + b"." + b64(flipped)).decode(), now=datetime.now(UTC))


def test_secrets_of_the_two_uses_are_not_interchangeable(of_secrets: Issued) -> None:
    for use, signer in zip(keys.USES, reversed(keys.USES), strict=True):
        message = message_of(of_secrets, use)
        of_secrets.assert_rejected((message + b"." + b64(of_secrets.keys[signer].sign(message))).decode())
