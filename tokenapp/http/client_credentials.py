"""The credentials of other services, in HTTP Basic (RFC 6749, 2.3.1; RFC 7617)."""

import base64
import re
from datetime import UTC, datetime
from typing import Final

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
