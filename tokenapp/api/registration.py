"""The registration blueprint: prove an address, then create an account."""

from datetime import datetime
from typing import Annotated

import msgspec
from flask import Blueprint, Response, request

from tokenapp import errors, registration, tokens
from tokenapp.api.account import NewPassword
from tokenapp.api.auth import LoginResponse, signed_in
from tokenapp.http import requests
from tokenapp.http.endpoint import endpoint, text
from tokenapp.http.rate_limit import client_network

bp = Blueprint("registration", __name__, url_prefix="/api")
open_bp = Blueprint("open_registration", __name__, url_prefix="/api")
Email = Annotated[str, text(254, "An e-mail address.", "alice@example.com")]
Token = Annotated[str, text(64, "The token from the link.", "A" * 43)]


class EmailBody(msgspec.Struct):
    """An address to send a mail to."""

    email: Email


class NewAccountBody(msgspec.Struct):
    """The token of a proven address, with the name and the password of its account."""

    token: Token
    username: Annotated[str, text(256, "The user name.", "alice")]
    password: NewPassword


class Accepted(msgspec.Struct):
    """The same message for every address."""

    message: str


@open_bp.post("/register")
@endpoint(body=EmailBody, response=Accepted, accepted=True, errors=(errors.AddressRejected, errors.ServiceUnavailable))
def register(body: EmailBody, now: datetime) -> Response:
    """Mail a link to create an account.

    The response is the same whether or not the address has an account.
    """
    registration.request(body.email, client_network(), language(), now)
    return accepted()


@bp.post("/register/complete")
@endpoint(
    body=NewAccountBody,
    response=LoginResponse,
    credential="cookie, if any",
    cookie="set",
    hashes=True,
    errors=(
        errors.LinkInvalid,
        errors.UsernameRejected,
        errors.PasswordRejected,
        errors.UsernameTaken,
        errors.AddressTaken,
        errors.SecondFactorRequired,
    ),
)
def complete_registration(body: NewAccountBody, now: datetime) -> Response:
    """Create the account of a proven address, and sign in.

    The token is from the link of a registration or an invitation. The session of a refresh cookie in the request is
    revoked.
    """
    grant = registration.complete(
        body.token,
        body.username,
        body.password,
        requests.device(),
        now,
        replaces=tokens.sid_of_cookie(),
    )
    return signed_in(grant, now)


def accepted() -> Response:
    """Return the response to every request for a mail."""
    response = requests.json_response(Accepted("If mail can be sent to this address, it is on its way."))
    response.status_code = 202
    return response


def language() -> str | None:
    """Return the languages that the client prefers."""
    return request.headers.get("Accept-Language", "")[:256] or None
