"""Every setting of the service in one table, read and checked whole before anything starts."""

import dataclasses
import math
import os
import re
import secrets
from collections.abc import Callable, Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final, NamedTuple, cast
from urllib.parse import urlsplit

from flask import Flask, current_app
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

ROOT: Final = Path(__file__).resolve().parent.parent
INSTANCE: Final = ROOT / "instance"
MIN_SECRET_BYTES: Final = 32
PRINTED_SECRETS: Final = frozenset({"change-me", "secret", "your-access-token-secret", "your-refresh-token-secret"})
MIN_DISTINCT_CHARACTERS: Final = 10
MIN_PASSWORD_MEMORY: Final = 19456
MIN_PASSWORD_PASSES: Final = 2
_DELAY_BOUNDS: Final = (0.05, 60)
_DURATION: Final = re.compile(r"(\d{1,9})(s|m|h|d)?")
_ADDRESS: Final = re.compile(r"(?:\[(?P<ipv6>[0-9a-fA-F:.]+)\]|(?P<plain>[A-Za-z0-9.-]+)):(?P<port>[0-9]{1,5})")
_MAX_PORT: Final = 65535
_SERVER_OPTION: Final = r"(?:db=\d{1,3}|(?:username|password|ssl_ca_certs|ssl_certfile|ssl_keyfile)=[^&#]+)"
_LIMIT_SERVER: Final = re.compile(
    r"(?:(?P<tcp>redis|rediss|valkey|valkeys)://(?:[^/@?#]*@)?(?:\[[0-9a-fA-F:.]+\]|[\w.-]+)(?::(?P<port>\d{1,5}))?(?:/\d{0,3})?"
    rf"|(?P<socket>unix|redis\+unix|valkey\+unix)://(?:[^/@?#]*@)?/[^?#]+)(?:\?{_SERVER_OPTION}(?:&{_SERVER_OPTION})*)?",
    re.ASCII,
)
_UNIT_SECONDS: Final = {None: 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


class ConfigError(Exception):
    """The settings cannot be used; its text lists every fault by the setting's name and shows no value of a secret."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        super().__init__("tokenapp cannot start:\n" + "\n".join(f"  - {fault}" for fault in faults))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings as the program uses them: lengths of time in seconds, lists as tuples, paths absolute."""

    secret_key: str
    database_url: URL
    port: int
    web_concurrency: int
    threads: int
    access_token_secret: str
    access_token_secret_fallbacks: tuple[str, ...]
    refresh_token_secret: str
    refresh_token_secret_fallbacks: tuple[str, ...]
    env: str
    issuer: str
    audience: str
    access_lifetime: int
    refresh_lifetime: int
    session_lifetime: int
    refresh_grace: int
    revocation_delay: float
    invalid_token_status: int
    allowed_origins: tuple[str, ...]
    trusted_proxies: tuple[str, ...]
    log_format: str
    metrics_bind: tuple[str, int] | None
    ratelimit_storage_uri: str
    address_failures: int
    password_memory: int
    password_passes: int
    password_min_length: int

    @property
    def production(self) -> bool:
        """Whether the strict rules for a service that people reach over the network apply."""
        return self.env == "production"

    @property
    def cookie_name(self) -> str:
        """The refresh cookie's name; ``__Host-`` makes browsers pin it to this very host (RFC 6265bis, 4.1.3.2)."""
        return "__Host-refreshToken" if self.production else "refreshToken"


def current() -> Settings:
    """The settings of the application at work."""
    return cast("Settings", current_app.config["TOKENAPP"])


# Readers turn one text into a value, or raise ValueError with a sentence that does not repeat the text.


def _text(raw: str) -> str:
    return raw


def _int(low: int, high: int) -> Callable[[str], int]:
    def read(raw: str) -> int:
        if not re.fullmatch(r"\d{1,9}", raw, re.ASCII) or not low <= int(raw) <= high:
            message = f"must be a whole number from {low} to {high}"
            raise ValueError(message)
        return int(raw)

    return read


def _duration(low: int, high: int) -> Callable[[str], int]:
    def read(raw: str) -> int:
        match = _DURATION.fullmatch(raw)
        seconds = int(match[1]) * _UNIT_SECONDS[match[2]] if match else -1
        if not low <= seconds <= high:
            message = f"must be a length of time such as 90, 90s, 15m, 12h or 7d, from {low} to {high} seconds"
            raise ValueError(message)
        return seconds

    return read


def _delay(raw: str) -> float:
    message = "must be a number of seconds from 0.05 to 60"
    try:
        seconds = float(raw.removesuffix("s"))
    except ValueError:
        raise ValueError(message) from None
    if not (math.isfinite(seconds) and _DELAY_BOUNDS[0] <= seconds <= _DELAY_BOUNDS[1]):
        raise ValueError(message)
    return seconds


def _choice(*allowed: str) -> Callable[[str], str]:
    def read(raw: str) -> str:
        if raw not in allowed:
            raise ValueError("must be " + " or ".join(allowed))
        return raw

    return read


def _status(raw: str) -> int:
    return int(_choice("401", "403")(raw))


def _list(raw: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in raw.split(",") if part.strip())


def _origins(raw: str) -> tuple[str, ...]:
    origins = _list(raw)
    for origin in origins:
        parts = urlsplit(origin)
        if parts.scheme not in {"http", "https"} or not parts.hostname or origin != f"{parts.scheme}://{parts.netloc}":
            message = "must be a comma-separated list of origins such as https://app.example.com, with no path"
            raise ValueError(message)
    return tuple(origin.lower() for origin in origins)


def _networks(raw: str) -> tuple[str, ...]:
    try:
        return tuple(str(ip_network(part)) for part in _list(raw))
    except ValueError:
        message = "must be a comma-separated list of addresses or networks such as 127.0.0.1 or 10.0.0.0/8"
        raise ValueError(message) from None


def _database(raw: str) -> URL:
    try:
        url = make_url(raw)
    except ArgumentError:
        url = None
    if url is not None and url.drivername in {"postgresql", "postgres", "postgresql+psycopg"} and url.database:
        return url.set(drivername="postgresql+psycopg")
    if (
        url is not None
        and url.drivername in {"sqlite", "sqlite+pysqlite"}
        and url.database not in {None, "", ":memory:"}
    ):
        return url
    message = "must look like sqlite:////var/lib/tokenapp/tokenapp.db or postgresql://user@host/name"
    raise ValueError(message)


def _issuer(raw: str) -> str:
    parts = urlsplit(raw)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        message = "must be an http or https URL without query or fragment"
        raise ValueError(message)
    return raw.rstrip("/")


def _bind(raw: str) -> tuple[str, int] | None:
    if not raw:
        return None
    match = _ADDRESS.fullmatch(raw)
    if match is None or not 1 <= int(match["port"]) <= _MAX_PORT:
        message = "must be an address and a port such as 127.0.0.1:9464 or [::1]:9464"
        raise ValueError(message)
    return match["plain"] or match["ipv6"], int(match["port"])


def _limit_server(raw: str) -> str:
    """Read the address of a Redis or Valkey server; return it in the words of Redis, whose protocol both speak."""
    if not raw:
        return ""
    match = _LIMIT_SERVER.fullmatch(raw)
    if match is None or not 1 <= int(match["port"] or 1) <= _MAX_PORT:
        message = "must look like redis://:password@host:6379/0, or with rediss, valkey or valkeys; or unix:///path"
        raise ValueError(message)
    scheme = match["tcp"].replace("valkey", "redis") if match["tcp"] else "unix"
    return scheme + raw[raw.index(":") :]


class Setting(NamedTuple):
    """One row of the table; ``default`` None means that the default is worked out from the rest."""

    name: str
    default: str | None
    read: Callable[[str], Any]
    help: str
    secret: bool = False


SETTINGS: Final = (
    Setting("SECRET_KEY", "", _text, "Encrypts the signing keys at rest. At least 32 random bytes.", secret=True),
    Setting(
        "DATABASE_URL", None, _database, "SQLite file or PostgreSQL. Default: `instance/tokenapp.db`.", secret=True
    ),
    Setting("PORT", "3005", _int(1, 65535), "Port that gunicorn listens on."),
    Setting("WEB_CONCURRENCY", "2", _int(1, 256), "Worker processes."),
    Setting("TOKENAPP_THREADS", "4", _int(1, 256), "Threads in each worker process."),
    Setting(
        "ACCESS_TOKEN_SECRET", "", _text, "Signs access tokens with HS256 instead of a stored ES256 key.", secret=True
    ),
    Setting("ACCESS_TOKEN_SECRET_FALLBACKS", "", _list, "Former values, still accepted; comma-separated.", secret=True),
    Setting("REFRESH_TOKEN_SECRET", "", _text, "Signs refresh tokens instead of a stored key.", secret=True),
    Setting(
        "REFRESH_TOKEN_SECRET_FALLBACKS", "", _list, "Former values, still accepted; comma-separated.", secret=True
    ),
    Setting(
        "RATELIMIT_STORAGE_URI",
        "",
        _limit_server,
        "Redis or Valkey server that counts wrong passwords per address. Default: the database.",
        secret=True,
    ),
    Setting("TOKENAPP_ENV", "production", _choice("production", "development"), "`production` or `development`."),
    Setting("TOKENAPP_ISSUER", None, _issuer, "Our public URL: the `iss` of every token. https in production."),
    Setting("TOKENAPP_AUDIENCE", "tokenapp-api", _text, "The `aud` of access tokens: the API that they are for."),
    Setting("TOKENAPP_ACCESS_LIFETIME", "15m", _duration(10, 86400), "Life of an access token."),
    Setting(
        "TOKENAPP_REFRESH_LIFETIME", "7d", _duration(60, 366 * 86400), "Idle limit: life of an unused refresh token."
    ),
    Setting("TOKENAPP_SESSION_LIFETIME", "30d", _duration(60, 3660 * 86400), "Absolute limit of a session."),
    Setting(
        "TOKENAPP_REFRESH_GRACE",
        "30s",
        _duration(0, 600),
        "How long a replaced refresh token is still answered. 0: never.",
    ),
    Setting(
        "TOKENAPP_REVOCATION_DELAY", "1s", _delay, "Within this time an ended session's access tokens are refused."
    ),
    Setting(
        "TOKENAPP_INVALID_TOKEN_STATUS", "403", _status, "Status for a bad access token: 403, or 401 as in RFC 6750."
    ),
    Setting("TOKENAPP_ALLOWED_ORIGINS", "", _origins, "Other origins whose pages may call us; exact, comma-separated."),
    Setting(
        "TOKENAPP_TRUSTED_PROXIES", "", _networks, "Proxies whose `X-Forwarded-*` is believed; addresses or networks."
    ),
    Setting(
        "TOKENAPP_ADDRESS_FAILURES",
        "60",
        _int(1, 100000),
        "Wrong passwords a minute from one address before it waits.",
    ),
    Setting("TOKENAPP_LOG_FORMAT", "json", _choice("json", "text"), "`json` or `text`."),
    Setting("TOKENAPP_METRICS_BIND", "", _bind, "Address and port of the metrics, such as `127.0.0.1:9464`."),
    Setting(
        "TOKENAPP_PASSWORD_MEMORY", "19456", _int(8, 4194304), "argon2id memory in KiB. Production: at least 19456."
    ),
    Setting("TOKENAPP_PASSWORD_MIN_LENGTH", "15", _int(8, 64), "Shortest new password, in characters."),
    Setting("TOKENAPP_PASSWORD_PASSES", "2", _int(1, 100), "argon2id passes. Production: at least 2."),
)
FILE_SETTINGS: Final = frozenset(setting.name + "_FILE" for setting in SETTINGS if setting.secret)


def load(environ: Mapping[str, str], instance: Path) -> Settings:
    """Read all settings from `environ`.

    In development, secrets that are not given are made once and kept in `instance`.

    Raises:
        ConfigError: naming every fault at once.
    """
    faults: list[str] = _unknown(environ)
    raw = _raw_values(environ, faults)
    values: dict[str, Any] = {}
    for setting in SETTINGS:
        text = raw.get(setting.name) or setting.default
        try:
            values[_field(setting.name)] = setting.read(text) if text is not None else None
        except ValueError as fault:
            faults.append(f"{setting.name} {fault}")
    development = values.get("env") == "development"
    if values.get("database_url", "faulty") is None:
        values["database_url"] = _default_database(instance, faults)
    if values.get("issuer", "faulty") is None:
        values["issuer"] = f"http://localhost:{values.get('port', 3005)}" if development else ""
    if development and not values["secret_key"]:
        values["secret_key"] = _development_secret(instance, faults)
    faults += _secret_faults(values, strict=not development) + _limit_faults(values)
    if "env" in values and not development:
        faults += _production_faults(values)
    if faults:
        raise ConfigError(faults)
    return Settings(**values)


def init_app(app: Flask, overrides: Mapping[str, str] | None) -> Settings:
    """Load the settings, from the environment and then `overrides`, into `app`."""
    settings = load({**os.environ, **(overrides or {})}, Path(app.instance_path))
    app.config.update(TOKENAPP=settings, SECRET_KEY=settings.secret_key, MAX_CONTENT_LENGTH=None)
    return settings


def _field(name: str) -> str:
    return name.removeprefix("TOKENAPP_").lower()


def _unknown(environ: Mapping[str, str]) -> list[str]:
    known = {setting.name for setting in SETTINGS} | FILE_SETTINGS
    return [
        f"{name} is not a setting" for name in sorted(environ) if name.startswith("TOKENAPP_") and name not in known
    ]


def _raw_values(environ: Mapping[str, str], faults: list[str]) -> dict[str, str]:
    raw = {setting.name: environ[setting.name] for setting in SETTINGS if setting.name in environ}
    for file_setting in sorted(FILE_SETTINGS & environ.keys()):
        name = file_setting.removesuffix("_FILE")
        if raw.get(name):
            faults.append(f"{name} and {file_setting} are both set")
            continue
        try:
            raw[name] = Path(environ[file_setting]).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as fault:
            faults.append(f"{file_setting} cannot be read: {type(fault).__name__}")
    return raw


def _default_database(instance: Path, faults: list[str]) -> URL:
    try:
        instance.mkdir(parents=True, exist_ok=True)
    except OSError:
        faults.append("DATABASE_URL is not set and the instance folder cannot be made")
    if instance.is_dir() and not os.access(instance, os.W_OK):
        faults.append("DATABASE_URL is not set and the instance folder is read-only")
    return URL.create("sqlite", database=str(instance / "tokenapp.db"))


def _development_secret(instance: Path, faults: list[str]) -> str:
    """Make a secret at the first start; workers that start together agree on whichever was linked first."""
    path = instance / "secret_key"
    try:
        instance.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            draft = instance / f".secret_key.{secrets.token_hex(8)}"
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_urlsafe(48))
            try:
                os.link(draft, path)
            except FileExistsError:
                pass
            finally:
                draft.unlink()
        return path.read_text().strip()
    except OSError as fault:
        faults.append(f"SECRET_KEY is not set and none can be kept in the instance folder: {type(fault).__name__}")
        return ""


def _secret_faults(values: dict[str, Any], *, strict: bool) -> list[str]:
    """Find secrets that are missing or weak; development forgives those that are not set and says no to no others."""
    faults, seen = [], dict[str, str]()
    if strict and not values["secret_key"]:
        faults.append("SECRET_KEY is not set: run `python -c 'import secrets; print(secrets.token_urlsafe(48))'`")
    for name in ("SECRET_KEY", "ACCESS_TOKEN_SECRET", "REFRESH_TOKEN_SECRET"):
        former = values.get(f"{name.lower()}_fallbacks", ())
        for label, value in [(name, values[name.lower()]), *((f"{name}_FALLBACKS", each) for each in former)]:
            if not value:
                continue
            if strict and _is_weak(value):
                faults.append(f"{label} is weak: it needs at least {MIN_SECRET_BYTES} random bytes")
            if value in seen:
                faults.append(f"{label} repeats {seen[value]}: each secret must be its own")
            seen[value] = label
    return faults


def _is_weak(value: str) -> bool:
    repeated = len(set(value)) < MIN_DISTINCT_CHARACTERS or (value + value).find(value, 1) < len(value)
    return len(value.encode()) < MIN_SECRET_BYTES or repeated or value.lower() in PRINTED_SECRETS


def _limit_faults(values: dict[str, Any]) -> list[str]:
    faults = []
    for shorter, longer in (("access_lifetime", "session_lifetime"), ("refresh_lifetime", "session_lifetime")):
        if shorter in values and longer in values and values[shorter] > values[longer]:
            faults.append(f"TOKENAPP_{shorter.upper()} is longer than TOKENAPP_{longer.upper()}")
    if (values.get("metrics_bind") or ("", None))[1] == values.get("port", 0):
        faults.append("TOKENAPP_METRICS_BIND has the same port as PORT")
    return faults


def _production_faults(values: dict[str, Any]) -> list[str]:
    faults = []
    issuer = values.get("issuer")
    if issuer == "":
        faults.append("TOKENAPP_ISSUER is not set: it is the public https URL of this service")
    elif issuer is not None and not issuer.startswith("https://"):
        faults.append("TOKENAPP_ISSUER must be https in production")
    if any(not origin.startswith("https://") for origin in values.get("allowed_origins", ())):
        faults.append("TOKENAPP_ALLOWED_ORIGINS must be https in production")
    if values.get("password_memory", MIN_PASSWORD_MEMORY) < MIN_PASSWORD_MEMORY:
        faults.append(f"TOKENAPP_PASSWORD_MEMORY must be at least {MIN_PASSWORD_MEMORY} in production")
    if values.get("password_passes", MIN_PASSWORD_PASSES) < MIN_PASSWORD_PASSES:
        faults.append(f"TOKENAPP_PASSWORD_PASSES must be at least {MIN_PASSWORD_PASSES} in production")
    return faults
