"""Key material: generated, read, checked, and published as JWK."""

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Literal, get_args

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import Algorithm, ECAlgorithm, HMACAlgorithm, OKPAlgorithm, RSAAlgorithm

from tokenapp import errors

Use = Literal["access", "refresh"]
Alg = Literal["ES256", "RS256", "EdDSA", "HS256"]
USES: Final[tuple[Use, ...]] = get_args(Use)
ALGORITHMS: Final[tuple[Alg, ...]] = get_args(Alg)
MIN_RSA_BITS: Final = 3072
MIN_SECRET_BYTES: Final = 32
_IMPLEMENTATIONS: Final[dict[str, Algorithm]] = {
    "ES256": ECAlgorithm(ECAlgorithm.SHA256, ec.SECP256R1),
    "RS256": RSAAlgorithm(RSAAlgorithm.SHA256),
    "EdDSA": OKPAlgorithm(),
    "HS256": HMACAlgorithm(HMACAlgorithm.SHA256),
}
_THUMBPRINT_MEMBERS: Final = ("crv", "e", "k", "kty", "n", "x", "y")
_DER: Final = serialization.Encoding.DER
_PKCS8: Final = serialization.PrivateFormat.PKCS8


@dataclass(frozen=True, slots=True)
class Key:
    """A signing key with its use and algorithm, which no token can change.

    `typ` is the header of the tokens that it signs (RFC 9068, 2.1, for access tokens). ``sign(message)`` returns a
    signature; ``verifies(message, sig=signature)`` returns whether it is valid.
    """

    kid: str
    use: Use
    alg: Alg
    typ: str
    secret: Any = field(repr=False)
    public: Any = field(repr=False)
    sign: Callable[[bytes], bytes] = field(repr=False, compare=False)
    verifies: Callable[..., bool] = field(repr=False, compare=False)

    def jwk(self) -> dict[str, str] | None:
        """Return the public key as a JWK (RFC 7517), or None for a shared secret."""
        if self.alg == "HS256":
            return None
        return {**_public_members(self.alg, self.public), "kid": self.kid, "use": "sig", "alg": self.alg}


def generate(alg: Alg) -> bytes:
    """Generate a private key: PKCS #8, or the bytes of a shared secret."""
    if alg == "HS256":
        return secrets.token_bytes(MIN_SECRET_BYTES)
    private: Any
    if alg == "ES256":
        private = ec.generate_private_key(ec.SECP256R1())
    elif alg == "RS256":
        private = rsa.generate_private_key(public_exponent=65537, key_size=MIN_RSA_BITS)
    else:
        private = ed25519.Ed25519PrivateKey.generate()
    return bytes(private.private_bytes(_DER, _PKCS8, serialization.NoEncryption()))


def read_pem(pem: bytes) -> tuple[Alg, bytes]:
    """Return the algorithm and the PKCS #8 form of an unencrypted PEM private key.

    Raises:
        errors.KeyRejected: it is not a private key, or it is too weak.
    """
    try:
        private: Any = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise errors.KeyRejected(detail="The file does not contain an unencrypted private key in PEM.") from None
    alg: Alg = "EdDSA"
    if isinstance(private, ec.EllipticCurvePrivateKey):
        alg = "ES256"
    elif isinstance(private, rsa.RSAPrivateKey):
        alg = "RS256"
    material = private.private_bytes(_DER, _PKCS8, serialization.NoEncryption())
    kid_of(alg, material)
    return alg, material


def open_key(kid: str, use: Use, alg: str, material: bytes) -> Key:
    """Return a key that can sign, after checking its type and strength.

    Raises:
        errors.KeyRejected
    """
    if alg == "HS256":
        if len(material) < MIN_SECRET_BYTES:
            raise errors.KeyRejected(detail=f"A shared secret must have at least {MIN_SECRET_BYTES} bytes.")
        return _key(kid, use, "HS256", material, material)
    private: Any = serialization.load_der_private_key(material, None)
    if alg == "ES256" and isinstance(private, ec.EllipticCurvePrivateKey) and private.curve.name == "secp256r1":
        return _key(kid, use, "ES256", private, private.public_key())
    if alg == "EdDSA" and isinstance(private, ed25519.Ed25519PrivateKey):
        return _key(kid, use, "EdDSA", private, private.public_key())
    if alg == "RS256" and isinstance(private, rsa.RSAPrivateKey):
        if private.key_size < MIN_RSA_BITS:
            raise errors.KeyRejected(detail=f"An RSA key must have at least {MIN_RSA_BITS} bits.")
        return _key(kid, use, "RS256", private, private.public_key())
    raise errors.KeyRejected(detail="The key must be P-256, RSA or Ed25519, and match its algorithm.")


def from_setting(value: str, use: Use) -> Key:
    """Return the key for a secret of the settings.

    Its kid is derived from the secret and does not reveal it.
    """
    secret = value.encode()
    digest = hmac.digest(secret, f"tokenapp kid {use}".encode(), hashlib.sha256)
    kid = base64.urlsafe_b64encode(digest[:12]).decode()
    return _key(kid, use, "HS256", secret, secret)


def kid_of(alg: str, material: bytes) -> str:
    """Return the kid of a key: its RFC 7638 thumbprint; random for shared secrets.

    Raises:
        errors.KeyRejected
    """
    if alg == "HS256":
        return secrets.token_urlsafe(12)
    return thumbprint(_public_members(alg, open_key("", "access", alg, material).public))


def thumbprint(jwk: dict[str, str]) -> str:
    """Return the SHA-256 thumbprint of `jwk` (RFC 7638, 3)."""
    members = {name: jwk[name] for name in _THUMBPRINT_MEMBERS if name in jwk}
    canonical = json.dumps(members, separators=(",", ":"), sort_keys=True).encode()
    return base64.urlsafe_b64encode(hashlib.sha256(canonical).digest()).rstrip(b"=").decode()


def _key(kid: str, use: Use, alg: Alg, secret: Any, public: Any) -> Key:
    implementation: Any = _IMPLEMENTATIONS[alg]
    typ = "at+jwt" if use == "access" else "refresh+jwt"
    sign, verify = partial(implementation.sign, key=secret), partial(implementation.verify, key=public)
    return Key(kid, use, alg, typ, secret, public, sign, verify)


def _public_members(alg: str, public: Any) -> dict[str, str]:
    members = _IMPLEMENTATIONS[alg].to_jwk(public, as_dict=True)
    return {name: value for name, value in members.items() if name in _THUMBPRINT_MEMBERS}
