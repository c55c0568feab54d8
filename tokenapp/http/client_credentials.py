"""The credentials of other services, in HTTP Basic (RFC 6749, 2.3.1; RFC 7617)."""

import base64
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from flask import request

from tokenapp import clients, errors
from tokenapp.models import Right

_PLAIN: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


def authenticate(right: Right) -> None:
    """Check the request's client credentials, and the right of the client.

    Raises:
        errors.InvalidClient, errors.ClientNotAllowed
    """
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    try:
        client_id, _, secret = base64.b64decode(given.strip(" "), validate=True).decode().partition(":")
    except ValueError:
        client_id = secret = ""
    plain = _PLAIN.fullmatch(client_id) and _PLAIN.fullmatch(secret)
    if scheme.lower() != "basic" or not plain:
        raise errors.InvalidClient
    clients.authenticate(client_id, secret, right, datetime.now(UTC))


def checked_form(right: Right, parse: Callable[[], Any]) -> Any:
    """Return the form of a request whose client credentials, if any, are valid.

    Without credentials, the view must check that the form has an access key.

    Raises:
        errors.InvalidClient, errors.ClientNotAllowed, errors.InvalidRequest
    """
    if "Authorization" in request.headers:
        authenticate(right)
        return parse()
    try:
        return parse()
    except errors.InvalidRequest:
        raise errors.InvalidClient from None
