"""Check what authenticators sign (WebAuthn Level 3, 7.1 and 7.2), with fido2.

Import this module only when a passkey is used: fido2 takes memory. What it leaves to its caller is checked here: the
algorithm of a new key, frames of other origins, the backup flags, and whose credential it is.
"""

import json
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from cryptography.exceptions import InvalidSignature
from fido2 import cbor
from fido2.cose import CoseKey
from fido2.server import Fido2Server
from fido2.utils import websafe_decode, websafe_encode
from fido2.webauthn import (
    Aaguid,
    AttestedCredentialData,
    AuthenticationResponse,
    AuthenticatorData,
    CollectedClientData,
    PublicKeyCredentialRpEntity,
    RegistrationResponse,
)

from tokenapp import config
from tokenapp.config.checks import origin_of
from tokenapp.factors.challenges import ALGORITHMS

_MAX_CREDENTIAL_ID: Final = 1023
_MAX_KEY: Final = 1024
_RS256: Final = -257
_RSA_BYTES: Final = (256, 512)  # weaker keys can be broken, and longer ones take the time of others
_TRANSPORT: Final = re.compile(r"[a-z-]{1,20}")
_MOST_TRANSPORTS: Final = 6
_UNPARSED: Final = "Error parsing"  # of fido2, followed by the name of a field
T = TypeVar("T")
logging.getLogger("fido2").setLevel(logging.WARNING)  # or it logs the id of each credential


class SignatureError(Exception):
    """What the authenticator sent is invalid. The text is for the log."""


@dataclass(frozen=True, slots=True)
class NewCredential:
    """A credential that an authenticator has created."""

    credential_id: str
    public_key: bytes
    rp_id: str
    transports: str
    aaguid: str
    sign_count: int
    backup_eligible: bool
    backed_up: bool


@dataclass(frozen=True, slots=True)
class Assertion:
    """What an authenticator has signed."""

    challenge: bytes
    user_handle: str | None
    sign_count: int
    user_verified: bool
    backup_eligible: bool
    backed_up: bool


def challenge_of(credential: Mapping[str, Any]) -> bytes:
    """Return the challenge in the client data of a response.

    Raises:
        SignatureError: the client data is malformed.
    """
    return _checked(lambda: _client_data(credential).challenge)


def credential_id_of(credential: Mapping[str, Any]) -> str:
    """Return the id of the credential that signed, in base64url.

    Raises:
        SignatureError: it is malformed.
    """
    return _checked(lambda: websafe_encode(websafe_decode(credential["rawId"])))


def verify_registration(credential: Mapping[str, Any]) -> NewCredential:
    """Return the new credential in a registration, whose challenge is valid.

    Raises:
        SignatureError
    """
    return _checked(lambda: _verify_registration(credential))


def verify_assertion(credential: Mapping[str, Any], public_key: bytes) -> Assertion:
    """Return what was signed with the key, for a valid challenge.

    Raises:
        SignatureError
    """
    return _checked(lambda: _verify_assertion(credential, public_key))


def _verify_registration(credential: Mapping[str, Any]) -> NewCredential:
    challenge = websafe_encode(_client_data(credential).challenge)
    state = {"challenge": challenge, "user_verification": "required"}
    data = _server().register_complete(state, credential)
    created = data.credential_data
    if created is None or created.credential_id != RegistrationResponse.from_dict(credential).raw_id:
        raise SignatureError("another credential id")
    if len(created.credential_id) > _MAX_CREDENTIAL_ID:
        raise SignatureError("long credential id")
    _check_key(created.public_key)
    public_key = cbor.encode(created.public_key)
    if len(public_key) > _MAX_KEY:
        raise SignatureError("long key")
    _check_backup(data)
    transports = [each for each in credential["response"].get("transports") or () if _TRANSPORT.fullmatch(each)]
    return NewCredential(
        credential_id=websafe_encode(created.credential_id),
        public_key=public_key,
        rp_id=config.current().rp_id,
        transports=" ".join(transports[:_MOST_TRANSPORTS]),
        aaguid=str(created.aaguid),
        sign_count=data.counter,
        backup_eligible=data.is_backup_eligible(),
        backed_up=data.is_backed_up(),
    )


def _verify_assertion(credential: Mapping[str, Any], public_key: bytes) -> Assertion:
    response = AuthenticationResponse.from_dict(credential)
    challenge, handle = response.response.client_data.challenge, response.response.user_handle
    key: Any = cbor.decode(public_key)
    stored = AttestedCredentialData.create(Aaguid.NONE, response.raw_id, CoseKey.parse(key))
    state = {"challenge": websafe_encode(challenge), "user_verification": None}
    _server().authenticate_complete(state, [stored], credential)
    _client_data(credential)
    data = response.response.authenticator_data
    _check_backup(data)
    return Assertion(
        challenge=challenge,
        user_handle=None if handle is None else handle.decode(),
        sign_count=data.counter,
        user_verified=data.is_user_verified(),
        backup_eligible=data.is_backup_eligible(),
        backed_up=data.is_backed_up(),
    )


def _server() -> Fido2Server:
    """Return the verifier for the domain and the origins of the settings."""
    settings = config.current()
    origins = {origin_of(settings.issuer), *settings.allowed_origins}
    entity = PublicKeyCredentialRpEntity(id=settings.rp_id, name=settings.brand_name)
    return Fido2Server(entity, verify_origin=origins.__contains__)


def _client_data(credential: Mapping[str, Any]) -> CollectedClientData:
    """Return the client data of a response, which no frame of another origin made."""
    raw = credential["response"]["clientDataJSON"]
    data = CollectedClientData(websafe_decode(raw))
    if data.cross_origin is not False or "topOrigin" in json.loads(data):
        raise SignatureError("in a frame of another origin")
    return data


def _check_key(key: CoseKey) -> None:
    """Reject a key that could not verify a signature later."""
    if key.get(3) not in ALGORITHMS:
        raise SignatureError("another algorithm")
    if key[3] == _RS256 and not _RSA_BYTES[0] <= len(key[-1].lstrip(b"\0")) <= _RSA_BYTES[1]:
        raise SignatureError("an RSA key of another size")
    try:
        key.verify(b"", b"")
    except InvalidSignature:
        return
    raise SignatureError("a key that verifies an empty signature")


def _check_backup(data: AuthenticatorData) -> None:
    if data.is_backed_up() and not data.is_backup_eligible():
        raise SignatureError("backed up without being eligible")


def _checked(verify: Callable[[], T]) -> T:
    try:
        return verify()
    except SignatureError:
        raise
    except Exception as error:  # noqa: BLE001 -- the parsers of fido2 raise many kinds of errors for malformed bytes
        cause = str(error).rstrip(".")
        if type(error) is not ValueError or cause.startswith(_UNPARSED):
            cause = f"malformed ({type(error).__name__})"
        raise SignatureError(cause[:1].lower() + cause[1:]) from None
