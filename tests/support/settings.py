"""Sets of valid settings, and the problems of invalid ones."""

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tokenapp.config import ConfigError, load

SECRET_NAMES: Final = ("SECRET_KEY", "ACCESS_TOKEN_SECRET", "REFRESH_TOKEN_SECRET")
FALLBACK_NAMES: Final = tuple(f"{name}_FALLBACKS" for name in SECRET_NAMES)
STRONG: Final = "Zu8-Qe1rVb7_nXw3Lk9pTy5mGd2hJc6s" + secrets.token_urlsafe(16)
LEAK: Final = "Hunter2-Hunter2"
# A value that must not be shown, and problems of every kind.
INVALID: Final = {
    "SECRET_KEY": LEAK,
    "ACCESS_TOKEN_SECRET": LEAK,
    "REFRESH_TOKEN_SECRET": LEAK,
    "ACCESS_TOKEN_SECRET_FALLBACKS": f"{LEAK},x{LEAK}",
    "REFRESH_TOKEN_SECRET_FALLBACKS": f"y{LEAK}",
    "DATABASE_URL": f"mysql://alice:{LEAK}@db/name",
    "PORT": "0",
    "WEB_CONCURRENCY": "many",
    "TOKENAPP_ISSUER": "http://a.example",
    "TOKENAPP_ACCESS_LIFETIME": "soon",
    "TOKENAPP_REFRESH_GRACE": "1h",
    "TOKENAPP_ALLOWED_ORIGINS": "http://a.example",
    "TOKENAPP_TRUSTED_PROXIES": "proxy",
    "TOKENAPP_PASSWORD_MEMORY": "8",
    "TOKENAPP_PASSWORD_PASSES": "1",
    "TOKENAPP_NO_SUCH_THING": "1",
}


def production(**changes: str) -> dict[str, str]:
    """Return the minimal settings of production, with `changes`."""
    return {"SECRET_KEY": STRONG, "TOKENAPP_ISSUER": "https://auth.example.com", **changes}


def development(**changes: str) -> dict[str, str]:
    """Return the settings of a development server, with `changes`."""
    return {"TOKENAPP_ENV": "development", "SECRET_KEY": STRONG, **changes}


def problems_of(environ: Mapping[str, str], instance: Path) -> list[str]:
    """Return the problems of `environ`, or an empty list if it is valid."""
    try:
        load(environ, instance)
    except ConfigError as error:
        return error.problems
    return []
