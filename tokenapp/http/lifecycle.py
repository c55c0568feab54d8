"""Give every request an id, a time budget, headers and a log line."""

import re
import secrets
from contextvars import ContextVar, Token
from time import monotonic, perf_counter
from typing import Any, Final, cast

from flask import Flask, Request, Response, g, request
from flask.ctx import AppContext
from flask_cors import CORS

from tokenapp import audit, config, db
from tokenapp.config import Settings
from tokenapp.db import Database
from tokenapp.http import logs, paths, rate_limit, requests
from tokenapp.http.principal import RequestState, normalise_scheme

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._~+/=-]{1,128}")
# On all responses, except those of gunicorn itself to malformed requests.
_HEADERS: Final = (
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"),
    ("Referrer-Policy", "no-referrer"),
)
_HSTS: Final = ("Strict-Transport-Security", "max-age=31536000")
_METHODS: Final = ("DELETE", "GET", "PATCH", "POST", "PUT")
_ALLOWED_HEADERS: Final = ("Authorization", "Content-Type", "X-Request-ID")
_EXPOSED_HEADERS: Final = (*rate_limit.HEADERS, "Retry-After", "WWW-Authenticate", "X-Request-ID")
_PREFLIGHT_AGE: Final = 3600


class App(Flask):
    """Flask with context variables for the settings and the database.

    The domain uses the variables, so that it does not depend on Flask. The views of `own_endpoints` are the service's,
    and all others those of an application in the same process.
    """

    own_endpoints: frozenset[str] = frozenset()
    variables: tuple[tuple[ContextVar[Any], Any], ...] = ()

    def bind(self, settings: Settings, database: Database) -> None:
        """Set the values of the variables in every application context."""
        self.variables = ((config.context, settings), (db.context, database))

    def app_context(self) -> AppContext:
        """Return an application context that sets the context variables."""
        return _Context(self)


class _Context(AppContext):
    """An application context that sets the context variables while it is pushed."""

    def __init__(self, app: App) -> None:
        super().__init__(app)
        self._variables = app.variables
        self._resets: list[list[tuple[ContextVar[Any], Token[Any]]]] = []

    def push(self) -> None:
        self._resets.append([(variable, variable.set(value)) for variable, value in self._variables])
        super().push()

    def pop(self, *error: Any) -> None:
        try:
            super().pop(*error)
        finally:
            for variable, token in self._resets.pop():
                variable.reset(token)


def init_app(app: App, settings: Settings) -> None:
    """Register the hooks of every request, the log format and CORS."""
    logs.set_up(settings.log_format)
    app.url_map.converters["other_than"] = paths.OtherThan
    headers = (*_HEADERS, _HSTS) if settings.production else _HEADERS
    if settings.allowed_origins:
        _allow_origins(app, settings.allowed_origins)

    @app.before_request
    def begin() -> None:
        current = _current_request()
        given = current.headers.get("X-Request-ID", "")
        own_id = secrets.token_urlsafe(12)
        g.state = RequestState(perf_counter(), given if _REQUEST_ID.fullmatch(given) else own_id, own_id)
        db.deadline.set(monotonic() + db.REQUEST_BUDGET)
        audit.actor.set(_actor)
        rule = current.url_rule
        own = rule is None or rule.endpoint in app.own_endpoints
        requests.check_framing(current, limited=own)
        if not own:
            g.state.own = False
            normalise_scheme(current)

    @app.after_request
    def finish(response: Response) -> Response:
        state: RequestState = g.state
        present = set(map(str.lower, response.headers.keys()))
        response.headers["X-Request-ID"] = state.request_id
        response.headers.extend([(name, value) for name, value in headers if name.lower() not in present])
        if settings.allowed_origins:
            response.vary.add("Origin")  # on all responses: they differ by origin
        logs.write_request(_current_request(), state, response.status_code)
        return response

    @app.teardown_request
    def end(_error: BaseException | None) -> None:
        db.deadline.set(None)
        audit.actor.set(audit.Actor)


def _allow_origins(app: Flask, origins: tuple[str, ...]) -> None:
    """Allow exactly these origins to send requests with the cookie (CORS)."""
    CORS(
        app,
        # Compiled, because the library treats some strings as patterns, such as https://[::1] with its brackets.
        origins=[re.compile(re.escape(origin) + r"\Z") for origin in origins],
        methods=_METHODS,
        allow_headers=_ALLOWED_HEADERS,
        expose_headers=_EXPOSED_HEADERS,
        supports_credentials=True,
        max_age=_PREFLIGHT_AGE,
        vary_header=False,
        intercept_exceptions=False,
    )


def _current_request() -> Request:
    return cast("Any", request)._get_current_object()  # type: ignore[no-any-return]  # noqa: SLF001 -- documented, and faster than the proxy


def _actor() -> audit.Actor:
    return audit.Actor("request", g.state.own_id, requests.client_address())
