"""The options with which a browser creates a passkey (WebAuthn Level 3, 5.4)."""

from base64 import urlsafe_b64encode
from collections.abc import Sequence
from datetime import datetime
from typing import Final, Literal

import msgspec

from tokenapp import config
from tokenapp.factor_models import Passkey
from tokenapp.factors import challenges, passkeys
from tokenapp.models import User

TIMEOUT: Final = int(challenges.LIFETIME.total_seconds() * 1000)


class RelyingParty(msgspec.Struct):
    """The service, as an authenticator shows it."""

    id: str
    name: str


class UserEntity(msgspec.Struct, rename="camel"):
    """The user, as an authenticator shows them."""

    id: str
    name: str
    display_name: str


class Parameter(msgspec.Struct):
    """A supported algorithm (COSE)."""

    alg: int
    type: Literal["public-key"] = "public-key"


class Descriptor(msgspec.Struct):
    """A passkey that the user has."""

    id: str
    transports: list[str]
    type: Literal["public-key"] = "public-key"


class Selection(msgspec.Struct, rename="camel"):
    """What the authenticator must be able to do."""

    resident_key: Literal["required"] = "required"
    require_resident_key: bool = True
    user_verification: Literal["required"] = "required"


class CreationOptions(msgspec.Struct, rename="camel"):
    """Options for a new passkey (WebAuthn, 5.4)."""

    rp: RelyingParty
    user: UserEntity
    challenge: str
    pub_key_cred_params: list[Parameter]
    timeout: int
    exclude_credentials: list[Descriptor]
    authenticator_selection: Selection
    attestation: Literal["none"] = "none"


class Creation(msgspec.Struct, rename="camel"):
    """What `navigator.credentials.create` takes, in JSON."""

    public_key: CreationOptions


def creation_for(user: User, owner: str, own: Sequence[Passkey], now: datetime) -> Creation:
    """Return the options for a new passkey of `user`.

    Args:
        owner: the session that asks for them, or the digest of the pending sign-in.
        own: the passkeys that the user has.
    """
    settings = config.current()
    options = CreationOptions(
        rp=RelyingParty(settings.rp_id, settings.brand_name),
        user=UserEntity(base64url(user.id.encode()), user.username, user.username),
        challenge=base64url(challenges.issue(passkeys.use_of(owner), now)),
        pub_key_cred_params=[Parameter(each) for each in challenges.ALGORITHMS],
        timeout=TIMEOUT,
        exclude_credentials=[Descriptor(each.credential_id, each.transports.split()) for each in own],
        authenticator_selection=Selection(),
    )
    return Creation(options)


def base64url(raw: bytes) -> str:
    """Return bytes in base64url, as browsers expect them."""
    return urlsafe_b64encode(raw).rstrip(b"=").decode()
