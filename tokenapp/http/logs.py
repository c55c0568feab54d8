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
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any, Final

import psycopg
from flask import Request, g, has_request_context
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError

from tokenapp import errors
from tokenapp.http import requests
from tokenapp.http.principal import RequestState

MAX_PATH: Final = 200
MAX_MESSAGE: Final = 400
MAX_FRAMES: Final = 20
_READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
# If stderr was closed at the start, file descriptor 2 may belong to the database by now.
_STDERR: Final = 2 if sys.__stderr__ is not None else None
_UNNAMED: Final = ("timestamp", "level", "logger", "event")  # the text format has their values only
_PLAIN: Final = re.compile(r"[\w./:@<>+-]+", re.ASCII)
_SECRET: Final = re.compile(
    r"eyJ[\w-]{8,}(?:\.[\w-]*)+|eyJ[\w-]{30,}"  # a JWT, or a good part of one
    r"|(?<=refreshToken=)[^;,\s\"'\\]+"
    r"|(?<=\bbearer )[\w.~+/=-]{8,}|(?<=\bbasic )[\w.~+/=-]{8,}"
    r"|(?:\$argon2|scrypt:|pbkdf2:)[^\s\"'\\]+"
    r"|tokenapp_[0-9A-Za-z]{16,}",  # an access key, or a good part of one
    re.ASCII | re.IGNORECASE,
)
# In lower case.
_SECRET_MARKS: Final = re.compile(r"eyj|refreshtoken=|bearer |basic |\$argon2|scrypt:|pbkdf2:|tokenapp_")
_CONVERTER: Final = re.compile(r"<[^<>]*?(\w+)>")
_QUERY: Final = re.compile(r"\?[^\s\"'\\]+")
_BAD_REQUEST: Final = re.compile(r"Invalid request from ip=([0-9a-fA-F.:]*):")
_SAFE: Final = (
    *(psycopg.OperationalError, psycopg.ProgrammingError),
    *(sqlite3.OperationalError, sqlite3.ProgrammingError),
)
_json: Final = json.JSONEncoder(separators=(",", ":"), default=lambda value: type(value).__name__).encode
_log: Final = logging.getLogger("tokenapp.request")


class Handler(logging.Handler):
    """A handler that writes records to stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record as a line; if formatting fails, write where it was logged."""
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001 -- an error in logging must not stop the work
            place = f"{Path(record.pathname).name}:{record.lineno}"
            line = _json({"event": "unloggable", "level": "error", "logger": record.name, "place": place})
        _write(line)


class Formatter(logging.Formatter):
    """A formatter that makes a record one line, as ``json`` or ``text``."""

    def __init__(self, log_format: str) -> None:
        super().__init__()
        # Both escape non-ASCII characters, some of which control terminals.
        self._render = _json if log_format == "json" else _as_text

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds")
        line = {
            "timestamp": moment.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.msg,
        }
        fields: dict[str, Any] | None = getattr(record, "fields", None)  # those of a request
        line |= _library_fields(record) if fields is None else fields
        return _without_secrets(self._render(line))


def set_up(log_format: str) -> None:
    """Send all log lines of this process to stderr, as ``json`` or ``text``."""
    handler = Handler()
    handler.setFormatter(Formatter(log_format))
    root = logging.getLogger()
    root.handlers = [each for each in root.handlers if type(each) not in {Handler, logging.StreamHandler}]
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False  # the lines do not have them
    logging.raiseExceptions = False  # logging's own error reports show the arguments
    logging.getLogger("alembic").setLevel(logging.WARNING)


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
    _log.log(
        logging.ERROR if status >= errors.InternalError.status else logging.INFO, "request", extra={"fields": line}
    )


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


def _as_text(line: dict[str, Any]) -> str:
    first = " ".join(_escaped(str(line.pop(name))) for name in _UNNAMED)
    rest = (f" {name}={value if _PLAIN.fullmatch(str(value)) else _json(value)}" for name, value in line.items())
    return first + "".join(rest)


def _escaped(text: str) -> str:
    return _json(text)[1:-1]


def _without_secrets(line: str) -> str:
    """Cut anything that looks like a token, an access key, a cookie or a hash.

    This is a second line of defence: no caller should log a secret.
    """
    return _SECRET.sub("[cut]", line) if _SECRET_MARKS.search(line.lower()) else line


def _library_fields(record: logging.LogRecord) -> dict[str, Any]:
    """Return the fields of a library's record, without client data."""
    event, server = record.getMessage(), record.name.startswith(("gunicorn", "werkzeug"))
    rejected = _BAD_REQUEST.match(event) if server else None
    error = record.exc_info[1] if record.exc_info else None
    fields: dict[str, Any]
    if rejected is not None:
        kind = sys.exc_info()[0]
        fields = {"event": "bad request", "client": rejected[1], "reason": kind.__name__ if kind else None}
    elif server and isinstance(error, TimeoutError):
        fields = {"event": "a client was too slow", "level": "info"}  # the client's fault, so not an error
        error = None
    else:
        fields = {"event": (_QUERY.sub("?[cut]", event) if server else event)[:MAX_MESSAGE]}
    if error is not None:
        fields |= _describe(error, with_stack=True)
    if has_request_context():
        fields["request_id"] = g.state.own_id if "state" in g else None
    return fields


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
