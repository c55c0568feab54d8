"""Health checks for supervisors and load balancers."""

from datetime import datetime

import msgspec
from flask import Blueprint, Response

from tokenapp import errors, keys
from tokenapp.db import schema
from tokenapp.http import requests
from tokenapp.http.endpoint import endpoint

bp = Blueprint("health", __name__)


class Health(msgspec.Struct):
    """The service is healthy."""

    status: str = "ok"


@bp.get("/healthz")
@endpoint(response=Health)
def healthz() -> Response:
    """Return 200 if the process handles requests at all."""
    return requests.json_response(Health())


@bp.get("/readyz")
@endpoint(response=Health, errors=(errors.ServiceUnavailable,))
def readyz(now: datetime) -> Response:
    """Return 200 if the service can handle requests.

    The database must respond and accept writes, its tables must have the version of the program, and the signing keys
    must be readable.
    """
    state = schema.state()
    if state.problem is not None:
        raise errors.ServiceUnavailable(reason=state.problem, detail="The tables do not have this program's version.")
    if state.read_only:
        raise errors.ServiceUnavailable(reason="read-only database", detail="The database is read-only.")
    if unreadable := keys.lifecycle.unreadable(now):
        raise errors.ServiceUnavailable(reason=f"key {unreadable[0]} was encrypted under another SECRET_KEY")
    return requests.json_response(Health())
