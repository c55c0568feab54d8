"""The settings, read from environment variables and checked before the start."""

import dataclasses
import os
import secrets
from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final

from sqlalchemy.engine import URL

from tokenapp.config import checks, environment, readers
from tokenapp.config.settings import FILE_SETTINGS, SETTINGS, Setting, Settings

__all__ = [
    "FILE_SETTINGS",
    "INSTANCE",
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
# Beside the program in a checkout, and never in site-packages.
INSTANCE: Final = (ROOT if (ROOT / "setup.cfg").is_file() else Path.cwd()) / "instance"
# The settings of the current application, set while its context is active.
context: Final[ContextVar[Settings]] = ContextVar("settings")
current: Final = context.get


class ConfigError(Exception):
    """The settings are invalid. The text lists every problem, but shows no secret."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("tokenapp cannot start:\n" + "\n".join(f"  - {problem}" for problem in problems))


def load(environ: Mapping[str, str], instance: Path) -> Settings:
    """Read all settings from `environ`.

    In development a missing `SECRET_KEY` is generated once and stored in the instance folder, which is `instance`
    unless a setting names another.

    Raises:
        ConfigError: with all problems.
    """
    problems = [*environment.find_unknown(environ)]
    texts = environment.read(environ, problems)
    values: dict[str, Any] = {}
    for field in dataclasses.fields(Settings):
        setting: Setting = field.metadata["setting"]
        text = texts[setting.name]
        if text is None:
            continue
        try:
            values[field.name] = _read(setting, text or setting.default)
        except ValueError as error:
            problems.append(f"{setting.name} {error}")
    env = values.get("env")
    instance = values["instance_path"] = values.get("instance_path") or instance
    values["bind"] = readers.with_port(values.get("bind", ""), values.get("port", 0))
    if values.get("database_url", "invalid") is None:
        values["database_url"] = _default_database(instance, problems)
    if values.get("issuer", "invalid") is None:
        local = f"http://localhost:{values.get('port', 3005)}{values.get('script_name', '')}"
        values["issuer"] = local if env == "development" else ""
    if values.get("secret_key") == "" and env == "development":
        values["secret_key"] = _development_secret(instance, problems)
    if values.get("registration", "invalid") is None:
        values["registration"] = "open" if env == "development" else "closed"
    values["rp_id"] = values.get("rp_id") or checks.default_rp_id(values.get("issuer") or "")
    problems += checks.check_secrets(values, strict=env != "development")
    problems += checks.check_limits(values)
    if env == "production":
        problems += checks.check_production(values)
    if problems:
        raise ConfigError(problems)
    return Settings(**values)


def _read(setting: Setting, text: str | None) -> Any:
    try:
        return None if text is None else setting.read(text)
    except ValueError:
        if text is None or not _is_readable(setting, environment.without_quotes(text)):
            raise
    raise ValueError(environment.WITHOUT_QUOTES)


def _is_readable(setting: Setting, text: str) -> bool:
    try:
        setting.read(text)
    except ValueError:
        return False
    return True


def _default_database(instance: Path, problems: list[str]) -> URL:
    try:
        instance.mkdir(parents=True, exist_ok=True)
    except OSError:
        problems.append("DATABASE_URL is not set and the instance folder cannot be created")
    if instance.is_dir() and not os.access(instance, os.W_OK):
        problems.append("DATABASE_URL is not set and the instance folder is read-only")
    return URL.create("sqlite", database=str(instance / "tokenapp.db"))


def _development_secret(instance: Path, problems: list[str]) -> str:
    """Return the stored secret. If several processes create it, the first wins."""
    path = instance / "secret_key"
    try:
        instance.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            draft = instance / f".secret_key.{secrets.token_hex(8)}"
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_urlsafe(48))
            try:
                os.link(draft, path)  # so that no process reads a half-written secret
            except FileExistsError:
                pass
            finally:
                draft.unlink()
        secret = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"SECRET_KEY is not set and cannot be stored in the instance folder: {type(error).__name__}")
        return ""
    if not secret:
        problems.append("SECRET_KEY is not set and its file in the instance folder is empty")
    return secret
