"""Key material: made, read, checked, shown. What a key may do follows from what it is, not from what a token says."""

import base64
import hashlib
import hmac
import json
import secrets
from dataclasses import dataclass, field
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
    """A key ready for work; what it may be used for, and with which algorithm, is its own and never the token's say."""

    kid: str
    use: Use
    alg: Alg
    secret: Any = field(repr=False)
    public: Any = field(repr=False)

    @property
    def typ(self) -> str:
        """The ``typ`` header of the tokens that this key signs (RFC 9068, 2.1, for access tokens)."""
        return "at+jwt" if self.use == "access" else "refresh+jwt"

    def sign(self, message: bytes) -> bytes:
        """Sign `message`."""
        return _IMPLEMENTATIONS[self.alg].sign(message, self.secret)

    def verifies(self, message: bytes, signature: bytes) -> bool:
        """Whether `signature` is this key's, over `message`."""
        return _IMPLEMENTATIONS[self.alg].verify(message, self.public, signature)

    def jwk(self) -> dict[str, str] | None:
        """Return the public key for a JWK set (RFC 7517), or None for a key that has no public part."""
        if self.alg == "HS256":
            return None
        return {**_public_members(self.alg, self.public), "kid": self.kid, "use": "sig", "alg": self.alg}


def make(alg: Alg) -> bytes:
    """Make new private key material: PKCS #8, or the bytes of a shared secret."""
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
    """Return the algorithm and the material of a private key in PEM, unencrypted.

    Raises:
        errors.KeyRejected: not a private key, or too weak.
    """
    try:
        private: Any = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise errors.KeyRejected(detail="The file holds no unencrypted private key in PEM.") from None
    alg: Alg = "EdDSA"
    if isinstance(private, ec.EllipticCurvePrivateKey):
        alg = "ES256"
    elif isinstance(private, rsa.RSAPrivateKey):
        alg = "RS256"
    material = private.private_bytes(_DER, _PKCS8, serialization.NoEncryption())
    kid_of(alg, material)
    return alg, material


def open_key(kid: str, use: Use, alg: str, material: bytes) -> Key:
    """Make a key ready for work out of its material, once it is what `alg` asks for and strong enough.

    Raises:
        errors.KeyRejected
    """
    if alg == "HS256":
        if len(material) < MIN_SECRET_BYTES:
            raise errors.KeyRejected(detail=f"A shared secret has at least {MIN_SECRET_BYTES} bytes.")
        return Key(kid, use, "HS256", secret=material, public=material)
    private: Any = serialization.load_der_private_key(material, None)
    if alg == "ES256" and isinstance(private, ec.EllipticCurvePrivateKey) and private.curve.name == "secp256r1":
        return Key(kid, use, "ES256", secret=private, public=private.public_key())
    if alg == "EdDSA" and isinstance(private, ed25519.Ed25519PrivateKey):
        return Key(kid, use, "EdDSA", secret=private, public=private.public_key())
    if alg == "RS256" and isinstance(private, rsa.RSAPrivateKey):
        if private.key_size < MIN_RSA_BITS:
            raise errors.KeyRejected(detail=f"An RSA key has at least {MIN_RSA_BITS} bits.")
        return Key(kid, use, "RS256", secret=private, public=private.public_key())
    raise errors.KeyRejected(detail="The key is not P-256, RSA or Ed25519, or not what its algorithm asks for.")


def of_setting(value: str, use: Use) -> Key:
    """Make a key of a secret from the settings; its kid is the same in every process and tells nothing of it."""
    secret = value.encode()
    digest = hmac.digest(secret, f"tokenapp kid {use}".encode(), hashlib.sha256)
    kid = base64.urlsafe_b64encode(digest[:12]).decode()
    return Key(kid, use, "HS256", secret=secret, public=secret)


def kid_of(alg: str, material: bytes) -> str:
    """Name a key: by its RFC 7638 thumbprint, or at random where there is no public part.

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


def _public_members(alg: str, public: Any) -> dict[str, str]:
    members = _IMPLEMENTATIONS[alg].to_jwk(public, as_dict=True)
    return {name: value for name, value in members.items() if name in _THUMBPRINT_MEMBERS}
