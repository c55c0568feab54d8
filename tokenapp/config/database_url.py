"""The database's URL, read strictly: every part takes effect, or it is an error.

The errors contain no part of the URL, because it may be a part of the password.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from psycopg import pq
from psycopg.conninfo import make_conninfo
from sqlalchemy.engine import URL

_POSTGRESQL: Final = ("postgresql", "postgres", "postgresql+psycopg")
_SQLITE: Final = ("sqlite", "sqlite+pysqlite")
_SQLITE_PARAMETERS: Final = ({"uri": "true"}, *({"uri": "true", "mode": mode} for mode in ("ro", "rw", "rwc")))
_UNLIKE: Final = "must look like sqlite:////var/lib/tokenapp/tokenapp.db or postgresql://user@host/name"
_UNENCODED: Final = (
    "contains a character that separates its parts: percent-encode it in the user name, password and database name"
    " (@ is %40, / is %2F, : is %3A, ? is %3F, # is %23, % is %25)"
)
_PARTS: Final = re.compile(r"(?P<authority>[^/?#]*)(?:/(?P<name>[^?#]*))?(?:\?(?P<query>[^#]*))?")
_HOST: Final = re.compile(
    r"(\[[0-9a-fA-F:.]+(?:%\w+)?\]|[0-9a-fA-F]*:[0-9a-fA-F:.]*:[0-9a-fA-F:.]*|[^:\[\]]*)(?::(\d{1,5}))?"
)
_NAMES: Final = ("user", "password", "dbname")
_MAX_PORT: Final = 65535
_NUMBERS: Final = frozenset(
    {"connect_timeout", "keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval", "tcp_user_timeout"}
)
_ENCODINGS: Final = ("utf8", "utf-8", "unicode")
_SCHEMA_NAMES: Final = frozenset({"schema", "currentSchema", "search_path"})
# Those that name the server; and gssencmode=require, which the trial's socket does not allow.
_NOT_TRIED: Final = frozenset({"host", "hostaddr", "port", "gssencmode"})


def read(raw: str) -> URL:
    """Read the URL of a SQLite or PostgreSQL database, and set the driver.

    Raises:
        ValueError: with a sentence that does not repeat any part of `raw`.
    """
    scheme, separator, rest = raw.strip().partition("://")
    if not separator:
        raise ValueError(_UNLIKE)
    if scheme in _SQLITE:
        return _sqlite(scheme, rest)
    if scheme in _POSTGRESQL:
        return _postgresql(rest)
    raise ValueError(_UNLIKE)


def _sqlite(scheme: str, rest: str) -> URL:
    path, _, query = rest.removeprefix("/").partition("?")
    if not rest.startswith("/") or path.removeprefix("file:") in {"", ":memory:"}:
        raise ValueError(_UNLIKE)
    parameters = _parameters(query)
    if query and not (path.startswith("file:") and parameters in _SQLITE_PARAMETERS):
        raise ValueError("has parameters: for SQLite there are none, except in file:PATH?mode=ro&uri=true")
    if re.search("%[0-9a-fA-F]{2}", path):
        raise ValueError("is percent-encoded: write the path of a SQLite file as it is")
    if path.endswith("/") or (path.startswith("/") and Path(path).is_dir()):
        raise ValueError("is a folder: add the name of a file in it")
    return URL.create(scheme, database=path, query=parameters)


def _postgresql(rest: str) -> URL:
    parts = _PARTS.fullmatch(rest)
    if parts is None or re.search("%(?![0-9a-fA-F]{2})", rest):
        raise ValueError(_UNENCODED)
    authority, name, query = parts["authority"], parts["name"] or "", parts["query"] or ""
    # Otherwise a part of the password would be taken for a host, a port or a parameter.
    if authority.count("@") > 1 or "@" in name or "/" in name:
        raise ValueError(_UNENCODED)
    try:
        parameters = _parameters(query)
        userinfo, _, hosts = authority.rpartition("@")
        given = _names(userinfo, name, parameters)
        host, port, several = _hosts(hosts, parameters.pop("host", ""), parameters.pop("port", ""))
    except ValueError as error:
        sentence = _UNENCODED if "@" in name + query else str(error)
        raise ValueError(_UNLIKE if isinstance(error, UnicodeDecodeError) else sentence) from None
    if not (given["dbname"] or "service" in parameters) or "\0" in "".join(given.values()):
        raise ValueError(_UNENCODED if "@" in query else _UNLIKE)
    _check_parameters(parameters, nameable="@" not in query)
    return URL.create(
        "postgresql+psycopg",
        given["user"] or None,
        given["password"] or None,
        host,
        port,
        given["dbname"] or None,
        {**several, **parameters},
    )


def _names(userinfo: str, name: str, parameters: dict[str, str]) -> dict[str, str]:
    """Return user, password and database name, each of which may be a parameter."""
    user, _, password = userinfo.partition(":")
    given = {key: unquote(value, errors="strict") for key, value in zip(_NAMES, (user, password, name), strict=True)}
    for key in given.keys() & parameters.keys():
        if given[key]:
            raise ValueError("has its user, password or database name twice")
        given[key] = parameters.pop(key)
    return given


def _parameters(query: str) -> dict[str, str]:
    """Split a query as libpq does: a plus sign is a plus sign."""
    result: dict[str, str] = {}
    for item in filter(None, query.split("&")):
        name, separator, value = item.partition("=")
        if not separator:
            raise ValueError("has a parameter without a value")
        name, value = unquote(name, errors="strict"), unquote(value, errors="strict")
        if name in result and name != "host":
            raise ValueError("has a parameter twice")
        result[name] = f"{result[name]},{value}" if name in result else value
    return result


def _hosts(authority: str, hosts: str, ports: str) -> tuple[str | None, int | None, dict[str, str]]:
    """Return one host and its port, or several as parameters, as the driver expects."""
    named = [_HOST.fullmatch(part) for part in (hosts or authority).split(",")]
    pairs = [(unquote(each[1], errors="strict").strip("[]"), each[2] or "") for each in named if each is not None]
    if len(pairs) < len(named) or any(not 0 < int(port) <= _MAX_PORT for _, port in pairs if port):
        raise ValueError(_UNLIKE)
    if hosts and authority:
        # As in postgresql://:5433/name?host=/run/postgresql
        match = re.fullmatch(r":(\d{1,5})", authority)
        if match is None or len(pairs) > 1 or pairs[0][1] or ports:
            raise ValueError(_UNLIKE)
        ports = match[1]
    own = ",".join(port for _, port in pairs)
    if (ports and own.strip(",")) or not re.fullmatch(r"[\d,]*", ports):
        raise ValueError(_UNLIKE)
    if len(pairs) == 1:
        [(host, port)] = pairs
        port = port or ports
        if hosts or host.startswith("/"):
            return None, None, {"host": host, **({"port": port} if port else {})}
        return host or None, int(port) if port else None, {}
    if not all(host for host, _ in pairs):
        raise ValueError(_UNLIKE)
    return None, None, {"host": ",".join(host for host, _ in pairs), "port": ports or own}


def _check_parameters(parameters: Mapping[str, str], *, nameable: bool) -> None:
    """Raise ValueError for a parameter or a value that libpq would not accept."""
    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
    for name, value in parameters.items():
        problem = None
        if name not in known and not nameable:
            problem = _UNENCODED
        elif name not in known:
            label = name if re.fullmatch(r"[A-Za-z_]{1,40}", name) else "a malformed name"
            hint = " (for a schema, write options=-csearch_path%3DNAME)" if name in _SCHEMA_NAMES else ""
            problem = f"has a parameter that PostgreSQL's client library does not know: {label}{hint}"
        elif name in _NUMBERS and not re.fullmatch(r"-?\d{1,9}", value):
            problem = f"has a value for {name} that is not a whole number"
        elif name == "client_encoding" and value.lower() not in _ENCODINGS:
            problem = "has a value for client_encoding that is not utf8"
        if problem is not None:
            raise ValueError(problem)
    tried = {name: value for name, value in parameters.items() if name not in _NOT_TRIED}
    if tried and not _accepts(tried):
        culprit = next((name for name in tried if not _accepts({name: tried[name]})), "one of its parameters")
        problem = f"has a value for {culprit} that PostgreSQL's client library does not accept"
        raise ValueError(problem)


def _accepts(parameters: Mapping[str, str]) -> bool:
    """Return whether libpq gets as far as to look for a socket, which is not there."""
    trial = make_conninfo(
        "", **{**parameters, "host": "/nonexistent", "hostaddr": "", "port": "1", "dbname": "x", "user": "x"}
    )
    connection = pq.PGconn.connect_start(trial.encode())
    message = connection.get_error_message()
    connection.finish()
    return ".s.PGSQL.1" in message
