"""The personal data blueprint: delete one's account, and download what is stored."""

from datetime import datetime

from flask import Blueprint, Response

from tokenapp import accounts, personal_data, tokens
from tokenapp.http import requests
from tokenapp.http.endpoint import endpoint
from tokenapp.http.principal import Principal
from tokenapp.personal_data import Export

bp = Blueprint("personal_data", __name__, url_prefix="/api/me")


@bp.delete("")
@endpoint(credential="fresh bearer, account's level", cookie="cleared")
def delete_account(principal: Principal, now: datetime) -> Response:
    """Delete the account of the caller, for good.

    Personal data is erased at once. The id is never used again.
    """
    accounts.delete(accounts.get_active(principal.user_id), now, sid=principal.sid)
    response = requests.no_content()
    tokens.clear_cookie(response)
    return response


@bp.get("/export")
@endpoint(response=Export, credential="bearer", headers=("Content-Disposition",))
def export_account(principal: Principal, now: datetime) -> Response:
    """Return everything that is stored about the caller."""
    response = requests.json_response(personal_data.export(principal.user_id, now))
    response.headers["Content-Disposition"] = 'attachment; filename="account.json"'
    return response
