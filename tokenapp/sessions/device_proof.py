"""Verify proofs of a device's key: JWTs with the type ``dbsc+jwt``.

A browser sends one to register the key of a session, and one for each challenge after that (Device Bound Session
Credentials, "DBSC Proof JWT Syntax").
"""

import json
import re
from typing import Any, Final, NamedTuple, NoReturn

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

MAX_BYTES: Final = 8192
_MEMBERS: Final = {"ES256": ("crv", "kty", "x", "y"), "RS256": ("e", "kty", "n")}
_RSA_BITS: Final = range(2048, 4097)
_MEMBER: Final = re.compile(r"[A-Za-z0-9_-]+")
_MAX_KEY: Final = 1024  # characters, as stored


class ProofError(Exception):
    """The proof is invalid; the message says why, for the log."""


class Registration(NamedTuple):
    """A verified registration: the challenge that was signed, and the key as JSON."""

    challenge: str
    key: str


def verify_registration(proof: str, audience: str) -> Registration:
    """Verify a proof that contains its own key, in the header or in the claims.

    Raises:
        ProofError
    """
    header = _header(proof)
    key = header.get("jwk") or _unverified_claims(proof).get("key")
    if not isinstance(key, dict):
        _reject("no key")
    members = _MEMBERS[header["alg"]]
    if not all(isinstance(key.get(name), str) and _MEMBER.fullmatch(key[name]) for name in members) or "d" in key:
        _reject("unusable key")
    stored = json.dumps({"alg": header["alg"], **{name: key[name] for name in members}}, sort_keys=True)
    if len(stored) > _MAX_KEY:
        _reject("unusable key")
    return Registration(_challenge(_claims(proof, stored, audience)), stored)


def verify(proof: str, key: str, audience: str, sid: str) -> str:
    """Verify a proof with the key of the session `sid`; return the challenge.

    A key in the proof itself is ignored.

    Raises:
        ProofError
    """
    _header(proof)
    claims = _claims(proof, key, audience)
    if claims.get("sub", sid) != sid:
        _reject("another session")
    return _challenge(claims)


def _header(proof: str) -> dict[str, Any]:
    if len(proof) > MAX_BYTES:
        _reject("too long")
    try:
        header = jwt.get_unverified_header(proof)
    except (jwt.PyJWTError, ValueError, RecursionError):
        _reject("malformed")
    if header.get("typ") != "dbsc+jwt" or header.get("alg") not in tuple(_MEMBERS) or "crit" in header:
        _reject("header")
    return header


def _unverified_claims(proof: str) -> dict[str, Any]:
    try:
        claims: dict[str, Any] = jwt.decode(proof, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, RecursionError):
        _reject("malformed")
    return claims


def _claims(proof: str, key: str, audience: str) -> dict[str, Any]:
    """Return the claims after checking the signature; `audience` is optional in them."""
    jwk = json.loads(key)
    algorithm = jwk.pop("alg")
    try:
        public: Any = (ECAlgorithm if algorithm == "ES256" else RSAAlgorithm).from_jwk(jwk)
        if isinstance(public, RSAPublicKey) and public.key_size not in _RSA_BITS:
            _reject("key size")
        claims: dict[str, Any] = jwt.decode(
            proof,
            public,
            algorithms=[algorithm],
            options={"verify_aud": False, "verify_iat": False, "verify_jti": False, "verify_sub": False},
        )
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        _reject("signature")
    if claims.get("aud", audience) != audience:
        _reject("another audience")
    return claims


def _challenge(claims: dict[str, Any]) -> str:
    challenge = claims.get("jti")
    if not isinstance(challenge, str):
        _reject("no challenge")
    return challenge


def _reject(reason: str) -> NoReturn:
    raise ProofError(reason)
