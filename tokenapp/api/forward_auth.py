"""Forward authentication: a proxy asks whether to pass a request on."""

from urllib.parse import quote

from flask import Blueprint, Response

from tokenapp.http import requests
from tokenapp.http.endpoint import endpoint
from tokenapp.http.principal import Principal

bp = Blueprint("forward_auth", __name__, url_prefix="/api")


@bp.get("/verify")
@endpoint(credential="bearer, for a proxy", headers=("X-Auth-User", "X-Auth-Subject", "X-Auth-Session"))
def verify(principal: Principal) -> Response:
    """Check the bearer token of a request for a proxy.

    The headers of the response name the user and the session. Proxies handle success, 401 and 403, so every problem
    with the credential is one of these.
    """
    response = requests.no_content()
    response.headers["X-Auth-User"] = quote(principal.username, safe="")
    response.headers["X-Auth-Subject"] = principal.user_id
    response.headers["X-Auth-Session"] = principal.sid
    return response
