"""What every request gets, whatever its route: an id, a time budget, security headers, a log line; and health."""

import re
import secrets
from datetime import UTC, datetime
from time import perf_counter
from typing import Final

import msgspec
from flask import Blueprint, Flask, Response, g, request
from flask_cors import CORS

from tokenapp import db, errors, events, incoming, keys, logs, migrating, openapi
from tokenapp.config import Settings

bp = Blueprint("ops", __name__)

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._~+/=-]{1,128}")
# On whatever we answer. What gunicorn refuses by itself, as badly framed, never gets here and goes without them.
_HEADERS: Final = (
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"),
    ("Referrer-Policy", "no-referrer"),
)
_HSTS: Final = ("Strict-Transport-Security", "max-age=31536000")
_METHODS: Final = ("DELETE", "GET", "POST", "PUT")
_SENT: Final = ("Authorization", "Content-Type", "X-Request-ID")
_EXPOSED: Final = (*openapi.RATE_LIMIT, "Retry-After", "WWW-Authenticate", "X-Request-ID")
_PREFLIGHT_AGE: Final = 3600


class Health(msgspec.Struct):
    """All is well."""

    status: str = "ok"


def init_app(app: Flask, settings: Settings) -> None:
    """Wrap every request of `app`."""
    headers = (*_HEADERS, _HSTS) if settings.production else _HEADERS
    logs.set_up(settings.log_format)
    if settings.allowed_origins:
        _admit(app, settings.allowed_origins)

    @app.before_request
    def begin() -> None:
        g.began = perf_counter()
        given = request.headers.get("X-Request-ID", "")
        g.request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_urlsafe(12)
        db.start_budget()
        events.come_from(_origin)
        incoming.refuse_ambiguous()
        incoming.refuse_large()

    @app.after_request
    def finish(response: Response) -> Response:
        present = {name.lower() for name in response.headers.keys()}  # noqa: SIM118 -- names repeat, it is no dict
        response.headers["X-Request-ID"] = g.request_id
        response.headers.extend([(name, value) for name, value in headers if name.lower() not in present])
        if settings.allowed_origins:
            response.vary.add("Origin")  # on answers to others, too, or a cache would give theirs to those we admit
        logs.write_request(response)
        return response

    @app.teardown_request
    def end(_error: BaseException | None) -> None:
        db.end_budget()
        events.come_from(events.Origin)


@bp.get("/healthz")
@openapi.Operation(reply=Health)
def healthz() -> Response:
    """Tell that the process answers."""
    return Response(msgspec.json.encode(Health()), mimetype="application/json")


@bp.get("/readyz")
@openapi.Operation(reply=Health, refuses=(errors.ServiceUnavailable,))
def readyz() -> Response:
    """Tell that requests can be served: the database answers, its tables are up to date, the keys can be read."""
    if migrating.stored_version() != migrating.newest_version():
        raise errors.ServiceUnavailable(reason="migrations behind", detail="The database is not migrated.")
    keys.load(datetime.now(UTC))
    return healthz()


def _admit(app: Flask, origins: tuple[str, ...]) -> None:
    """Let pages of `origins`, exactly as listed, call us from a browser with the cookie (the Fetch standard's CORS)."""
    CORS(
        app,
        # As patterns, because the library would take some texts for patterns: https://[::1] has brackets.
        origins=[re.compile(re.escape(origin) + r"\Z") for origin in origins],
        methods=_METHODS,
        allow_headers=_SENT,
        expose_headers=_EXPOSED,
        supports_credentials=True,
        max_age=_PREFLIGHT_AGE,
        vary_header=False,
        intercept_exceptions=False,
    )


def _origin() -> events.Origin:
    return events.Origin("request", g.request_id, incoming.client_address())
