"""The second_step blueprint: continue a sign-in with a second factor."""

from datetime import datetime
from typing import Annotated

import msgspec
from flask import Blueprint, Response, g

from tokenapp import errors, factors, sign_in, tokens
from tokenapp.api.account import Code, SecondMethod
from tokenapp.api.auth import LoginResponse
from tokenapp.api.passkey_credentials import StepCredential
from tokenapp.http import requests
from tokenapp.http.endpoint import endpoint, text

bp = Blueprint("second_step", __name__, url_prefix="/api")
Pending = Annotated[str, text(64, "`pending` of the first step.", "A" * 43)]


class PendingBody(msgspec.Struct):
    """A pending sign-in that is to set up a second factor."""

    pending: Pending


class SecondStepBody(msgspec.Struct):
    """A pending sign-in, and a second factor: a code, or the credential of a passkey."""

    pending: Pending
    method: SecondMethod
    code: Code = ""
    credential: StepCredential | None = None


class SecondStepResponse(LoginResponse, omit_defaults=True):
    """An access token, and the recovery codes of a factor that was set up with it."""

    recovery_codes: list[str] | msgspec.UnsetType = msgspec.UNSET


@bp.post("/login/second")
@endpoint(
    body=SecondStepBody,
    response=SecondStepResponse,
    credential="cookie, if any",
    cookie="set",
    rate_limited="codes",
    errors=(
        errors.SignInExpired,
        errors.InvalidCode,
        errors.PasskeyInvalid,
        errors.PasskeyUnknown,
        errors.PasskeyRejected,
        errors.FactorNotFound,
    ),
)
def second_step(body: SecondStepBody, now: datetime) -> Response:
    """Continue a sign-in with a second factor.

    This opens a session, and revokes the session of a refresh cookie in the request. If the pending sign-in is to set
    up a second factor, the code or the new passkey confirms it, and the response has recovery codes.
    """
    signed_in = sign_in.continue_sign_in(
        body.pending,
        factors.Answer(body.method, body.code, msgspec.to_builtins(body.credential)),
        requests.device(),
        now,
        replaces=tokens.sid_of_cookie(),
    )
    g.state.grant = signed_in.grant
    minted = tokens.mint(signed_in.grant, now)
    reply = SecondStepResponse(minted.access_token, "Bearer", minted.expires_in, "Logged in successfully.")
    if signed_in.recovery_codes:
        reply.recovery_codes = signed_in.recovery_codes
    response = requests.json_response(reply)
    tokens.set_cookie(response, minted)
    return response
