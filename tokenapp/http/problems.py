"""The one renderer of errors, as problem+json (RFC 9457)."""

import re
from typing import Final

import msgspec
from flask import Flask, Response, g
from werkzeug.exceptions import HTTPException

from tokenapp import config, db, errors

RETRY_SECONDS = 1
_NOT_IN_CODES: Final = re.compile(r"[^a-z]+")
_BY_STATUS: dict[int, type[errors.TokenappError]] = {
    kind.status: kind
    for kind in (
        errors.NotFound,
        errors.MethodNotAllowed,
        errors.RequestTooLarge,
        errors.UnsupportedMediaType,
        errors.InternalError,
        errors.ServiceUnavailable,
    )
}


class Problem(msgspec.Struct, rename="camel"):
    """The body of every error (RFC 9457); `message` equals `detail`."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    message: str
    request_id: str


class SecondFactorProblem(Problem):
    """The body of an error that leads to the second step of a sign-in.

    `pending` is valid for five minutes, at ``/api/login/second``. `methods` are the methods of the user. If there are
    none, `setup` has those that the user can set up now.
    """

    pending: str
    methods: list[str]
    setup: list[str]


class OAuthError(msgspec.Struct):
    """The body of an error of the OAuth routes (RFC 6749, 5.2)."""

    error: str
    error_description: str


def init_app(app: Flask) -> None:
    """Render every error of `app` as problem+json."""
    app.url_map.merge_slashes = False  # Werkzeug would redirect to the host that the request names
    app.register_error_handler(errors.TokenappError, render)
    app.register_error_handler(HTTPException, _render_http_exception)
    app.register_error_handler(Exception, _render_exception)


def render(error: errors.TokenappError) -> Response:
    """Return the response for `error`; keep `error` for the log and the metrics."""
    if isinstance(error, errors.AccessTokenInvalid):
        error.status = config.current().invalid_token_status
    g.state.error = error
    problem = Problem(
        type=f"urn:tokenapp:error:{error.code}",
        title=error.title,
        status=error.status,
        detail=error.detail,
        code=error.code,
        message=error.detail,
        request_id=g.state.request_id,
    )
    body = problem if error.members is None else {**msgspec.to_builtins(problem), **error.members}
    response = Response(msgspec.json.encode(body), status=error.status, mimetype="application/problem+json")
    _set_headers(response, error)
    return response


def render_oauth(error: errors.TokenappError) -> Response:
    """Return the response for `error` of an OAuth route (RFC 6749, 5.2)."""
    g.state.error = error
    body = msgspec.json.encode(OAuthError(error.code, error.detail))
    response = Response(body, status=error.status, mimetype="application/json")
    _set_headers(response, error)
    return response


def _set_headers(response: Response, error: errors.TokenappError) -> None:
    realm = f'realm="{config.current().audience}"'
    if isinstance(error, errors.InvalidClient):
        response.headers["WWW-Authenticate"] = f"Basic {realm}"
    elif isinstance(error, errors.AccessTokenInvalid | errors.AccessKeyInvalid):
        response.headers["WWW-Authenticate"] = f'Bearer {realm}, error="invalid_token"'
    elif error.challenge is not None:
        response.headers["WWW-Authenticate"] = f"Bearer {realm}, {error.challenge}"
    elif isinstance(error, errors.AccessTokenMissing):
        response.headers["WWW-Authenticate"] = f"Bearer {realm}"
    if error.allow is not None:
        response.headers["Allow"] = error.allow
    if error.device_challenge is not None:
        response.headers["Secure-Session-Challenge"] = f'"{error.device_challenge}";id="{error.sid}"'
    retry_after = error.retry_after or (RETRY_SECONDS if error.status == errors.ServiceUnavailable.status else None)
    if retry_after is not None:
        response.headers["Retry-After"] = str(retry_after)


def _render_http_exception(error: HTTPException) -> Response:
    if not g.state.own:
        return _render_foreign(error)
    status = error.code or errors.InternalError.status
    is_client_error = status < errors.InternalError.status
    kind = _BY_STATUS.get(status, errors.InvalidRequest if is_client_error else errors.InternalError)
    allow = next((value for name, value in error.get_headers() if name == "Allow"), None)
    return render(kind(allow=allow, reason=error.name))


def _render_foreign(error: HTTPException) -> Response:
    """Return the response for ``abort()`` in a view that is not the service's.

    It keeps the status, the description and the headers that the view chose.
    """
    status, detail = error.code or errors.InternalError.status, error.description or error.name
    code = _NOT_IN_CODES.sub("_", error.name.lower()).strip("_")
    problem = Problem("about:blank", error.name, status, detail, code, detail, g.state.request_id)
    response = Response(msgspec.json.encode(problem), status=status, mimetype="application/problem+json")
    response.headers.extend([pair for pair in error.get_headers() if pair[0] != "Content-Type"])
    return response


def _render_exception(error: Exception) -> Response:
    rendered = (errors.ServiceUnavailable if db.is_fault(error) else errors.InternalError)(reason=type(error).__name__)
    rendered.__cause__ = error  # for the log
    return render(rendered)
