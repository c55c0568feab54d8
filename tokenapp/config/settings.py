"""Every setting, declared once, as a field of `Settings`."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import urlsplit

from sqlalchemy.engine import URL

from tokenapp.config import brand, mail
from tokenapp.config import database_url as urls
from tokenapp.config import readers as read
from tokenapp.config.checks import MAX_PASSWORD_MEMORY
from tokenapp.config.mail import Sender, SmtpServer

T = TypeVar("T")


class Setting(NamedTuple):
    """An environment variable; the `default` None is computed from other settings."""

    name: str
    default: str | None
    read: Callable[[str], Any]
    description: str
    secret: bool


def setting(name: str, default: str | None, read: Callable[[str], T], description: str, *, secret: bool = False) -> T:
    """Declare a field of `Settings`, read from the environment variable `name`."""
    field: T = dataclasses.field(
        repr=not secret, metadata={"setting": Setting(name, default, read, description, secret)}
    )
    return field


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings as the program uses them: durations in seconds, lists as tuples."""

    secret_key: str = setting(
        "SECRET_KEY",
        "",
        read.secret,
        "Encrypts signing keys and TOTP secrets at rest. At least 32 random bytes.",
        secret=True,
    )
    secret_key_fallbacks: tuple[str, ...] = setting(
        "SECRET_KEY_FALLBACKS",
        "",
        read.comma_separated,
        "Former values, comma-separated. What they encrypted is encrypted again on use, or by `flask keys reencrypt`.",
        secret=True,
    )
    database_url: URL = setting(  # noqa: RUF009 -- it returns a field, as dataclasses.field does
        "DATABASE_URL", None, urls.read, "SQLite or PostgreSQL. Default: `instance/tokenapp.db`.", secret=True
    )
    instance_path: Path = setting(  # noqa: RUF009 -- as above
        "TOKENAPP_INSTANCE_PATH", None, read.folder, "Folder of the default database, and of development's secret."
    )
    port: int = setting("PORT", "3005", read.whole_number(1, 65535), "Port that gunicorn listens on.")
    bind: str = setting(
        "TOKENAPP_BIND",
        "127.0.0.1",
        read.listen,
        "Where gunicorn listens: an address, at `PORT`; `[::]:3005` with its own; or `unix:/run/tokenapp.sock`.",
    )
    web_concurrency: int = setting("WEB_CONCURRENCY", "2", read.whole_number(1, 256), "Number of worker processes.")
    threads: int = setting("TOKENAPP_THREADS", "4", read.whole_number(1, 256), "Threads per worker process.")
    access_token_secret: str = setting(
        "ACCESS_TOKEN_SECRET",
        "",
        read.secret,
        "Signs access tokens with HS256 instead of a stored ES256 key.",
        secret=True,
    )
    access_token_secret_fallbacks: tuple[str, ...] = setting(
        "ACCESS_TOKEN_SECRET_FALLBACKS",
        "",
        read.comma_separated,
        "Former values, still accepted; comma-separated.",
        secret=True,
    )
    refresh_token_secret: str = setting(
        "REFRESH_TOKEN_SECRET", "", read.secret, "Signs refresh tokens instead of a stored key.", secret=True
    )
    refresh_token_secret_fallbacks: tuple[str, ...] = setting(
        "REFRESH_TOKEN_SECRET_FALLBACKS",
        "",
        read.comma_separated,
        "Former values, still accepted; comma-separated.",
        secret=True,
    )
    ratelimit_storage_uri: str = setting(
        "RATELIMIT_STORAGE_URI",
        "",
        read.limit_server,
        "Redis or Valkey server for the rate limit per address. Default: the database.",
        secret=True,
    )
    env: str = setting(
        "TOKENAPP_ENV", "production", read.one_of("production", "development"), "`production` or `development`."
    )
    issuer: str = setting(
        "TOKENAPP_ISSUER", None, read.public_url, "Public URL of the service, the `iss` claim. https in production."
    )
    script_name: str = setting(
        "SCRIPT_NAME",
        "",
        read.url_path,
        "Path below which the service is reached, such as `/auth`. Default: the path of `TOKENAPP_ISSUER`.",
    )
    audience: str = setting(
        "TOKENAPP_AUDIENCE",
        "tokenapp-api",
        read.quotable,
        "The `aud` claim of access tokens: the API that they are for.",
    )
    access_lifetime: int = setting(
        "TOKENAPP_ACCESS_LIFETIME", "15m", read.duration(10, 86400), "Lifetime of an access token."
    )
    refresh_lifetime: int = setting(
        "TOKENAPP_REFRESH_LIFETIME",
        "7d",
        read.duration(60, 366 * 86400),
        "Idle limit: lifetime of an unused refresh token.",
    )
    session_lifetime: int = setting(
        "TOKENAPP_SESSION_LIFETIME",
        "30d",
        read.duration(60, 3660 * 86400),
        "Absolute limit: maximum lifetime of a session.",
    )
    max_sessions: int = setting(
        "TOKENAPP_MAX_SESSIONS",
        "100",
        read.whole_number(1, 10000),
        "Live sessions per user. Beyond, the oldest is revoked.",
    )
    refresh_grace: int = setting(
        "TOKENAPP_REFRESH_GRACE", "30s", read.duration(0, 600), "Grace period of a replaced refresh token. 0: none."
    )
    device_binding: str = setting(
        "TOKENAPP_DEVICE_BINDING",
        "off",
        read.one_of("off", "report", "enforce"),
        "Bind sessions to a key of the device: `off`, `report` or `enforce`.",
    )
    bound_cookie_lifetime: int = setting(
        "TOKENAPP_BOUND_COOKIE_LIFETIME",
        "10m",
        read.duration(10, 86400),
        "Time until the browser must prove the key of a bound session again.",
    )
    revocation_delay: float = setting(
        "TOKENAPP_REVOCATION_DELAY", "1s", read.delay, "Time until the access tokens of a revoked session are rejected."
    )
    jwks_lifetime: int = setting(
        "TOKENAPP_JWKS_LIFETIME",
        "5m",
        read.duration(1, 86400),
        "How long the public keys may be cached. A new key signs only after this time.",
    )
    invalid_token_status: int = setting(
        "TOKENAPP_INVALID_TOKEN_STATUS",
        "403",
        read.one_of(403, 401),
        "Status for an invalid access token: 403, or 401 as in RFC 6750.",
    )
    allowed_origins: tuple[str, ...] = setting(
        "TOKENAPP_ALLOWED_ORIGINS",
        "",
        read.origins,
        "Other origins whose pages may call the service, comma-separated. No wildcards.",
    )
    rp_id: str = setting(
        "TOKENAPP_RP_ID",
        None,
        read.host_name,
        "Domain of the passkeys: the host of `TOKENAPP_ISSUER`, which is the default, or a parent domain of it.",
    )
    trusted_proxies: tuple[str, ...] = setting(
        "TOKENAPP_TRUSTED_PROXIES",
        "",
        read.networks,
        "Proxies whose `X-Forwarded-For` is trusted: addresses or networks, comma-separated.",
    )
    second_factor: str = setting(
        "TOKENAPP_SECOND_FACTOR",
        "optional",
        read.one_of("optional", "required"),
        "Whether a second factor is `optional` or `required`. If required, it is set up at the next sign-in.",
    )
    address_failures: int = setting(
        "TOKENAPP_ADDRESS_FAILURES",
        "60",
        read.whole_number(1, 100000),
        "Rate limit: wrong passwords per minute from one address.",
    )
    log_format: str = setting("TOKENAPP_LOG_FORMAT", "json", read.one_of("json", "text"), "`json` or `text`.")
    metrics_bind: tuple[str, int] | None = setting(
        "TOKENAPP_METRICS_BIND", "", read.bind, "Address and port of the metrics, such as `127.0.0.1:9464`."
    )
    password_min_length: int = setting(
        "TOKENAPP_PASSWORD_MIN_LENGTH",
        "15",
        read.whole_number(8, 64),
        "Minimum length of a new password, in characters.",
    )
    password_memory: int = setting(
        "TOKENAPP_PASSWORD_MEMORY",
        "19456",
        read.whole_number(8, MAX_PASSWORD_MEMORY),
        "argon2id memory in KiB, at most 262144. At least 19456 in production.",
    )
    password_passes: int = setting(
        "TOKENAPP_PASSWORD_PASSES",
        "2",
        read.whole_number(1, 100),
        "argon2id passes. At least 2 in production. Memory times passes is at most 1048576.",
    )
    smtp: SmtpServer | None = setting(  # noqa: RUF009 -- as above
        "TOKENAPP_SMTP_URL",
        "",
        mail.smtp_server,
        "SMTP server, such as `smtps://user:password@host`. Without it, production has no registration or reset.",
        secret=True,
    )
    mail_from: Sender | None = setting(  # noqa: RUF009 -- as above
        "TOKENAPP_MAIL_FROM", "", mail.sender, "Sender of mail. Default: `tokenapp@` and the host of the issuer."
    )
    registration: str = setting(
        "TOKENAPP_REGISTRATION",
        None,
        read.one_of("closed", "invite", "open"),
        "Who can register: nobody, invited people, or everyone. Default: `closed`, in development `open`.",
    )
    registration_domains: tuple[str, ...] = setting(
        "TOKENAPP_REGISTRATION_DOMAINS", "", mail.domains, "Domains whose addresses can register. Default: all."
    )
    mail_client_limit: int = setting(
        "TOKENAPP_MAIL_CLIENT_LIMIT",
        "20",
        read.whole_number(1, 1_000_000),
        "Mails per hour that one client address can request.",
    )
    mail_daily_limit: int = setting(
        "TOKENAPP_MAIL_DAILY_LIMIT", "2000", read.whole_number(1, 10_000_000), "Mails per day that all can request."
    )
    brand_name: str = setting(
        "TOKENAPP_BRAND_NAME", "tokenapp", brand.name, "Name of your service on the account page."
    )
    brand_logo: brand.Logo | None = setting(  # noqa: RUF009 -- see database_url
        "TOKENAPP_BRAND_LOGO", "", brand.logo, "Path of its logo: an SVG or PNG file of at most 256 KiB."
    )
    brand_color: brand.Palette | None = setting(  # noqa: RUF009 -- see database_url
        "TOKENAPP_BRAND_COLOR",
        "",
        brand.palette,
        "Its colour, such as `#2a4bcc`, or one for light and one for dark screens, comma-separated.",
    )
    brand_links: tuple[tuple[str, str], ...] = setting(
        "TOKENAPP_BRAND_LINKS",
        "",
        brand.links,
        "Links such as `help=https://example.com/help`, comma-separated: `help`, `privacy`, `imprint`.",
    )

    @property
    def sends_mail(self) -> bool:
        """Whether mail is sent or, in development, printed."""
        return self.smtp is not None or not self.production

    @property
    def production(self) -> bool:
        """Whether the strict rules for a service with real users apply."""
        return self.env == "production"

    @property
    def base_path(self) -> str:
        """The path below which the service is reached, without a slash at its end."""
        return urlsplit(self.issuer).path

    @property
    def cookie_name(self) -> str:
        """The refresh cookie's name; ``__Host-`` binds it to the host (RFC 6265bis)."""
        return "__Host-refreshToken" if self.production else "refreshToken"


SETTINGS: Final[tuple[Setting, ...]] = tuple(field.metadata["setting"] for field in dataclasses.fields(Settings))
FILE_SETTINGS: Final = frozenset(setting.name + "_FILE" for setting in SETTINGS if setting.secret)
