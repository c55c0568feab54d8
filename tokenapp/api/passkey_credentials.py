"""The credentials that browsers send, as `toJSON()` returns them (WebAuthn, 5.1)."""

from typing import Annotated, Literal

import msgspec

Bytes = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[A-Za-z0-9_-]*$(?!\n)", description="Bytes in base64url, without padding.", examples=["AQID"]
    ),
]


class AttestationResponse(msgspec.Struct, rename={"client_data": "clientDataJSON", "object": "attestationObject"}):
    """What an authenticator has created."""

    client_data: Bytes
    object: Bytes
    transports: list[str] = []


class NewCredential(msgspec.Struct, rename={"raw_id": "rawId"}):
    """A new credential, as `toJSON` returns it."""

    id: Bytes
    raw_id: Bytes
    response: AttestationResponse
    type: Literal["public-key"]


class AssertionResponse(
    msgspec.Struct,
    rename={"client_data": "clientDataJSON", "data": "authenticatorData", "user_handle": "userHandle"},
    omit_defaults=True,
):
    """What an authenticator has signed."""

    client_data: Bytes
    data: Bytes
    signature: Bytes
    user_handle: Bytes | None = None


class Credential(msgspec.Struct, rename={"raw_id": "rawId"}):
    """A signature, as `toJSON` returns it."""

    id: Bytes
    raw_id: Bytes
    response: AssertionResponse
    type: Literal["public-key"]


class StepResponse(
    msgspec.Struct,
    rename={
        "client_data": "clientDataJSON",
        "data": "authenticatorData",
        "user_handle": "userHandle",
        "object": "attestationObject",
    },
    omit_defaults=True,
):
    """What an authenticator has signed or, to set up a passkey, created."""

    client_data: Bytes
    data: Bytes | msgspec.UnsetType = msgspec.UNSET
    signature: Bytes | msgspec.UnsetType = msgspec.UNSET
    user_handle: Bytes | None = None
    object: Bytes | msgspec.UnsetType = msgspec.UNSET
    transports: list[str] = []


class StepCredential(msgspec.Struct, rename={"raw_id": "rawId"}):
    """A signature, as `toJSON` returns it; to set up a passkey, a new credential."""

    id: Bytes
    raw_id: Bytes
    response: StepResponse
    type: Literal["public-key"]
