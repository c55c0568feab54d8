"""Readers: each turns one text into a value, or raises ValueError with a sentence that does not repeat the text."""

import re
from collections.abc import Callable
from ipaddress import ip_network
from typing import Final
from urllib.parse import SplitResult, urlsplit

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

_POSTGRESQL: Final = ("postgresql", "postgres", "postgresql+psycopg")
_SQLITE: Final = ("sqlite", "sqlite+pysqlite")
_USUAL_PORTS: Final = {"http": 80, "https": 443}
_DELAY_BOUNDS: Final = (0.05, 60)
_DURATION: Final = re.compile(r"(\d{1,9})(s|m|h|d)?", re.ASCII)
_FRACTION: Final = re.compile(r"\d{1,9}(\.\d{1,9})?s?", re.ASCII)
_HOST: Final = re.compile(r"[a-z0-9._:-]+")
_HOST_AND_PORT: Final = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(?::(?P<port>\d{1,5}))?", re.ASCII)
_QUOTABLE: Final = re.compile(r"[!#-\[\]-~]+")
_SEVERAL_HOSTS: Final = re.compile(r"(?P<before>[a-z+]+://(?:[^/?#]*@)?)(?P<hosts>[^/?#@]*,[^/?#@]*)(?P<after>/.*)")
_UNIT_SECONDS: Final = {None: 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def text(raw: str) -> str:
    """Read any text; bytes that are not UTF-8, which Python lets through from the environment, are none."""
    try:
        raw.encode()
    except UnicodeEncodeError:
        message = "must be UTF-8 text"
        raise ValueError(message) from None
    return raw


def secret(raw: str) -> str:
    """Read a secret; spaces around it are none of it, as in files and in lists."""
    return text(raw).strip()


def listable_secret(raw: str) -> str:
    """Read a secret that can be moved to the comma-separated list of former ones later."""
    if "," in raw:
        message = "must not hold a comma: it could never be listed among the former ones"
        raise ValueError(message)
    return secret(raw)


def quotable(raw: str) -> str:
    """Read a name that may stand between quotes in a header."""
    if not _QUOTABLE.fullmatch(raw):
        message = "must be printable ASCII without spaces, quotes and backslashes"
        raise ValueError(message)
    return raw


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """Make a reader of whole numbers from `low` to `high`."""

    def read(raw: str) -> int:
        if not re.fullmatch(r"\d{1,9}", raw, re.ASCII) or not low <= int(raw) <= high:
            message = f"must be a whole number from {low} to {high}"
            raise ValueError(message)
        return int(raw)

    return read


def duration(low: int, high: int) -> Callable[[str], int]:
    """Make a reader of lengths of time, in seconds, from `low` to `high`."""

    def read(raw: str) -> int:
        match = _DURATION.fullmatch(raw)
        seconds = int(match[1]) * _UNIT_SECONDS[match[2]] if match else -1
        if not low <= seconds <= high:
            message = f"must be a length of time such as 90, 90s, 15m, 12h or 7d, from {low} to {high} seconds"
            raise ValueError(message)
        return seconds

    return read


def delay(raw: str) -> float:
    """Read a short length of time, which may have a fraction, in seconds."""
    message = "must be a number of seconds from 0.05 to 60"
    if not _FRACTION.fullmatch(raw) or not _DELAY_BOUNDS[0] <= float(raw.removesuffix("s")) <= _DELAY_BOUNDS[1]:
        raise ValueError(message)
    return float(raw.removesuffix("s"))


def one_of(*allowed: str) -> Callable[[str], str]:
    """Make a reader of one of the words `allowed`."""

    def read(raw: str) -> str:
        if raw not in allowed:
            raise ValueError("must be " + " or ".join(allowed))
        return raw

    return read


def status(raw: str) -> int:
    """Read the status that refuses a bad access token."""
    return int(one_of("401", "403")(raw))


def comma_separated(raw: str) -> tuple[str, ...]:
    """Read a list; nothing between two commas is nothing."""
    return tuple(part.strip() for part in text(raw).split(",") if part.strip())


def origins(raw: str) -> tuple[str, ...]:
    """Read a list of origins, each as a browser would name it (RFC 6454, 6.2)."""
    listed = tuple(origin.lower() for origin in comma_separated(raw))
    for origin in listed:
        parts = _web_address(origin)
        if parts is None or origin != f"{parts.scheme}://{parts.netloc}" or parts.port == _USUAL_PORTS[parts.scheme]:
            message = "must be a comma-separated list of origins such as https://app.example.com, with no path"
            raise ValueError(message)
    return listed


def networks(raw: str) -> tuple[str, ...]:
    """Read a list of addresses and networks."""
    try:
        return tuple(str(ip_network(part)) for part in comma_separated(raw))
    except ValueError:
        message = "must be a comma-separated list of addresses or networks such as 127.0.0.1 or 10.0.0.0/8"
        raise ValueError(message) from None


def database(raw: str) -> URL:
    """Read the address of a database and name the driver that we use."""
    several = _SEVERAL_HOSTS.fullmatch(raw)
    try:
        url = make_url(f"{several['before']}{several['after']}" if several else raw)
        url = _name_each_host(url, several["hosts"] if several else "")
    except (ArgumentError, ValueError):  # the latter quotes what it takes for the port: a part of the password, maybe
        url = None
    if url is not None and url.drivername in _POSTGRESQL and url.database:
        return url.set(drivername="postgresql+psycopg")
    if url is not None and url.drivername in _SQLITE and url.database not in {None, "", ":memory:"}:
        return url
    message = "must look like sqlite:////var/lib/tokenapp/tokenapp.db or postgresql://user@host/name"
    raise ValueError(message)


def _name_each_host(url: URL, hosts: str) -> URL:
    """Bring several hosts, of which each may have its port, into the words of the driver: a list of each."""
    named = hosts or url.query.get("host", "")
    pairs = [_HOST_AND_PORT.fullmatch(each) for each in named.split(",")] if isinstance(named, str) else []
    if len(pairs) < 2:  # noqa: PLR2004 -- one host is no list
        return url
    if not all(pairs):
        raise ValueError
    found = [pair for pair in pairs if pair]
    names, ports = [pair["host"].strip("[]") for pair in found], [pair["port"] or "" for pair in found]
    if "port" in url.query or url.port is not None:  # as a list of its own, or one port for all
        if any(ports) or url.port is not None:
            raise ValueError
        return url.update_query_dict({"host": ",".join(names)})
    return url.update_query_dict({"host": ",".join(names), "port": ",".join(ports)})


def issuer(raw: str) -> str:
    """Read our public URL (RFC 8414, 2), without the slash at its end."""
    parts = _web_address(raw)
    if parts is None or parts.query or parts.fragment:
        message = "must be an http or https URL without query or fragment"
        raise ValueError(message)
    return raw.rstrip("/")


def _web_address(raw: str) -> SplitResult | None:
    try:
        parts = urlsplit(raw)
        port_fits = parts.port != 0
    except ValueError:  # a port or an IPv6 address that is none
        return None
    plain = raw.isascii() and raw.isprintable() and " " not in raw and "@" not in parts.netloc
    fits = plain and port_fits and parts.scheme in _USUAL_PORTS and _HOST.fullmatch(parts.hostname or "")
    return parts if fits else None


_ADDRESS: Final = re.compile(r"(?:\[(?P<ipv6>[0-9a-fA-F:.]+)\]|(?P<plain>[A-Za-z0-9.-]+)):(?P<port>[0-9]{1,5})")
_MAX_PORT: Final = 65535
_SERVER_OPTION: Final = r"(?:db=\d{1,3}|(?:username|password|ssl_ca_certs|ssl_certfile|ssl_keyfile)=[^&#]+)"
_SERVER_HOST: Final = r"(?:[^/@?#]*@)?(?:\[[0-9a-fA-F:.]+\]|[\w.-]+)(?::(?P<port>\d{1,5}))?(?:/\d{0,3})?"
_LIMIT_SERVER: Final = re.compile(
    rf"(?:(?P<tcp>redis|rediss|valkey|valkeys)://{_SERVER_HOST}"
    rf"|(?P<socket>unix|redis\+unix|valkey\+unix)://(?:[^/@?#]*@)?/[^?#]+)(?:\?{_SERVER_OPTION}(?:&{_SERVER_OPTION})*)?",
    re.ASCII,
)


def bind(raw: str) -> tuple[str, int] | None:
    """Read an address and a port; nothing for none."""
    if not raw:
        return None
    match = _ADDRESS.fullmatch(raw)
    if match is None or not 1 <= int(match["port"]) <= _MAX_PORT:
        message = "must be an address and a port such as 127.0.0.1:9464 or [::1]:9464"
        raise ValueError(message)
    return match["plain"] or match["ipv6"], int(match["port"])


def limit_server(raw: str) -> str:
    """Read the address of a Redis or Valkey server; return it in the words of Redis, whose protocol both speak."""
    if not raw:
        return ""
    match = _LIMIT_SERVER.fullmatch(raw)
    if match is None or not 1 <= int(match["port"] or 1) <= _MAX_PORT:
        message = "must look like redis://:password@host:6379/0, or with rediss, valkey or valkeys; or unix:///path"
        raise ValueError(message)
    scheme = match["tcp"].replace("valkey", "redis") if match["tcp"] else "unix"
    return scheme + raw[raw.index(":") :]
