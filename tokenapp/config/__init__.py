"""Every setting of the service, read and checked whole before anything starts."""

import os
import secrets
from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final

from sqlalchemy.engine import URL

from tokenapp.config import checks
from tokenapp.config.checks import (
    MIN_DISTINCT_CHARACTERS,
    MIN_PASSWORD_MEMORY,
    MIN_PASSWORD_PASSES,
    MIN_SECRET_BYTES,
    PRINTED_SECRETS,
)
from tokenapp.config.table import FILE_SETTINGS, SETTINGS, Setting, Settings

__all__ = [
    "FILE_SETTINGS",
    "INSTANCE",
    "MIN_DISTINCT_CHARACTERS",
    "MIN_PASSWORD_MEMORY",
    "MIN_PASSWORD_PASSES",
    "MIN_SECRET_BYTES",
    "PRINTED_SECRETS",
    "ROOT",
    "SETTINGS",
    "ConfigError",
    "Setting",
    "Settings",
    "context",
    "current",
    "load",
]

ROOT: Final = Path(__file__).resolve().parent.parent.parent
INSTANCE: Final = ROOT / "instance"
# The settings of the current application, set while its context is active.
context: Final[ContextVar[Settings]] = ContextVar("settings")
current: Final = context.get


class ConfigError(Exception):
    """The settings cannot be used; its text lists every fault by the setting's name and shows no value of a secret."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        super().__init__("tokenapp cannot start:\n" + "\n".join(f"  - {fault}" for fault in faults))


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
    if development and values.get("secret_key") == "":
        values["secret_key"] = _development_secret(instance, faults)
    faults += checks.secret_faults(values, strict=not development) + checks.limit_faults(values)
    if "env" in values and not development:
        faults += checks.production_faults(values)
    if faults:
        raise ConfigError(faults)
    return Settings(**values)


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
        if not environ[file_setting]:
            continue
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
        secret = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as fault:
        faults.append(f"SECRET_KEY is not set and none can be kept in the instance folder: {type(fault).__name__}")
        return ""
    if not secret:
        faults.append("SECRET_KEY is not set and the file kept for it in the instance folder is empty")
    return secret
