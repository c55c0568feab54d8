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

    The database must respond, its tables must be up to date, and the signing keys must be readable.
    """
    if schema.stored_version() != schema.VERSION:
        raise errors.ServiceUnavailable(reason="migrations behind", detail="The database is not migrated.")
    if unreadable := keys.lifecycle.unreadable(now):
        raise errors.ServiceUnavailable(reason=f"key {unreadable[0]} was encrypted under another SECRET_KEY")
    return requests.json_response(Health())
