"""The factors blueprint: one's own second factors and recovery codes."""

from datetime import datetime
from typing import Annotated, Final, Literal

import msgspec
from flask import Blueprint, Response

from tokenapp import config, errors
from tokenapp.api.account import Code
from tokenapp.api.second_step import PendingBody
from tokenapp.factors import enrolment, setup
from tokenapp.factors.checks import Enrolment
from tokenapp.http import requests
from tokenapp.http.endpoint import PathId, endpoint
from tokenapp.http.principal import Principal

bp = Blueprint("factors", __name__, url_prefix="/api")
_ID: Final = PathId(errors.FactorNotFound)


class Factor(msgspec.Struct, rename="camel"):
    """A confirmed second factor."""

    id: str
    kind: Literal["totp"]
    created_at: datetime
    last_used_at: datetime | None


class FactorList(msgspec.Struct, rename="camel"):
    """The confirmed second factors of the account, and what else concerns them.

    With `required`, the service requires a second factor of every user.
    """

    items: list[Factor]
    recovery_codes_left: int
    required: bool


class NewTotp(msgspec.Struct, rename="camel"):
    """A secret in base32, as a URI for authenticator apps, and that as a QR code."""

    id: str
    secret: str
    uri: str
    qr_svg: Annotated[str, msgspec.Meta(description="An SVG element, without styles and scripts.")]


class CodeBody(msgspec.Struct):
    """A code of the new authenticator app."""

    code: Code


class Confirmed(msgspec.Struct, rename="camel"):
    """Ten recovery codes if this is the first second factor; else an empty list."""

    recovery_codes: list[str]


class RecoveryCodes(msgspec.Struct, rename="camel"):
    """Ten recovery codes. They are shown only once."""

    recovery_codes: list[str]


@bp.get("/me/factors")
@endpoint(response=FactorList, credential="bearer")
def list_factors(principal: Principal) -> Response:
    """List the second factors of the account."""
    found = enrolment.factors_of(principal.user_id)
    items = [Factor(each.id, "totp", each.created_at, each.last_used_at) for each in found]
    required = config.current().second_factor == "required"
    return requests.json_response(FactorList(items, enrolment.codes_left(principal.user_id), required=required))


@bp.post("/me/factors/totp")
@endpoint(response=NewTotp, credential="recent bearer")
def add_totp(principal: Principal, now: datetime) -> Response:
    """Start to set up an authenticator app.

    It replaces one that was not confirmed. It counts once it is confirmed with a code.
    """
    return _enrolment(enrolment.start_totp(_author(principal), now))


@bp.post("/login/setup/totp")
@endpoint(body=PendingBody, response=NewTotp, errors=(errors.SignInExpired, errors.ServiceUnavailable))
def set_up_totp(body: PendingBody, now: datetime) -> Response:
    """Start to set up an authenticator app while signing in.

    This is for a sign-in that requires a second factor of a user who has none. A code confirms it, in the second step.
    """
    return _enrolment(setup.start_totp(body.pending, now))


@bp.post("/me/factors/totp/<factor_id>/confirm")
@endpoint(
    body=CodeBody,
    response=Confirmed,
    credential="recent bearer",
    path={"factor_id": _ID},
    errors=(errors.InvalidCode,),
)
def confirm_totp(factor_id: str, body: CodeBody, principal: Principal, now: datetime) -> Response:
    """Confirm an authenticator app with a code of it.

    The code is used up. From now on, signing in needs a second step.
    """
    codes = enrolment.confirm_totp(_author(principal), factor_id, body.code, now)
    return requests.json_response(Confirmed(codes or []))


@bp.delete("/me/factors/<other_than(totp):factor_id>")
@endpoint(credential="recent bearer", path={"factor_id": _ID}, errors=(errors.LastWayToSignIn,))
def remove_factor(factor_id: str, principal: Principal, now: datetime) -> Response:
    """Remove a second factor of the account.

    The recovery codes end with the last one.
    """
    enrolment.remove_totp(_author(principal), factor_id, now)
    return requests.no_content()


@bp.post("/me/recovery-codes")
@endpoint(response=RecoveryCodes, credential="recent bearer", errors=(errors.FactorNotFound,))
def replace_recovery_codes(principal: Principal, now: datetime) -> Response:
    """Replace the recovery codes of the account by ten new ones."""
    return requests.json_response(RecoveryCodes(enrolment.new_recovery_codes(_author(principal), now)))


def _author(principal: Principal) -> enrolment.Author:
    return enrolment.Author(principal.user_id, principal.sid)


def _enrolment(new: Enrolment) -> Response:
    return requests.json_response(NewTotp(new.id, new.secret, new.uri, new.qr_svg))
