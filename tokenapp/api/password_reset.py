"""The password reset blueprint: a new password by a link in a mail."""

from datetime import datetime

import msgspec
from flask import Blueprint, Response

from tokenapp import errors, password_reset
from tokenapp.api.account import NewPassword
from tokenapp.api.registration import Accepted, EmailBody, Token, accepted, language
from tokenapp.http import requests
from tokenapp.http.endpoint import endpoint
from tokenapp.http.rate_limit import client_network

bp = Blueprint("password_reset", __name__, url_prefix="/api/password-reset")


class ResetBody(msgspec.Struct, rename="camel"):
    """The token of a link, and a new password."""

    token: Token
    new_password: NewPassword


@bp.post("")
@endpoint(body=EmailBody, response=Accepted, accepted=True, errors=(errors.AddressRejected, errors.ServiceUnavailable))
def request_password_reset(body: EmailBody, now: datetime) -> Response:
    """Mail a link to set a new password.

    The response is the same whether or not the address has an account.
    """
    password_reset.request(body.email, client_network(), language(), now)
    return accepted()


@bp.post("/complete")
@endpoint(body=ResetBody, hashes=True, errors=(errors.LinkInvalid, errors.PasswordRejected, errors.ServiceUnavailable))
def complete_password_reset(body: ResetBody, now: datetime) -> Response:
    """Set a new password, and revoke all sessions of the account.

    It does not sign in, and does not change second factors.
    """
    password_reset.complete(body.token, body.new_password, now)
    return requests.no_content()
