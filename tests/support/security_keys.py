"""An authenticator app, and sign-ins with it."""

from datetime import UTC, datetime

<<<<<<<< HEAD:tests/support/authenticator.py
import pyotp
from flask import Flask
========
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from fido2 import cbor
>>>>>>>> 0ec3a62 (Test passkeys: software keys, Chromium, other origins, replays):tests/support/security_keys.py

from tests.support.app import PASSWORD
from tests.support.client import Client, Response

STEP = 30


class Authenticator:
    """An app that shows the codes of a secret; `recovery_codes` came with it."""

    def __init__(self, secret: str, factor_id: str = "", recovery_codes: list[str] | None = None) -> None:
        self.secret = secret
        self.id = factor_id
        self.recovery_codes = recovery_codes or []

<<<<<<<< HEAD:tests/support/authenticator.py
    def code(self, offset: int = 0) -> str:
        """Return the code of the current time step, or of one before or after it."""
        return str(pyotp.TOTP(self.secret).generate_otp(int(datetime.now(UTC).timestamp()) // STEP + offset))

    @property
    def wrong(self) -> str:
        """A code that is not valid now."""
        valid = {self.code(offset) for offset in (-2, -1, 0, 1, 2)}
        return next(code for code in ("000000", "111111", "222222", "333333", "444444", "555555") if code not in valid)


def enrol(client: Client, *, offset: int = -1) -> Authenticator:
    """Set up an authenticator app for a client that is signed in.

    It is confirmed with the code of the previous time step, so that the current one can still be used.
    """
    started = client.call("POST", "/api/me/factors/totp")
    assert started.status == 200, started.body
    app = Authenticator(started.json["secret"], started.json["id"])
    confirmed = confirm(client, app.id, app.code(offset))
    assert confirmed.status == 200, confirmed.body
    app.recovery_codes = confirmed.json["recoveryCodes"]
    return app
========
    def create(self, options: dict[str, Any], **changes: Any) -> dict[str, Any]:
        """Return a new credential for creation options; `changes` are to the attested data."""
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
        signature = self.key.sign(data + hashlib.sha256(client_data).digest(), ec.ECDSA(hashes.SHA256()))
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
        return json.dumps(members).encode()

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
    """Return the public key as ES256 in COSE (RFC 9053, 2.1)."""
    numbers = key.public_key().public_numbers()
    size = (numbers.curve.key_size + 7) // 8
    return {1: 2, 3: -7, -1: 1, -2: numbers.x.to_bytes(size, "big"), -3: numbers.y.to_bytes(size, "big")}


def creation_options(client: Client) -> dict[str, Any]:
    """Return the options for a new passkey of the signed-in client."""
    response = client.call("POST", "/api/me/passkeys/options")
    assert response.status == 200, response.body
    options: dict[str, Any] = response.json
    return options
>>>>>>>> 0ec3a62 (Test passkeys: software keys, Chromium, other origins, replays):tests/support/security_keys.py


def confirm(client: Client, factor_id: str, code: str) -> Response:
    """Confirm an authenticator app."""
    return client.call("POST", f"/api/me/factors/totp/{factor_id}/confirm", payload={"code": code})


def pending_of(target: Flask | int, username: str = "alice", password: str = PASSWORD) -> str:
    """Take the first step of a sign-in, and return what the second step needs."""
    response = Client(target).login(username, password)
    assert (response.status, response.code) == (401, "second_factor_required"), response.body
    return str(response.json["pending"])


<<<<<<<< HEAD:tests/support/authenticator.py
def second_step(client: Client, pending: str, code: str, method: str = "totp") -> Response:
    """Take the second step of a sign-in."""
    payload = {"pending": pending, "method": method, "code": code}
    return client.call("POST", "/api/login/second", bearer=None, payload=payload, cookie=client.cookie)
========
def passkey_login(client: Client, credential: dict[str, Any], **more: Any) -> Response:
    """Sign in with a signature."""
    payload = {"credential": credential}
    return client._keep(client.send("POST", "/api/login/passkey", payload=payload, **more))


def sign_in_with(client: Client, authenticator: Authenticator) -> Response:
    """Sign in with a passkey."""
    return passkey_login(client, authenticator.get(request_options(client)))
>>>>>>>> 0ec3a62 (Test passkeys: software keys, Chromium, other origins, replays):tests/support/security_keys.py
