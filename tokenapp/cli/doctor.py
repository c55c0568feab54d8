"""``flask doctor``: what is wrong with this installation, what it will break, and how to mend it."""

import stat
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal

import click
import msgspec
import sqlalchemy as sa
from flask.cli import with_appcontext

from tokenapp import config, db
from tokenapp.cli import output
from tokenapp.cli.failures import Command
from tokenapp.config import Settings
from tokenapp.db import schema
from tokenapp.keys import lifecycle

Severity = Literal["error", "warning"]
EXIT_CODES: Final = {"error": 2, "warning": 1}
_CLOCK_TOLERANCE: Final = timedelta(seconds=2)
_PATIENCE: Final = 2.0
_OLD_KEY: Final = timedelta(days=365)


class Finding(msgspec.Struct, rename="camel"):
    """One thing that is wrong: how bad, what, what it breaks, how it is mended."""

    severity: Severity
    subject: str
    problem: str
    breaks: str
    mend: str


@click.command("doctor", cls=Command)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@with_appcontext
def doctor(*, as_json: bool) -> None:
    """Examine settings, database, keys, clock and files: one line for each finding.

    Exit code 0: nothing found; 1: warnings; 2: errors.
    """
    found = [finding for check in _CHECKS for finding in check(config.current())]
    if as_json:
        output.show_list(found, (), as_json=True)
    else:
        for one in found:
            click.echo(f"{one.severity}: {one.subject}: {one.problem}; {one.breaks}. Mend: {one.mend}.")
    if not found and not as_json:
        click.echo("Nothing found.")
    sys.exit(max((EXIT_CODES[finding.severity] for finding in found), default=0))


def _check_mode(settings: Settings) -> Iterator[Finding]:
    if not settings.production:
        yield Finding(
            "warning",
            "TOKENAPP_ENV",
            "this is development",
            "the refresh cookie is not Secure and weak settings are let through",
            "leave TOKENAPP_ENV out, or set it to production, wherever real people sign in",
        )


def _check_secrets(settings: Settings) -> Iterator[Finding]:
    former = settings.access_token_secret_fallbacks + settings.refresh_token_secret_fallbacks
    if former or settings.secret_key_fallbacks:
        yield Finding(
            "warning",
            "…_FALLBACKS",
            "former secrets are still accepted",
            "who has one of them can still use it",
            "remove them once the longest token life has passed since the change",
        )


def _check_issuer(settings: Settings) -> Iterator[Finding]:
    if settings.production and "localhost" in settings.issuer:
        yield Finding(
            "error",
            "TOKENAPP_ISSUER",
            "it names this machine",
            "other services cannot fetch our keys from there and will refuse our tokens",
            "set it to the public https URL",
        )


def _check_origins(settings: Settings) -> Iterator[Finding]:
    host = settings.issuer.partition("://")[2].partition(":")[0].partition("/")[0]
    for origin in settings.allowed_origins:
        other = origin.partition("://")[2].partition(":")[0]
        if other.split(".")[-2:] != host.split(".")[-2:]:
            yield Finding(
                "warning",
                "TOKENAPP_ALLOWED_ORIGINS",
                f"{origin} is not on the site of {host}",
                "browsers send no SameSite=Strict cookie from there: its pages cannot refresh",
                "serve the page and this service under one registrable domain",
            )


def _check_proxies(settings: Settings) -> Iterator[Finding]:
    if settings.production and not settings.trusted_proxies:
        yield Finding(
            "warning",
            "TOKENAPP_TRUSTED_PROXIES",
            "it is not set",
            "if a proxy stands before us, everybody seems to come from its address and shares one limit on guesses",
            "set it to the proxy's address, or ignore this if there is none",
        )


def _check_database(settings: Settings) -> Iterator[Finding]:
    if settings.production and settings.database_url.drivername.startswith("sqlite"):
        yield Finding(
            "warning",
            "DATABASE_URL",
            "it is SQLite",
            "only processes of this one machine can share it, and never over a network file system",
            "use PostgreSQL when there is to be a second host",
        )
    try:
        stored = schema.stored_version()
    except Exception as fault:
        if not db.is_fault(fault):
            raise
        yield Finding(
            "error",
            "DATABASE_URL",
            "the database cannot be reached or has no tables",
            "nobody can sign in or refresh",
            "see that it runs and can be reached, then run `flask db upgrade`",
        )
        return
    if stored != (newest := schema.VERSION):
        yield Finding(
            "error",
            "migrations",
            f"the database is at {stored}, the program at {newest}",
            "requests fail where tables differ",
            "run `flask db upgrade`",
        )


def _check_clock(_settings: Settings) -> Iterator[Finding]:
    if db.db.engine.dialect.name != "postgresql":
        return
    try:
        theirs = db.execute_now(sa.select(sa.func.clock_timestamp(type_=db.Instant())))[0][0]
    except Exception as fault:
        if not db.is_fault(fault):
            raise
        return  # said already
    apart = abs(datetime.now(UTC) - theirs)
    if apart > _CLOCK_TOLERANCE:
        yield Finding(
            "error",
            "clock",
            f"ours and the database's differ by {apart.total_seconds():.0f} s",
            "windows and lifetimes are wrong by as much",
            "run a time service (NTP) on both",
        )


def _check_keys(settings: Settings) -> Iterator[Finding]:
    now = datetime.now(UTC)
    try:
        for kid in lifecycle.unreadable(now):
            yield Finding(
                "error",
                "keys",
                f"the key {kid} was sealed under another SECRET_KEY",
                "no token can be made or verified once it is needed",
                "put the former SECRET_KEY into SECRET_KEY_FALLBACKS, or drop it: `flask keys retire --now`",
            )
        current = [info for info in lifecycle.list_keys(now) if info.state == "active"]
    except Exception as fault:
        if not db.is_fault(fault):
            raise
        return  # said already
    for info in current:
        if now - info.activates_at > _OLD_KEY and settings.production:
            yield Finding(
                "warning",
                "keys",
                f"the {info.use} key {info.kid} has signed for more than a year",
                "a copy that leaked in all that time is still good",
                f"run `flask keys rotate --use {info.use}`",
            )


def _check_limiter(settings: Settings) -> Iterator[Finding]:
    if not settings.ratelimit_storage_uri:
        return
    fault = _fault_of_server(settings.ratelimit_storage_uri)
    if fault is not None:
        yield Finding(
            "warning",
            "RATELIMIT_STORAGE_URI",
            f"the server does not answer ({fault})",
            "wrong passwords per address are counted in the database instead, a write for each",
            "see that it runs and can be reached, or unset RATELIMIT_STORAGE_URI",
        )


def _check_files(settings: Settings) -> Iterator[Finding]:
    watched = [config.INSTANCE / "secret_key"]
    if settings.database_url.drivername.startswith("sqlite") and settings.database_url.database:
        watched.append(Path(settings.database_url.database))
    for path in watched:
        if path.exists() and path.stat().st_mode & (stat.S_IRWXO | stat.S_IWGRP):
            yield Finding(
                "error" if path.name == "secret_key" else "warning",
                path.name,
                f"its mode is {stat.S_IMODE(path.stat().st_mode):04o}",
                "other users of this machine can read or change it",
                f"chmod 600 {path}",
            )


def _fault_of_server(url: str) -> str | None:
    import redis  # noqa: PLC0415 -- most installations have no such server
    from redis.backoff import NoBackoff  # noqa: PLC0415
    from redis.retry import Retry  # noqa: PLC0415

    patience: Any = {"socket_timeout": _PATIENCE, "socket_connect_timeout": _PATIENCE, "retry": Retry(NoBackoff(), 0)}
    try:
        with redis.Redis.from_url(url, **patience) as server:
            server.ping()
    except (redis.RedisError, OSError, ValueError) as fault:
        return type(fault).__name__  # its text could hold the password
    return None


_CHECKS: Final[tuple[Callable[[Settings], Iterator[Finding]], ...]] = (
    _check_mode,
    _check_secrets,
    _check_issuer,
    _check_origins,
    _check_proxies,
    _check_database,
    _check_clock,
    _check_keys,
    _check_limiter,
    _check_files,
)
