"""Readers convert the text of a setting, or raise ValueError with a sentence.

The sentence does not repeat the text, which may be a secret.
"""

import re
from collections.abc import Callable
from functools import wraps
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import SplitResult, unquote, urlsplit

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_HOST: Final = r"(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9.-]+))"
_MAX_PORT: Final = 65535
_MAPPED_PREFIX: Final = 96  # bits of ::ffff:0:0/96, the IPv4 addresses within IPv6
_UNIT_SECONDS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_SERVER_HOST: Final = r"(?:[^/@?#]*@)?(?:\[[0-9a-fA-F:.]+\]|[\w.-]+)(?::(?P<port>\d{1,5}))?(?:/\d{0,3})?"
_SERVER_OPTION: Final = r"(?:db=\d{1,3}|(?:username|password|ssl_ca_certs|ssl_certfile|ssl_keyfile)=[^&#]+)"
_LIMIT_SERVER: Final = (
    rf"(?:(?P<tcp>redis|rediss|valkey|valkeys)://{_SERVER_HOST}"
    rf"|(?:unix|redis\+unix|valkey\+unix)://(?:[^/@?#]*@)?/[^?#]+)(?:\?{_SERVER_OPTION}(?:&{_SERVER_OPTION})*)?"
)
T = TypeVar("T")
Number = TypeVar("Number", int, float)
Reader = Callable[[str], T]


def _error(sentence: str) -> Callable[[Reader[T]], Reader[T]]:
    """Replace the errors of a reader by `sentence`; the original may quote the text."""

    def decorate(read: Reader[T]) -> Reader[T]:
        @wraps(read)
        def checked(raw: str) -> T:
            try:
                return read(raw)
            except (ValueError, LookupError):
                raise ValueError(sentence) from None

        return checked

    return decorate


@_error("must be UTF-8 text")
def text(raw: str) -> str:
    """Read any UTF-8 text."""
    raw.encode()  # fails for lone surrogates, into which Python decodes other bytes
    return raw


@_error("must be UTF-8 text without commas, because commas separate the fallbacks")
def secret(raw: str) -> str:
    """Read a secret, without the whitespace around it."""
    _require("," not in raw)
    return text(raw).strip()


@_error("must be the path of a folder")
def folder(raw: str) -> Path:
    """Read the path of a folder, relative to the current one."""
    _require("\0" not in raw)
    return Path(text(raw)).absolute()


@_error("must be printable ASCII without spaces, quotes or backslashes")
def quotable(raw: str) -> str:
    """Read a name that can be quoted in a header."""
    return _match(r"[!#-\[\]-~]+", raw)[0]


def whole_number(low: int, high: int) -> Reader[int]:
    """Return a reader of whole numbers from `low` to `high`."""

    @_error(f"must be a whole number from {low} to {high}")
    def read(raw: str) -> int:
        return _between(low, int(_match(r"\d{1,9}", raw)[0]), high)

    return read


def duration(low: int, high: int) -> Reader[int]:
    """Return a reader of durations from `low` to `high` seconds.

    A number without a unit is an error, because it could be seconds or minutes. Only 0 needs none.
    """
    units = "90s for seconds, 15m for minutes, 12h for hours or 7d for days"

    @_error(f"must be a number with its unit ({units}), from {_with_unit(low)} to {_with_unit(high)}")
    def read(raw: str) -> int:
        number, unit = _match(r"(\d{1,9}(?=[smhd])|0+(?![smhd]))([smhd]?)", raw).groups()
        return _between(low, int(number) * _UNIT_SECONDS[unit], high)

    return read


@_error("must be a number of seconds from 0.05 to 60")
def delay(raw: str) -> float:
    """Read a short duration in seconds, possibly with a fraction."""
    return _between(0.05, float(_match(r"(\d{1,9}(?:\.\d{1,9})?)s?", raw)[1]), 60.0)


def one_of(*allowed: T) -> Reader[T]:
    """Return a reader of one of the values `allowed`."""
    values = {str(value): value for value in allowed}

    @_error("must be " + " or ".join(values))
    def read(raw: str) -> T:
        return values[raw]

    return read


def comma_separated(raw: str) -> tuple[str, ...]:
    """Read a list, ignoring empty items."""
    return tuple(part.strip() for part in text(raw).split(",") if part.strip())


@_error("must be a comma-separated list of origins such as https://app.example.com, with no path")
def origins(raw: str) -> tuple[str, ...]:
    """Read a list of origins as browsers send them (RFC 6454, 6.2)."""
    listed = comma_separated(raw.lower())
    for origin in listed:
        parts = _web_url(origin)
        _require(origin == f"{parts.scheme}://{parts.netloc}" and parts.port != _DEFAULT_PORTS[parts.scheme])
    return listed


@_error("must be a comma-separated list of addresses or networks such as 127.0.0.1 or 10.0.0.0/8")
def networks(raw: str) -> tuple[str, ...]:
    """Read a list of addresses and networks."""
    return tuple(str(_network(part)) for part in comma_separated(raw))


@_error("must be an http or https URL without query or fragment")
def public_url(raw: str) -> str:
    """Read the public URL of the service (RFC 8414, 2), without a trailing slash."""
    _require("?" not in raw and "#" not in raw)
    url = raw.rstrip("/")
    _path(url)
    return url


@_error("must be a domain such as example.com")
def host_name(raw: str) -> str:
    """Read a domain, without a port."""
    return _match(r"(?=.{1,253}$)(?:[a-z0-9-]{1,63}\.)*[a-z0-9-]{0,62}[a-z][a-z0-9-]{0,62}", raw.lower())[0]


@_error("must be a path such as /auth")
def url_path(raw: str) -> str:
    """Read the path of a URL, without a trailing slash."""
    _require("?" not in raw and "#" not in raw and (not raw or raw.startswith("/")))
    return _path(f"http://localhost{raw.rstrip('/')}")


@_error("must look like 0.0.0.0, 127.0.0.1:3005, [::]:3005 or unix:/run/tokenapp.sock")
def listen(raw: str) -> str:
    """Read what gunicorn listens on: an address, an address and a port, or a socket."""
    is_socket = raw.startswith("unix:/") and raw.isprintable() and not raw.endswith("/")
    if not is_socket and (raw.isdigit() or not re.fullmatch(_HOST, raw)):
        bind(raw)
    return raw


def with_port(listens: str, port: int) -> str:
    """Add `port` to what gunicorn listens on, if that is only an address."""
    return f"{listens}:{port}" if re.fullmatch(_HOST, listens) else listens


@_error("must be an address and a port such as 127.0.0.1:9464 or [::1]:9464")
def bind(raw: str) -> tuple[str, int] | None:
    """Read an address and a port, or None from an empty text."""
    if not raw:
        return None
    ipv6, host, port = _match(rf"{_HOST}:(\d{{1,5}})", raw).groups()
    return ipv6 or host, _between(1, int(port), _MAX_PORT)


@_error("must look like redis://:password@host:6379/0 (or rediss, valkey, valkeys) or unix:///path")
def limit_server(raw: str) -> str:
    """Read the URL of a Redis or Valkey server, and return it as a Redis URL."""
    if not raw:
        return ""
    match = _match(_LIMIT_SERVER, raw)
    _between(1, int(match["port"] or 1), _MAX_PORT)
    scheme = match["tcp"].replace("valkey", "redis") if match["tcp"] else "unix"
    return scheme + raw[raw.index(":") :]


def _with_unit(seconds: int) -> str:
    """Return a duration with the largest unit of which it is a whole number."""
    unit = next(unit for unit in "dhms" if seconds % _UNIT_SECONDS[unit] == 0) if seconds else ""
    return f"{seconds // _UNIT_SECONDS[unit]}{unit}"


def _require(condition: bool) -> None:  # noqa: FBT001 -- it reads as an assertion
    if not condition:
        raise ValueError


def _match(pattern: str, raw: str) -> re.Match[str]:
    match = re.fullmatch(pattern, raw, re.ASCII)
    if match is None:
        raise ValueError
    return match


def _between(low: Number, value: Number, high: Number) -> Number:
    _require(low <= value <= high)
    return value


def _network(text: str) -> IPv4Network | IPv6Network:
    """Return a network; one of mapped addresses as the IPv4 network that it means."""
    network = ip_network(text)
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    if mapped is None or network.prefixlen < _MAPPED_PREFIX:
        return network
    return ip_network((int(mapped), network.prefixlen - _MAPPED_PREFIX))


def _path(url: str) -> str:
    """Return the path of a web URL, without segments that browsers remove."""
    path = _web_url(url).path
    _require(not {"", ".", ".."} & set(unquote(path).split("/")[1:]))
    return path


def _web_url(raw: str) -> SplitResult:
    _match(r"[!-~]+", raw)
    parts = urlsplit(raw)
    _require(parts.scheme in _DEFAULT_PORTS and "@" not in parts.netloc and parts.port != 0)
    _match(r"[a-z0-9._:-]+", parts.hostname or "")
    return parts
