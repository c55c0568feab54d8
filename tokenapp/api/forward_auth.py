"""Forward authentication: a proxy asks whether to pass a request on."""

from urllib.parse import quote

from flask import Blueprint, Response
from flask.blueprints import BlueprintSetupState
from werkzeug.routing import BaseConverter, Rule

from tokenapp.http import requests
from tokenapp.http.endpoint import endpoint
from tokenapp.http.principal import Principal

bp = Blueprint("forward_auth", __name__, url_prefix="/api")


class _AnyPath(BaseConverter):
    """Matches any path: empty, with slashes, with line ends."""

    regex = r"[\s\S]*"
    part_isolating = False


@bp.record
def _accept_any_method_and_path(state: BlueprintSetupState) -> None:
    """Register the route for proxies that pass on method and path, as Envoy does."""
    state.app.url_map.converters["any_path"] = _AnyPath
    for path in ("/api/verify", "/api/verify/<any_path:rest>"):
        state.app.url_map.add(Rule(path, endpoint=f"{bp.name}.verify", methods=None))


@bp.get("/verify", provide_automatic_options=False)
@endpoint(
    credential="bearer, for a proxy",
    headers=(
        "X-Auth-User",
        "X-Auth-Subject",
        "X-Auth-Session",
        "X-Auth-AMR",
        "X-Auth-ACR",
        "X-Auth-Roles",
        "X-Auth-Scope",
    ),
)
def verify(principal: Principal, rest: str | None = None) -> Response:
    """Check the bearer token of a request for a proxy.

    The headers of the response name the user, their roles and the session or access key. Proxies handle success, 401
    and 403, so every problem with the credential is one of these. Any method and any path below this one are checked in
    the same way. That includes OPTIONS, because the proxy would take a success as the permission to pass the request
    on. Below this path the status is 200 instead of 204: Envoy, which adds the path, treats every other status as a
    denial.
    """
    response = requests.no_content()
    if rest is not None:
        response.status_code = 200
    response.headers["X-Auth-User"] = quote(principal.username, safe="")
    response.headers["X-Auth-Subject"] = principal.user_id
    response.headers["X-Auth-Session"] = principal.sid
    # Present without values too: a proxy would otherwise pass on what the client sent.
    response.headers["X-Auth-AMR"] = " ".join(principal.amr)
    response.headers["X-Auth-ACR"] = principal.acr
    response.headers["X-Auth-Roles"] = ",".join(principal.roles)
    response.headers["X-Auth-Scope"] = " ".join(principal.scopes)
    return response
