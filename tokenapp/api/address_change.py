"""The address blueprint: change one's address, confirm it, undo the change."""

from datetime import datetime

import msgspec
from flask import Blueprint, Response

from tokenapp import address_change, errors
from tokenapp.api.registration import Accepted, EmailBody, Token, accepted
from tokenapp.http import requests
from tokenapp.http.endpoint import endpoint
from tokenapp.http.principal import Principal
from tokenapp.http.rate_limit import client_network

bp = Blueprint("address_change", __name__, url_prefix="/api")


class TokenBody(msgspec.Struct):
    """The token of a link."""

    token: Token


@bp.post("/me/email")
@endpoint(
    body=EmailBody,
    response=Accepted,
    accepted=True,
    credential="fresh bearer, account's level",
    errors=(errors.AddressRejected,),
)
def request_address_change(body: EmailBody, principal: Principal, now: datetime) -> Response:
    """Mail a link to the new address of the caller.

    The current address stays until the new one is confirmed.
    """
    address_change.request(principal.user_id, principal.sid, body.email, client_network(), now)
    return accepted()


@bp.post("/me/email/complete")
@endpoint(body=TokenBody, errors=(errors.LinkInvalid, errors.AddressTaken, errors.ServiceUnavailable))
def complete_address_change(body: TokenBody, now: datetime) -> Response:
    """Confirm the new address of an account.

    The previous address gets a notice, with a link that undoes the change within 7 days.
    """
    address_change.complete(body.token, now)
    return requests.no_content()


@bp.post("/email-change/undo")
@endpoint(body=TokenBody, errors=(errors.LinkInvalid, errors.AddressTaken, errors.ServiceUnavailable))
def undo_address_change(body: TokenBody, now: datetime) -> Response:
    """Restore the previous address of an account.

    All sessions are revoked, the password stops working, and a link to set a new one is mailed.
    """
    address_change.undo(body.token, now)
    return requests.no_content()
