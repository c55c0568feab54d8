"""An authenticator and its browser, without a browser (WebAuthn Level 3)."""

import hashlib
import json
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from fido2 import cbor

from tests.support.client import Client, Response

UP, UV, BE, BS, AT = 0x01, 0x04, 0x08, 0x10, 0x40
ORIGIN = "http://localhost:3005"


def encode(raw: bytes) -> str:
    """Return bytes in base64url."""
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    """Return the bytes of a base64url text."""
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass
class Authenticator:
    """A credential, and how the authenticator and the browser use it."""

    origin: str = ORIGIN
    rp_id: str = "localhost"
    flags: int = UP | UV | BE | BS
    counter: int = 0
    cross_origin: bool = False
    top_origin: str | None = None
    key: Any = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    credential_id: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    user_handle: str | None = None

    def create(self, options: dict[str, Any], **changes: Any) -> dict[str, Any]:
        """Return a new credential; `changes` are to the attested data."""
        options = options["publicKey"]
        self.user_handle = options["user"]["id"]
        key = {**_cose_key(self.key), **changes.get("key", {})}
        attested = bytes(16) + len(self.credential_id).to_bytes(2, "big") + self.credential_id + cbor.encode(key)
        data = self._data(self.flags | AT) + attested
        attestation = cbor.encode({"fmt": "none", "attStmt": {}, "authData": data})
        response = {
            "clientDataJSON": encode(self.client_data("webauthn.create", options["challenge"])),
            "attestationObject": encode(attestation),
            "transports": ["internal", "hybrid"],
        }
        return self._credential(response)

    def get(self, options: dict[str, Any], kind: str = "webauthn.get") -> dict[str, Any]:
        """Return a signature for request options."""
        client_data = self.client_data(kind, options["publicKey"]["challenge"])
        data = self._data(self.flags)
        signature = self.key.sign(data + hashlib.sha256(client_data).digest(), *_scheme(self.key))
        response = {
            "clientDataJSON": encode(client_data),
            "authenticatorData": encode(data),
            "signature": encode(signature),
            "userHandle": self.user_handle,
        }
        return self._credential(response)

    def client_data(self, kind: str, challenge: str) -> bytes:
        """Return the client data, as a browser writes it."""
        members = {"type": kind, "challenge": challenge, "origin": self.origin, "crossOrigin": self.cross_origin}
        top = {} if self.top_origin is None else {"topOrigin": self.top_origin}
        return json.dumps(members | top).encode()

    def _data(self, flags: int) -> bytes:
        return hashlib.sha256(self.rp_id.encode()).digest() + bytes([flags]) + self.counter.to_bytes(4, "big")

    def _credential(self, response: dict[str, Any]) -> dict[str, Any]:
        credential_id = encode(self.credential_id)
        return {
            "id": credential_id,
            "rawId": credential_id,
            "type": "public-key",
            "response": response,
            "clientExtensionResults": {},
            "authenticatorAttachment": "platform",
        }


def _cose_key(key: Any) -> dict[int, Any]:
    """Return the public key in COSE (RFC 9053, 2 and 7; RFC 8812, 2)."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return {1: 1, 3: -8, -1: 6, -2: key.public_key().public_bytes_raw()}
    numbers = key.public_key().public_numbers()
    if isinstance(key, rsa.RSAPrivateKey):
        return {1: 3, 3: -257, -1: numbers.n.to_bytes(key.key_size // 8, "big"), -2: numbers.e.to_bytes(3, "big")}
    size = (numbers.curve.key_size + 7) // 8
    return {1: 2, 3: -7, -1: 1, -2: numbers.x.to_bytes(size, "big"), -3: numbers.y.to_bytes(size, "big")}


def _scheme(key: Any) -> tuple[Any, ...]:
    """Return what the key needs to sign, besides the message."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return ()
    return (padding.PKCS1v15(), hashes.SHA256()) if isinstance(key, rsa.RSAPrivateKey) else (ec.ECDSA(hashes.SHA256()),)


def creation_options(client: Client) -> dict[str, Any]:
    """Return the options for a new passkey of the signed-in client."""
    response = client.call("POST", "/api/me/passkeys/options")
    assert response.status == 200, response.body
    options: dict[str, Any] = response.json
    return options


def request_options(client: Client) -> dict[str, Any]:
    """Return the options for a signature."""
    response = client.send("POST", "/api/passkeys/options")
    assert response.status == 200, response.body
    options: dict[str, Any] = response.json
    return options


def register(client: Client, authenticator: Authenticator, name: str = "A phone") -> Response:
    """Add a passkey to the account of the signed-in client."""
    credential = authenticator.create(creation_options(client))
    return client.call("POST", "/api/me/passkeys", payload={"credential": credential, "name": name})


def passkey_login(client: Client, credential: dict[str, Any], **more: Any) -> Response:
    """Sign in with a signature."""
    payload = {"credential": credential}
    return client._keep(client.send("POST", "/api/login/passkey", payload=payload, **more))


def sign_in_with(client: Client, authenticator: Authenticator) -> Response:
    """Sign in with a passkey."""
    return passkey_login(client, authenticator.get(request_options(client)))
