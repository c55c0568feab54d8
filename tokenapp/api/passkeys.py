"""The passkeys blueprint: one's own passkeys, and signing in with one.

The options are for the browser's `parseCreationOptionsFromJSON` and `parseRequestOptionsFromJSON`, and a credential is
what its `toJSON` returns. The application loads these routes only if the issuer's host can have passkeys.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Literal

import msgspec
from flask import Blueprint, Response

from tokenapp import accounts, config, errors, tokens
from tokenapp.api.auth import LoginResponse, signed_in
from tokenapp.api.labels import label
from tokenapp.api.passkey_creation import TIMEOUT, Creation, Descriptor, base64url, creation_for
from tokenapp.api.passkey_credentials import Credential, NewCredential
from tokenapp.api.second_step import PendingBody
from tokenapp.factor_models import Passkey
from tokenapp.factors import assertions, challenges, passkeys, setup
from tokenapp.factors.enrolment import Author
from tokenapp.http import requests
from tokenapp.http.endpoint import PathId, endpoint
from tokenapp.http.principal import Principal
from tokenapp.models import User
from tokenapp.sessions import device_names

bp = Blueprint("passkeys", __name__, url_prefix="/api")
_ID: Final = {"passkey_id": PathId(errors.PasskeyNotFound)}
_NAME: Final = "A name for the list. Without one, it is that of the browser and the system."


class RequestOptions(msgspec.Struct, rename="camel"):
    """Options for a sign-in; without a list, any passkey of the service can be used."""

    challenge: str
    timeout: int
    rp_id: str
    allow_credentials: list[Descriptor] = []
    user_verification: Literal["required"] = "required"


class Request(msgspec.Struct, rename="camel"):
    """What `navigator.credentials.get` takes, in JSON."""

    public_key: RequestOptions


class NewPasskey(msgspec.Struct):
    """A new passkey."""

    credential: NewCredential
    name: Annotated[str, label(_NAME, "Work laptop", may_be_blank=True)] = ""


class CredentialBody(msgspec.Struct):
    """A signature by a passkey."""

    credential: Credential


class NameBody(msgspec.Struct):
    """A name for a passkey."""

    name: Annotated[str, label("The new name.", "Key ring")]


class PasskeyItem(msgspec.Struct, rename="camel"):
    """A passkey; one that is not `synced` cannot leave its device."""

    id: str
    credential_id: str
    name: str
    synced: bool
    aaguid: str
    created_at: datetime
    last_used_at: datetime | None


class Signal(msgspec.Struct, rename="camel"):
    """What `PublicKeyCredential.signalAllAcceptedCredentials` takes.

    `signalCurrentUserDetails` takes it, too.
    """

    rp_id: str
    user_id: str
    name: str
    display_name: str
    all_accepted_credential_ids: list[str]


class PasskeyList(msgspec.Struct):
    """The passkeys of the user, and what to tell the authenticators about them."""

    passkeys: list[PasskeyItem]
    signal: Signal


class AddedPasskey(msgspec.Struct, rename="camel", omit_defaults=True):
    """The new passkey; with the first factor, also recovery codes to show once."""

    passkey: PasskeyItem
    signal: Signal
    recovery_codes: list[str] | None = None


@bp.post("/me/passkeys/options")
@endpoint(response=Creation, credential="recent bearer")
def passkey_creation_options(principal: Principal, now: datetime) -> Response:
    """Return the options for a new passkey."""
    user = accounts.get_active(principal.user_id)
    return requests.json_response(creation_for(user, principal.sid, passkeys.list_passkeys(user.id), now))


@bp.post("/login/setup/passkey")
@endpoint(body=PendingBody, response=Creation, errors=(errors.SignInExpired, errors.ServiceUnavailable))
def passkey_setup_options(body: PendingBody, now: datetime) -> Response:
    """Return the options for a new passkey while signing in.

    This is for a sign-in that requires a second factor of a user who has none. The new passkey confirms it, in the
    second step.
    """
    waiting = setup.start_passkey(body.pending, now)
    return requests.json_response(creation_for(waiting.user, waiting.digest, [], now))


@bp.post("/me/passkeys")
@endpoint(body=NewPasskey, response=AddedPasskey, credential="recent bearer", errors=(errors.PasskeyRejected,))
def add_passkey(body: NewPasskey, principal: Principal, now: datetime) -> Response:
    """Add a passkey that was created with the options."""
    name = body.name.strip() or device_names.describe(requests.user_agent())[: passkeys.MAX_NAME]
    added, codes = passkeys.add(_author(principal), msgspec.to_builtins(body.credential), name, now)
    signal = _signal(accounts.get_active(principal.user_id))
    return requests.json_response(AddedPasskey(_item(added), signal, codes))


@bp.get("/me/passkeys")
@endpoint(response=PasskeyList, credential="bearer")
def list_passkeys(principal: Principal) -> Response:
    """List the passkeys of the caller."""
    return _list(principal)


@bp.patch("/me/passkeys/<other_than(options):passkey_id>")
@endpoint(body=NameBody, response=PasskeyItem, credential="bearer", path=_ID)
def rename_passkey(body: NameBody, principal: Principal, passkey_id: str) -> Response:
    """Rename a passkey."""
    return requests.json_response(_item(passkeys.rename(principal.user_id, passkey_id, body.name.strip())))


@bp.delete("/me/passkeys/<other_than(options):passkey_id>")
@endpoint(response=PasskeyList, credential="recent bearer", path=_ID, errors=(errors.LastWayToSignIn,))
def delete_passkey(principal: Principal, passkey_id: str, now: datetime) -> Response:
    """Delete a passkey.

    With `signal`, the page can let the authenticator remove it as well.
    """
    passkeys.delete(_author(principal), passkey_id, now)
    return _list(principal)


@bp.post("/passkeys/options")
@endpoint(response=Request)
def passkey_request_options(now: datetime) -> Response:
    """Return the options for a signature by any passkey of the service."""
    challenge = base64url(challenges.issue(assertions.USE, now))
    return requests.json_response(Request(RequestOptions(challenge, TIMEOUT, config.current().rp_id)))


@bp.post("/login/passkey")
@endpoint(
    body=CredentialBody,
    response=LoginResponse,
    credential="cookie, if any",
    cookie="set",
    errors=(errors.PasskeyInvalid, errors.PasskeyUnknown, errors.TooManyAttempts),
)
def sign_in_with_passkey(body: CredentialBody, now: datetime) -> Response:
    """Sign in with a passkey.

    This opens a session, and revokes the session of a refresh cookie in the request.
    """
    credential: dict[str, Any] = msgspec.to_builtins(body.credential)
    grant = assertions.sign_in(credential, requests.device(), now, replaces=tokens.sid_of_cookie())
    return signed_in(grant, now)


def _list(principal: Principal) -> Response:
    user = accounts.get_active(principal.user_id)
    own = passkeys.list_passkeys(user.id)
    return requests.json_response(PasskeyList([_item(each) for each in own], _signal(user, own)))


def _signal(user: User, own: Sequence[Passkey] | None = None) -> Signal:
    accepted = [each.credential_id for each in (passkeys.list_passkeys(user.id) if own is None else own)]
    return Signal(config.current().rp_id, base64url(user.id.encode()), user.username, user.username, accepted)


def _item(passkey: Passkey) -> PasskeyItem:
    return PasskeyItem(
        id=passkey.id,
        credential_id=passkey.credential_id,
        name=passkey.name,
        synced=passkey.backup_eligible,
        aaguid=passkey.aaguid,
        created_at=passkey.created_at,
        last_used_at=passkey.last_used_at,
    )


def _author(principal: Principal) -> Author:
    return Author(principal.user_id, principal.sid)
