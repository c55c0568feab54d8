"""Write the log of the application and its libraries to stderr, without secrets.

Each event is one line in one format. Data from clients is escaped, so that it can neither forge a line nor control a
terminal. Messages of exceptions are omitted, because they may repeat what a client sent. A line has the types of the
exceptions and the places in the code instead.
"""

import json
import logging
import os
import re
import sqlite3
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any, Final

import msgspec
import psycopg
import structlog
from flask import Request, g, has_request_context
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError
from structlog.stdlib import ProcessorFormatter

from tokenapp import errors
from tokenapp.http import requests
from tokenapp.http.principal import RequestState

Line = MutableMapping[str, Any]

MAX_PATH: Final = 200
MAX_MESSAGE: Final = 400
MAX_FRAMES: Final = 20
_READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
# If stderr was closed at the start, file descriptor 2 may belong to the database by now.
_STDERR: Final = 2 if sys.__stderr__ is not None else None
_TEXT_FIRST: Final = ("timestamp", "level", "logger", "event")
_PLAIN: Final = re.compile(r"[\w./:@<>+-]+", re.ASCII)
_SECRET: Final = re.compile(
    r"eyJ[\w-]{8,}(?:\.[\w-]*)+|eyJ[\w-]{30,}"  # a JWT, or a good part of one
    r"|(?<=refreshToken=)[^;,\s\"'\\]+"
    r"|(?<=\bbearer )[\w.~+/=-]{8,}|(?<=\bbasic )[\w.~+/=-]{8,}"
    r"|(?:\$argon2|scrypt:|pbkdf2:)[^\s\"'\\]+",
    re.ASCII | re.IGNORECASE,
)
_SECRET_MARKS: Final = re.compile(
    r"eyj|refreshtoken=|bearer |basic |\$argon2|scrypt:|pbkdf2:", re.ASCII | re.IGNORECASE
)
_CONVERTER: Final = re.compile(r"<[^<>]*?(\w+)>")
_QUERY: Final = re.compile(r"\?[^\s\"'\\]+")
_BAD_REQUEST: Final = re.compile(r"Invalid request from ip=([0-9a-fA-F.:]*):")
_SAFE: Final = (
    *(psycopg.OperationalError, psycopg.ProgrammingError),
    *(sqlite3.OperationalError, sqlite3.ProgrammingError),
)
_json: Final = json.JSONEncoder(separators=(",", ":"), default=lambda value: type(value).__name__).encode
_quick_json: Final = msgspec.json.Encoder(enc_hook=lambda value: type(value).__name__).encode
_log: Final = structlog.get_logger("tokenapp.request")


class Handler(logging.Handler):
    """A handler for the records of libraries."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record as a line; if formatting fails, write where it was logged."""
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001 -- an error in logging must not stop the work
            place = f"{Path(record.pathname).name}:{record.lineno}"
            line = _json({"event": "unloggable", "level": "error", "logger": record.name, "place": place})
        _write(line)


class _Stream:
    """A structlog logger that writes lines to stderr."""

    def __init__(self, *_names: object) -> None:
        pass

    def msg(self, line: str) -> None:
        _write(line)

    debug = info = warning = error = critical = msg


def set_up(log_format: str) -> None:
    """Send all log lines of this process to stderr, as ``json`` or ``text``."""
    render = _as_json if log_format == "json" else _as_text
    structlog.configure(
        processors=[structlog.processors.add_log_level, structlog.processors.TimeStamper(fmt="iso", utc=True), render],
        logger_factory=_Stream,
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )
    handler = Handler()
    handler.setFormatter(formatter(log_format))
    root = logging.getLogger()
    root.handlers = [each for each in root.handlers if type(each) not in {Handler, logging.StreamHandler}]
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    logging.raiseExceptions = False  # logging's own error reports show the arguments
    logging.getLogger("alembic").setLevel(logging.WARNING)


def formatter(log_format: str) -> logging.Formatter:
    """Return a formatter for the records of libraries."""
    return ProcessorFormatter(
        foreign_pre_chain=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
        ],
        processors=[
            _sanitize,
            ProcessorFormatter.remove_processors_meta,
            _as_json if log_format == "json" else _as_text,
        ],
    )


def write_request(current: Request, state: RequestState, status: int) -> None:
    """Write the line of a request, unless it is a successful read."""
    error = state.error
    if error is None and current.method in _READS:
        return
    rule = current.url_rule
    line: dict[str, Any] = {
        "request_id": state.own_id,
        "method": current.method[:MAX_PATH],
        "path": route(rule.rule) if rule is not None else current.path[:MAX_PATH],
        "status": status,
    }
    if state.request_id != state.own_id:
        line["caller_request_id"] = state.request_id
    if error is None and state.grant is not None:
        line |= {"outcome": state.grant.outcome, "sub": state.grant.user_id, "sid": state.grant.sid}
    else:
        line |= _outcome(state, error)
    if error is not None and error.__cause__ is not None:
        line |= _describe(error.__cause__, with_stack=status == errors.InternalError.status)
    line["ms"] = round((perf_counter() - state.began) * 1000, 1)
    line["client"] = requests.client_address()
    line["logger"] = "tokenapp.request"
    (_log.error if status >= errors.InternalError.status else _log.info)("request", **line)


def _outcome(state: RequestState, error: errors.TokenappError | None) -> dict[str, Any]:
    """Return the outcome of a request, and its user and session if known."""
    line: dict[str, Any] = {"outcome": "done", "sid": state.sid}
    if state.principal is not None:
        line |= {"sub": state.principal.user_id, "sid": state.sid or state.principal.sid}
    elif state.claims is not None:
        line |= {"sub": state.claims.sub, "sid": state.claims.sid}
    if error is not None:
        line |= {"outcome": error.code, "reason": error.reason and error.reason[:MAX_MESSAGE]}
        line["sid"] = error.sid or line["sid"]
    return {name: value for name, value in line.items() if value}


@cache
def route(rule: str) -> str:
    """Return the name of a route: its rule without converters."""
    return _CONVERTER.sub(r"<\1>", rule)


def log_thread_exception(thread_args: Any) -> None:
    """Log an exception that ended a thread; for ``threading.excepthook``."""
    logging.getLogger("tokenapp.thread").error("thread ended", exc_info=thread_args[:3])


def _write(line: str) -> None:
    """Write one line, and ignore errors: a full disk must not fail a request."""
    if _STDERR is not None:
        with suppress(OSError):
            os.write(_STDERR, f"{line}\n".encode())


def _as_json(_logger: Any, _level: str, line: Line) -> str:
    with suppress(UnicodeEncodeError):  # a lone surrogate
        quick = _quick_json(line)
        if quick.isascii() and b"\x7f" not in quick:
            return _without_secrets(quick.decode())
    return _without_secrets(_json(line))  # it escapes non-ASCII characters, some of which control terminals


def _as_text(_logger: Any, _level: str, line: Line) -> str:
    first = " ".join(_escaped(str(line.pop(name, "-"))) for name in _TEXT_FIRST)
    rest = (f" {name}={value if _PLAIN.fullmatch(str(value)) else _json(value)}" for name, value in line.items())
    return _without_secrets(first + "".join(rest))


def _escaped(text: str) -> str:
    return _json(text)[1:-1]


def _without_secrets(line: str) -> str:
    """Cut anything that looks like a token, a cookie or a hash.

    This is a second line of defence: no caller should log a secret.
    """
    return _SECRET.sub("[cut]", line) if _SECRET_MARKS.search(line) else line


def _sanitize(_logger: Any, _level: str, line: Line) -> Line:
    """Remove client data from a library's line, and add the id of the request."""
    event, server = str(line["event"]), line["logger"].startswith(("gunicorn", "werkzeug"))
    refused = _BAD_REQUEST.match(event) if server else None
    if refused is not None:
        kind = sys.exc_info()[0]
        line.update(event="bad request", client=refused[1], reason=kind.__name__ if kind else None)
    else:
        line["event"] = (_QUERY.sub("?[cut]", event) if server else event)[:MAX_MESSAGE]
    raised = line.pop("exc_info", None)
    if server and isinstance(raised, tuple) and isinstance(raised[1], TimeoutError):
        line.update(event="a client was too slow", level="info")  # the client's fault, so not an error
    elif isinstance(raised, tuple) and raised[1] is not None:
        line.update(_describe(raised[1], with_stack=True))
    if has_request_context():
        line["request_id"] = g.state.own_id if "state" in g else None
    line.pop("stack_info", None)
    return line


def _describe(error: BaseException, *, with_stack: bool) -> dict[str, Any]:
    """Return the fields that describe an exception.

    `error` has its type and those of its causes. `detail` is the first message that is safe to log. `stack` has the
    places in the code.
    """
    fields: dict[str, Any] = {"error": " from ".join(type(each).__name__ for each in _chain(error))}
    message = next(filter(None, map(_safe_message, _chain(error))), None)
    if message is not None:
        fields["detail"] = message[:MAX_MESSAGE]
    if with_stack:
        fields["stack"] = list(_frames(error.__traceback__))[-MAX_FRAMES:]
    return fields


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _safe_message(error: BaseException) -> str | None:
    """Return the message of an exception if it cannot contain client data.

    Such are the messages of the operating system, and those of a database that is unavailable or misconfigured.
    """
    if isinstance(error, OperationalError | ProgrammingError):
        error = error.orig or error
    elif isinstance(error, DBAPIError):
        return None
    if isinstance(error, OSError):
        return error.strerror
    return str(error).partition("\n")[0] if isinstance(error, _SAFE) else None


def _frames(trace: TracebackType | None) -> Iterator[str]:
    while trace is not None:
        code = trace.tb_frame.f_code
        yield f"{'/'.join(Path(code.co_filename).parts[-2:])}:{trace.tb_lineno} {code.co_name}"
        trace = trace.tb_next
