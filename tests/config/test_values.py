"""Valid and invalid values of every setting."""

from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.app import ROOT
from tests.support.settings import STRONG, problems_of, production
from tokenapp.config import SETTINGS, load
from tokenapp.config.brand import Logo, Palette

SVG: Final = ROOT / "tokenapp/web/account/account.svg"
PNG: Final = ROOT / "tokenapp/web/docs/favicon-32x32.png"
VALID: Final[dict[str, dict[str, Any]]] = {
    "TOKENAPP_BRAND_NAME": {"": "tokenapp", "Ærø & <Søn>": "Ærø & <Søn>", "مثال": "مثال", "x" * 60: "x" * 60},
    "TOKENAPP_BRAND_LOGO": {
        "": None,
        str(SVG): Logo("image/svg+xml", SVG.read_bytes()),
        str(PNG): Logo("image/png", PNG.read_bytes()),
    },
    "TOKENAPP_BRAND_COLOR": {
        "": None,
        "#2a4bcc,#93ADFF": Palette((42, 75, 204), (147, 173, 255)),
        "#2a4bcc , #93adff": Palette((42, 75, 204), (147, 173, 255)),
        "#000000": Palette((0, 0, 0), (140, 140, 140)),
    },
    "TOKENAPP_BRAND_LINKS": {
        "": (),
        "imprint=https://a.example/i?x=1#y, help=mailto:help@a.example": (
            ("help", "mailto:help@a.example"),
            ("imprint", "https://a.example/i?x=1#y"),
        ),
    },
    "SECRET_KEY": {
        STRONG: STRONG,
        f" {STRONG}\n": STRONG,
        "é" * 5 + STRONG: "é" * 5 + STRONG,
    },
    "SECRET_KEY_FALLBACKS": {"": (), f" {STRONG[::-1]} ,, ": (STRONG[::-1],)},
    "DATABASE_URL": {
        "sqlite:////var/lib/tokenapp/x.db": "sqlite:////var/lib/tokenapp/x.db",
        "sqlite+pysqlite:////x.db": "sqlite+pysqlite:////x.db",
        "postgresql://u@h/name": "postgresql+psycopg://u@h/name",
        "postgres://u@h:5433/name": "postgresql+psycopg://u@h:5433/name",
        "postgresql+psycopg:///name?host=/run": "postgresql+psycopg:///name?host=%2Frun",
        "postgresql://u:p@a:5433,b/name?sslmode=require": (
            "postgresql+psycopg://u:***@/name?host=a%2Cb&port=5433%2C&sslmode=require"
        ),
        "postgresql:///name?host=a,b&port=5433,5434": "postgresql+psycopg:///name?host=a%2Cb&port=5433%2C5434",
        "postgresql://u@a,b/name?port=5433": "postgresql+psycopg://u@/name?host=a%2Cb&port=5433",
        "postgresql://u@/name?host=a:5432,[::1]:5433": (
            "postgresql+psycopg://u@/name?host=a%2C%3A%3A1&port=5432%2C5433"
        ),
    },
    "TOKENAPP_INSTANCE_PATH": {"/var/lib/x y": Path("/var/lib/x y"), "data": Path.cwd() / "data"},
    "PORT": {"1": 1, "3005": 3005, "65535": 65535, "": 3005},
    "TOKENAPP_BIND": {
        "": "127.0.0.1:3005",
        "0.0.0.0": "0.0.0.0:3005",
        "[::]": "[::]:3005",
        "localhost": "localhost:3005",
        "127.0.0.1:8000": "127.0.0.1:8000",
        "0.0.0.0:3005": "0.0.0.0:3005",
        "[::]:3005": "[::]:3005",
        "unix:/run/tokenapp.sock": "unix:/run/tokenapp.sock",
    },
    "WEB_CONCURRENCY": {"1": 1, "256": 256, "": 2},
    "TOKENAPP_THREADS": {"1": 1, "256": 256, "": 4},
    "ACCESS_TOKEN_SECRET": {"": "", f" {STRONG[::-1]} ": STRONG[::-1]},
    "ACCESS_TOKEN_SECRET_FALLBACKS": {"": (), f" {STRONG[::-1]} ,, ": (STRONG[::-1],)},
    "REFRESH_TOKEN_SECRET": {"": "", f" {STRONG[::-1]} ": STRONG[::-1]},
    "REFRESH_TOKEN_SECRET_FALLBACKS": {"": (), f"{STRONG[::-1]},{STRONG[1:]}": (STRONG[::-1], STRONG[1:])},
    "RATELIMIT_STORAGE_URI": {
        "": "",
        "redis://h": "redis://h",
        "rediss://:p@h:6380/1": "rediss://:p@h:6380/1",
        "valkey://u:p@[::1]:6379/0": "redis://u:p@[::1]:6379/0",
        "unix:///run/valkey.sock": "unix:///run/valkey.sock",
    },
    "TOKENAPP_ENV": {"production": "production", "": "production"},
    "TOKENAPP_ISSUER": {
        "https://a.example": "https://a.example",
        "https://a.example/": "https://a.example",
        "https://a.example:8443/auth": "https://a.example:8443/auth",
        "https://[2001:db8::1]": "https://[2001:db8::1]",
    },
    "SCRIPT_NAME": {"": "", "/": ""},  # test_settings.py has others, which need an issuer
    "TOKENAPP_AUDIENCE": {"https://api.example": "https://api.example", "": "tokenapp-api", "a b"[0]: "a"},
    "TOKENAPP_ACCESS_LIFETIME": {"10s": 10, "90s": 90, "15m": 900, "24h": 86400, "1d": 86400, "": 900},
    "TOKENAPP_REFRESH_LIFETIME": {"60s": 60, "12h": 43200, "30d": 30 * 86400, "": 7 * 86400},
    "TOKENAPP_SESSION_LIFETIME": {"7d": 7 * 86400, "3660d": 3660 * 86400, "": 30 * 86400},
    "TOKENAPP_MAX_SESSIONS": {"1": 1, "10000": 10000, "": 100},
    "TOKENAPP_REFRESH_GRACE": {"0": 0, "0s": 0, "600s": 600, "10m": 600, "": 30},
    "TOKENAPP_REVOCATION_DELAY": {"0.05": 0.05, "1s": 1.0, "60": 60.0, "2.5s": 2.5, "": 1.0},
    "TOKENAPP_JWKS_LIFETIME": {"1s": 1, "5m": 300, "1d": 86400, "": 300},
    "TOKENAPP_ADDRESS_FAILURES": {"1": 1, "100000": 100000, "": 60},
    "TOKENAPP_METRICS_BIND": {"": None, "127.0.0.1:9464": ("127.0.0.1", 9464), "[::1]:9464": ("::1", 9464)},
    "TOKENAPP_PASSWORD_MIN_LENGTH": {"8": 8, "64": 64, "": 15},
    "TOKENAPP_INVALID_TOKEN_STATUS": {"401": 401, "403": 403, "": 403},
    "TOKENAPP_ALLOWED_ORIGINS": {
        "": (),
        "https://a.example": ("https://a.example",),
        "https://A.example , https://b.example:8443,": ("https://a.example", "https://b.example:8443"),
    },
    "TOKENAPP_TRUSTED_PROXIES": {
        "": (),
        "127.0.0.1": ("127.0.0.1/32",),
        "10.0.0.0/8, ::1": ("10.0.0.0/8", "::1/128"),
        "::ffff:10.0.0.0/104,::ffff:10.0.0.1,::/0": ("10.0.0.0/8", "10.0.0.1/32", "::/0"),
    },
    "TOKENAPP_LOG_FORMAT": {"json": "json", "text": "text", "": "json"},
    "TOKENAPP_PASSWORD_MEMORY": {"19456": 19456, "262144": 262144, "": 19456},
    "TOKENAPP_PASSWORD_PASSES": {"2": 2, "50": 50, "": 2},
    "TOKENAPP_SMTP_URL": {"": None, "smtps://h": ("h", 465, "tls", "", "")},
    "TOKENAPP_MAIL_FROM": {"": None, "a@h.example": ("", "a@h.example"), "A B <a@h.example>": ("A B", "a@h.example")},
    "TOKENAPP_REGISTRATION": {"": "closed", "closed": "closed"},
    "TOKENAPP_REGISTRATION_DOMAINS": {"": (), "A.example, b.example": ("a.example", "b.example")},
    "TOKENAPP_MAIL_CLIENT_LIMIT": {"1": 1, "": 20},
    "TOKENAPP_MAIL_DAILY_LIMIT": {"1": 1, "": 2000},
    "TOKENAPP_DEVICE_BINDING": {"": "off", "report": "report", "enforce": "enforce"},
    "TOKENAPP_BOUND_COOKIE_LIFETIME": {"10s": 10, "24h": 86400, "": 600},
    "TOKENAPP_SECOND_FACTOR": {"": "optional", "required": "required"},
    "TOKENAPP_RP_ID": {"": "auth.example.com"},
}
NOT_NUMBERS: Final = (
    "-1",
    "+1",
    "1.5",
    "0x10",
    "1e3",
    "ten",
    "1,",
    "٣",
    "\uff11",
    "9" * 30,
    "None",
    "\udcff",
)
NOT_DURATIONS: Final = (
    "-1",
    "15",
    "60",
    "600",
    "90 s",
    "1.5m",
    "15 m",
    "15M",
    "m",
    "1w",
    "15m30s",
    "٣",
    "1e3",
    "ever",
    "9999999999",
    "∞",
)
NOT_WEB_URLS: Final = ("a.example", "//a.example", "ftp://a.example", "https://", "https:///x", "javascript:alert(1)")
MALFORMED_URLS: Final = (
    "https://[::1",
    "https://*.a.example",
    "https://a:port",
    "https://a:99999",
    "https://u:p@a.example",
    "https://a b",
)
INVALID: Final[dict[str, tuple[str, ...]]] = {
    "TOKENAPP_BRAND_NAME": ("x" * 61, "ø" * 61),
    "TOKENAPP_BRAND_LOGO": (
        "/",
        "/no/such.svg",
        "a\0b",
        str(ROOT / "setup.cfg"),
        str(ROOT / "tokenapp/web/docs/index.html"),
    ),
    "TOKENAPP_BRAND_COLOR": (
        "blue",
        "2a4bcc",
        "#2a4",
        "#2a4bcg",
        "#2a4bcc,",
        "#2a4bcc,#93adff,#000000",
        "#2a4bcc #93adff",
    ),
    "TOKENAPP_BRAND_LINKS": (
        "https://a.example",
        "other=https://a.example",
        "help=javascript:alert(1)",
        "help=//a.example",
        "help=https://",
        "help=https://user@a.example",
        "help=https://a.example\\@b.example",
        "help=https://[a",
        "help=https://a.example,help=https://b.example",
        "help=data:text/html,x",
        "help=",
    ),
    "SECRET_KEY": ("\udcff" * 40,),
    "SECRET_KEY_FALLBACKS": ("\udcff" * 40,),
    "DATABASE_URL": (
        "x",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "mysql://u@h/name",
        "postgresql+psycopg2://u@h/name",
        "postgresql+asyncpg://u@h/name",
        "postgresql://u@h:x,g/name",
        "postgresql://u@/name?host=h,",
        "postgresql://u@/name?host=h:5432,g&port=5433",
        "postgresql://u@:5433/name?host=h,g",
        "postgresql://u@h",
        "postgresql://u@h:port/name",
        "http://h/name",
    ),
    "PORT": (*NOT_NUMBERS, "0", "65536"),
    "TOKENAPP_BIND": (
        *("3005", ":3005", "::", "[::", "0.0.0.0:", "127.0.0.1:0", "127.0.0.1:65536", "::1:3005"),
        "http://127.0.0.1:3005",
        *("unix:tokenapp.sock", "unix:/run/", "unix:/run/a\nb", "127.0.0.1:3005,127.0.0.1:3006", "fd://3"),
    ),
    "WEB_CONCURRENCY": (*NOT_NUMBERS, "0", "257"),
    "TOKENAPP_THREADS": (*NOT_NUMBERS, "0", "257"),
    "ACCESS_TOKEN_SECRET": ("\udcff" * 40,),
    "ACCESS_TOKEN_SECRET_FALLBACKS": ("\udcff" * 40,),
    "REFRESH_TOKEN_SECRET": ("\udcff" * 40,),
    "REFRESH_TOKEN_SECRET_FALLBACKS": ("\udcff" * 40,),
    "RATELIMIT_STORAGE_URI": ("x", "redis://", "http://h", "memory://", "redis://h:0", "redis://h:65536", "unix://"),
    "TOKENAPP_ENV": ("dev", "Development", "prod", "PRODUCTION", "test", "1"),
    "TOKENAPP_ISSUER": (
        *NOT_WEB_URLS,
        *MALFORMED_URLS,
        "https://a.example?x=1",
        "https://a.example#x",
        "https://é",
        "https://a.example/a/../b",
        "https://a.example/a//b",
        "https://a.example/%2e",
    ),
    "SCRIPT_NAME": ("auth", "/a?b", "/a#b", "/a//b", "//a", "/a/../b", "/%2E%2E", "/é", "/a b", "http://a/b"),
    "TOKENAPP_AUDIENCE": ('a"b', "a\\b", "a b", "a\nb", "é", "\x00"),
    "TOKENAPP_ACCESS_LIFETIME": (*NOT_DURATIONS, "9s", "0", "25h"),
    "TOKENAPP_REFRESH_LIFETIME": (*NOT_DURATIONS, "59s", "0", "367d"),
    "TOKENAPP_SESSION_LIFETIME": (*NOT_DURATIONS, "59s", "0", "3661d"),
    "TOKENAPP_MAX_SESSIONS": (*NOT_NUMBERS, "0", "10001"),
    "TOKENAPP_REFRESH_GRACE": (*NOT_DURATIONS, "601s", "11m"),
    "TOKENAPP_REVOCATION_DELAY": ("0", "0.04", "61", "-1", "nan", "inf", "1e1", "1m", "s", "1_0", "٣", "1 0", "one"),
    "TOKENAPP_JWKS_LIFETIME": (*NOT_DURATIONS, "0", "25h"),
    "TOKENAPP_ADDRESS_FAILURES": (*NOT_NUMBERS, "0", "100001"),
    "TOKENAPP_METRICS_BIND": ("x", "9464", ":9464", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "::1:9464"),
    "TOKENAPP_PASSWORD_MIN_LENGTH": (*NOT_NUMBERS, "7", "65"),
    "TOKENAPP_INVALID_TOKEN_STATUS": ("400", "200", "40\uff13", "forbidden"),
    "TOKENAPP_ALLOWED_ORIGINS": (
        *NOT_WEB_URLS,
        *MALFORMED_URLS,
        "*",
        "null",
        "https://a.example/",
        "https://a.example/path",
        "https://a.example:443",
        "https://a.example?x",
        "https://a.example;https://b.example",
        "https://a.example https://b.example",
        "https://good.example, bad",
    ),
    "TOKENAPP_INSTANCE_PATH": ("a\0b", "\udcff"),
    "TOKENAPP_TRUSTED_PROXIES": ("localhost", "10.0.0.1/8", "10.0.0", "10.0.0.0/33", "*", "1.2.3.4;5.6.7.8", "::g"),
    "TOKENAPP_LOG_FORMAT": ("JSON", "xml", "yes"),
    "TOKENAPP_PASSWORD_MEMORY": (*NOT_NUMBERS, "7", "262145"),
    "TOKENAPP_PASSWORD_PASSES": (*NOT_NUMBERS, "0", "101"),
    "TOKENAPP_SMTP_URL": ("x", "smtp://h", "http://h", "smtps://", "smtps://u@h", "smtps://h:0", "smtps://h/x"),
    "TOKENAPP_MAIL_FROM": ("x", "a@", "<a@h", "A <a@h> b"),
    "TOKENAPP_REGISTRATION": ("x", "Open", "true"),
    "TOKENAPP_REGISTRATION_DOMAINS": ("@h", "h/", "a b"),
    "TOKENAPP_MAIL_CLIENT_LIMIT": (*NOT_NUMBERS, "0", "1000001"),
    "TOKENAPP_MAIL_DAILY_LIMIT": (*NOT_NUMBERS, "0", "10000001"),
    "TOKENAPP_DEVICE_BINDING": ("on", "Report", "true"),
    "TOKENAPP_BOUND_COOKIE_LIFETIME": (*NOT_DURATIONS, "9s", "0", "25h"),
    "TOKENAPP_SECOND_FACTOR": ("none", "Required", "1"),
    "TOKENAPP_RP_ID": ("https://a.example", "a.example:443", "a b"),
}


def test_every_setting_has_valid_and_invalid_values() -> None:
    names = {setting.name for setting in SETTINGS}
    assert set(VALID) == set(INVALID) == names
    assert len(names) == len(SETTINGS)


@pytest.mark.parametrize("name", VALID)
def test_valid_value_is_read(name: str, tmp_path: Path) -> None:
    field = name.removeprefix("TOKENAPP_").lower()
    field = "smtp" if field == "smtp_url" else field
    for text, expected in VALID[name].items():
        value = getattr(load(production(**{name: text}), tmp_path), field)
        assert (value.render_as_string() if field == "database_url" else value) == expected


@pytest.mark.parametrize("name", INVALID)
def test_invalid_value_is_one_problem_that_does_not_show_the_value(name: str, tmp_path: Path) -> None:
    found = [problems_of(production(**{name: text}), tmp_path) for text in INVALID[name]]
    assert [[problem.split()[0] for problem in problems] for problems in found] == [[name]] * len(found)
    # The sentence is the same for every value, so it does not contain the value. Only quotes and invisible characters
    # have sentences of their own.
    special = ("must be written without quotes", "contains the invisible character")
    others = [problems for problems in found if not any(sentence in problems[0] for sentence in special)]
    assert others == others[:1] * len(others)
