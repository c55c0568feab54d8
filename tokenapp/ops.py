"""What every request gets, whatever its route: an id, a time budget, security headers, a log line; and health."""

import logging
import re
import secrets
import sys
from datetime import UTC, datetime
from time import perf_counter
from typing import Any, Final

import msgspec
import structlog
from flask import Blueprint, Flask, Response, current_app, g, request

from tokenapp import db, errors, events, incoming, keys, migrating
from tokenapp.config import Settings

bp = Blueprint("ops", __name__)
log = structlog.get_logger("tokenapp.request")

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._~+/=-]{1,128}")
_HEADERS: Final = (
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"),
    ("Referrer-Policy", "no-referrer"),
)
_HSTS: Final = ("Strict-Transport-Security", "max-age=31536000")


class Health(msgspec.Struct):
    """All is well."""

    status: str = "ok"


def init_app(app: Flask, settings: Settings) -> None:
    """Wrap every request of `app`."""
    headers = (*_HEADERS, _HSTS) if settings.production else _HEADERS
    set_up_logging(settings)

    @app.before_request
    def begin() -> None:
        g.began = perf_counter()
        given = request.headers.get("X-Request-ID", "")
        g.request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_urlsafe(12)
        db.start_budget()
        events.come_from(_origin)
        incoming.refuse_large()

    @app.after_request
    def finish(response: Response) -> Response:
        response.headers.set("X-Request-ID", g.request_id)
        for name, value in headers:
            response.headers.setdefault(name, value)
        _log_request(response)
        return response

    @app.teardown_request
    def end(_error: BaseException | None) -> None:
        db.end_budget()
        events.come_from(events.Origin)


@bp.get("/healthz")
def healthz() -> Response:
    """Tell that the process answers."""
    return Response(msgspec.json.encode(Health()), mimetype="application/json")


@bp.get("/readyz")
def readyz() -> Response:
    """Tell that requests can be served: the database answers, its tables are up to date, the keys can be read."""
    if migrating.stored_version() != migrating.newest_version(current_app):
        raise errors.ServiceUnavailable(reason="migrations behind", detail="The database is not migrated.")
    keys.load(datetime.now(UTC))
    return healthz()


def set_up_logging(settings: Settings) -> None:
    """Send all log lines of the process, ours and the libraries', to stderr in one format."""
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    as_json = settings.log_format == "json"
    renderer: Any = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=False)
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            renderer,
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [kept for kept in root.handlers if type(kept) is not logging.StreamHandler]
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    logging.getLogger("alembic").setLevel(logging.WARNING)


def _log_request(response: Response) -> None:
    """Write a line for each refusal and for each change; plain reads that went well leave none."""
    refusal: errors.Refusal | None = g.get("refusal")
    if refusal is None and request.method in {"GET", "HEAD", "OPTIONS"}:
        return
    grant = g.get("grant")
    line: dict[str, Any] = {
        "request_id": g.request_id,
        "method": request.method,
        "path": request.path,
        "status": response.status_code,
        "ms": round((perf_counter() - g.began) * 1000, 1),
    }
    if grant is not None:
        line |= {"outcome": grant.outcome, "sid": grant.sid, "sub": grant.user_id}
    if refusal is not None:
        line |= {"code": refusal.code, "reason": refusal.reason, "sid": refusal.sid}
    line = {name: value for name, value in line.items() if value is not None}
    log.log(logging.ERROR if response.status_code >= errors.InternalError.status else logging.INFO, "request", **line)


def _origin() -> events.Origin:
    return events.Origin("request", g.request_id, incoming.client_address())
