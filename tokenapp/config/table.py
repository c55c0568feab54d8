"""Every setting in one table, and the settings as the program uses them."""

import dataclasses
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from sqlalchemy.engine import URL

from tokenapp.config import readers


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings as the program uses them: lengths of time in seconds, lists as tuples, paths absolute."""

    secret_key: str
    secret_key_fallbacks: tuple[str, ...]
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
    max_sessions: int
    refresh_grace: int
    revocation_delay: float
    jwks_lifetime: int
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


class Setting(NamedTuple):
    """One row of the table; ``default`` None means that the default is worked out from the rest."""

    name: str
    default: str | None
    read: Callable[[str], Any]
    help: str
    secret: bool = False


SETTINGS: Final = (
    Setting(
        "SECRET_KEY",
        "",
        readers.listable_secret,
        "Encrypts the signing keys at rest. At least 32 random bytes.",
        secret=True,
    ),
    Setting(
        "SECRET_KEY_FALLBACKS",
        "",
        readers.comma_separated,
        "Former values: what is sealed under them is sealed anew; comma-separated.",
        secret=True,
    ),
    Setting(
        "DATABASE_URL",
        None,
        readers.database,
        "SQLite file or PostgreSQL. Default: `instance/tokenapp.db`.",
        secret=True,
    ),
    Setting("PORT", "3005", readers.whole_number(1, 65535), "Port that gunicorn listens on."),
    Setting("WEB_CONCURRENCY", "2", readers.whole_number(1, 256), "Worker processes."),
    Setting("TOKENAPP_THREADS", "4", readers.whole_number(1, 256), "Threads in each worker process."),
    Setting(
        "ACCESS_TOKEN_SECRET",
        "",
        readers.listable_secret,
        "Signs access tokens with HS256 instead of a stored ES256 key.",
        secret=True,
    ),
    Setting(
        "ACCESS_TOKEN_SECRET_FALLBACKS",
        "",
        readers.comma_separated,
        "Former values, still accepted; comma-separated.",
        secret=True,
    ),
    Setting(
        "REFRESH_TOKEN_SECRET",
        "",
        readers.listable_secret,
        "Signs refresh tokens instead of a stored key.",
        secret=True,
    ),
    Setting(
        "REFRESH_TOKEN_SECRET_FALLBACKS",
        "",
        readers.comma_separated,
        "Former values, still accepted; comma-separated.",
        secret=True,
    ),
    Setting(
        "RATELIMIT_STORAGE_URI",
        "",
        readers.limit_server,
        "Redis or Valkey server that counts wrong passwords per address. Default: the database.",
        secret=True,
    ),
    Setting(
        "TOKENAPP_ENV", "production", readers.one_of("production", "development"), "`production` or `development`."
    ),
    Setting("TOKENAPP_ISSUER", None, readers.issuer, "Our public URL: the `iss` of every token. https in production."),
    Setting(
        "TOKENAPP_AUDIENCE", "tokenapp-api", readers.quotable, "The `aud` of access tokens: the API that they are for."
    ),
    Setting("TOKENAPP_ACCESS_LIFETIME", "15m", readers.duration(10, 86400), "Life of an access token."),
    Setting(
        "TOKENAPP_REFRESH_LIFETIME",
        "7d",
        readers.duration(60, 366 * 86400),
        "Idle limit: life of an unused refresh token.",
    ),
    Setting("TOKENAPP_SESSION_LIFETIME", "30d", readers.duration(60, 3660 * 86400), "Absolute limit of a session."),
    Setting("TOKENAPP_MAX_SESSIONS", "100", readers.whole_number(1, 10000), "Live sessions per user."),
    Setting(
        "TOKENAPP_REFRESH_GRACE",
        "30s",
        readers.duration(0, 600),
        "How long a replaced refresh token is still answered. 0: never.",
    ),
    Setting(
        "TOKENAPP_REVOCATION_DELAY",
        "1s",
        readers.delay,
        "Within this time an ended session's access tokens are refused.",
    ),
    Setting(
        "TOKENAPP_JWKS_LIFETIME",
        "5m",
        readers.duration(1, 86400),
        "How long others may keep our public keys; a new key waits as long before it signs.",
    ),
    Setting(
        "TOKENAPP_INVALID_TOKEN_STATUS",
        "403",
        readers.status,
        "Status for a bad access token: 403, or 401 as in RFC 6750.",
    ),
    Setting(
        "TOKENAPP_ALLOWED_ORIGINS",
        "",
        readers.origins,
        "Other origins whose pages may call us; exact, comma-separated.",
    ),
    Setting(
        "TOKENAPP_TRUSTED_PROXIES",
        "",
        readers.networks,
        "Proxies whose `X-Forwarded-*` is believed; addresses or networks.",
    ),
    Setting(
        "TOKENAPP_ADDRESS_FAILURES",
        "60",
        readers.whole_number(1, 100000),
        "Wrong passwords a minute from one address before it waits.",
    ),
    Setting("TOKENAPP_LOG_FORMAT", "json", readers.one_of("json", "text"), "`json` or `text`."),
    Setting("TOKENAPP_METRICS_BIND", "", readers.bind, "Address and port of the metrics, such as `127.0.0.1:9464`."),
    Setting("TOKENAPP_PASSWORD_MIN_LENGTH", "15", readers.whole_number(8, 64), "Shortest new password, in characters."),
    Setting(
        "TOKENAPP_PASSWORD_MEMORY",
        "19456",
        readers.whole_number(8, 4194304),
        "argon2id memory in KiB. Production: at least 19456.",
    ),
    Setting("TOKENAPP_PASSWORD_PASSES", "2", readers.whole_number(1, 100), "argon2id passes. Production: at least 2."),
)
FILE_SETTINGS: Final = frozenset(setting.name + "_FILE" for setting in SETTINGS if setting.secret)
