"""``flask doctor``: problems of an installation, and how to fix them."""

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

from tokenapp import accounts, clients, config, db
from tokenapp.cli import output
from tokenapp.cli.command import Command
from tokenapp.config import Settings
from tokenapp.db import schema
from tokenapp.keys import lifecycle

Severity = Literal["error", "warning"]
EXIT_CODES: Final = {"error": 2, "warning": 1}
_CLOCK_TOLERANCE: Final = timedelta(seconds=2)
_SERVER_TIMEOUT: Final = 2.0
_NAMED: Final = 20
_OLD_KEY: Final = timedelta(days=365)


class Finding(msgspec.Struct, rename="camel"):
    """A problem: how severe it is, where it is, what it breaks and how to fix it."""

    severity: Severity
    subject: str
    problem: str
    breaks: str
    fix: str = msgspec.field(name="mend")


@click.command("doctor", cls=Command)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@with_appcontext
def doctor(*, as_json: bool) -> None:
    """Check settings, database, keys, clock and files; print a line per problem.

    The exit code is 0 if there are no problems, 1 if there are warnings, and 2 if there are errors.
    """
    findings = [finding for check in _CHECKS for finding in check(config.current())]
    if as_json:
        output.show_list(findings, (), as_json=True)
    else:
        for each in findings:
            click.echo(f"{each.severity}: {each.subject}: {each.problem}; {each.breaks}. Fix: {each.fix}.")
        if not findings:
            click.echo("No problems found.")
    sys.exit(max((EXIT_CODES[each.severity] for each in findings), default=0))


def _check_mode(settings: Settings) -> Iterator[Finding]:
    if not settings.production:
        yield Finding(
            "warning",
            "TOKENAPP_ENV",
            "the mode is development",
            "the refresh cookie is not Secure and weak settings are accepted",
            "unset TOKENAPP_ENV, or set it to production, if real users sign in",
        )


def _check_secrets(settings: Settings) -> Iterator[Finding]:
    fallbacks = settings.access_token_secret_fallbacks + settings.refresh_token_secret_fallbacks
    if fallbacks or settings.secret_key_fallbacks:
        yield Finding(
            "warning",
            "…_FALLBACKS",
            "former secrets are still accepted",
            "anyone who knows one of them can still use it",
            "remove them when the longest token lifetime has passed since the change",
        )


def _check_issuer(settings: Settings) -> Iterator[Finding]:
    if settings.production and "localhost" in settings.issuer:
        yield Finding(
            "error",
            "TOKENAPP_ISSUER",
            "it is a URL of this machine",
            "other services cannot fetch the public keys from it and will reject the tokens",
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
                f"{origin} is not on the same site as {host}",
                "browsers do not send the SameSite=Strict cookie from there, so its pages cannot refresh",
                "serve the pages and this service under one registrable domain",
            )


def _check_proxies(settings: Settings) -> Iterator[Finding]:
    if settings.production and not settings.trusted_proxies:
        yield Finding(
            "warning",
            "TOKENAPP_TRUSTED_PROXIES",
            "it is not set",
            "behind a proxy, all clients seem to have the proxy's address and share one rate limit",
            "set it to the proxy's address, or ignore this if there is no proxy",
        )


def _check_database(settings: Settings) -> Iterator[Finding]:
    if settings.production and settings.database_url.drivername.startswith("sqlite"):
        yield Finding(
            "warning",
            "DATABASE_URL",
            "it is SQLite",
            "only processes on this machine can share it, and not over a network file system",
            "use PostgreSQL before you add a second host",
        )
    try:
        stored = schema.stored_version()
    except Exception as error:
        if not db.is_fault(error):
            raise
        yield Finding(
            "error",
            "DATABASE_URL",
            "the database cannot be reached or has no tables",
            "users cannot sign in or refresh",
            "check that it runs and is reachable, then run `flask db upgrade`",
        )
        return
    if stored != (newest := schema.VERSION):
        yield Finding(
            "error",
            "migrations",
            f"the database has version {stored}, the program needs {newest}",
            "requests fail where the tables differ",
            "run `flask db upgrade`",
        )


def _check_clock(_settings: Settings) -> Iterator[Finding]:
    if db.db.engine.dialect.name != "postgresql":
        return
    try:
        database_time = db.execute_now(sa.select(sa.func.clock_timestamp(type_=db.Instant())))[0][0]
    except Exception as error:
        if not db.is_fault(error):
            raise
        return  # reported by _check_database
    difference = abs(datetime.now(UTC) - database_time)
    if difference > _CLOCK_TOLERANCE:
        yield Finding(
            "error",
            "clock",
            f"this machine's differs from the database's by {difference.total_seconds():.0f} s",
            "grace periods and lifetimes are wrong by as much",
            "synchronize both with a time service (NTP)",
        )


def _check_keys(settings: Settings) -> Iterator[Finding]:
    now = datetime.now(UTC)
    try:
        for kid in lifecycle.unreadable(now):
            yield Finding(
                "error",
                "keys",
                f"the key {kid} was encrypted under another SECRET_KEY",
                "requests that need it fail",
                "add the former SECRET_KEY to SECRET_KEY_FALLBACKS, or drop the key: `flask keys retire --now`",
            )
        active = [info for info in lifecycle.list_keys(now) if info.state == "active"]
    except Exception as error:
        if not db.is_fault(error):
            raise
        return  # reported by _check_database
    for info in active:
        if now - info.activates_at > _OLD_KEY and settings.production:
            yield Finding(
                "warning",
                "keys",
                f"the {info.use} key {info.kid} has been active for more than a year",
                "a copy that leaked in that time is still valid",
                f"run `flask keys rotate --use {info.use}`",
            )


def _check_stored_rows(_settings: Settings) -> Iterator[Finding]:
    """Find clients with all rights, and users whose hash cannot be verified."""
    try:
        powerful = [client.id for client in clients.list_clients() if len(client.rights.split()) == len(clients.RIGHTS)]
        unverifiable = accounts.with_unverifiable_hash(limit=_NAMED)
    except Exception as error:
        if not db.is_fault(error):
            raise
        return  # reported by _check_database
    for client_id in powerful:
        yield Finding(
            "warning",
            "clients",
            f"the client {client_id} has all rights",
            "it can revoke every session",
            "create one with the rights that it needs, and delete this one",
        )
    for username in unverifiable:
        yield Finding(
            "warning",
            "users",
            f"the password hash of {username} is too expensive to verify or malformed",
            "a sign-in takes long, slows down others, or fails",
            f"set a new password: `flask users set-password {username}`",
        )


def _check_limiter(settings: Settings) -> Iterator[Finding]:
    if not settings.ratelimit_storage_uri:
        return
    error = _server_error(settings.ratelimit_storage_uri)
    if error is not None:
        yield Finding(
            "warning",
            "RATELIMIT_STORAGE_URI",
            f"the server does not respond ({error})",
            "wrong passwords per address are counted in the database instead, with a write for each",
            "check that it runs and is reachable, or unset RATELIMIT_STORAGE_URI",
        )


def _check_files(settings: Settings) -> Iterator[Finding]:
    paths = [settings.instance_path / "secret_key"]
    if settings.database_url.drivername.startswith("sqlite") and settings.database_url.database:
        paths.append(Path(settings.database_url.database))
    for path in paths:
        if path.exists() and path.stat().st_mode & (stat.S_IRWXO | stat.S_IWGRP):
            yield Finding(
                "error" if path.name == "secret_key" else "warning",
                path.name,
                f"its mode is {stat.S_IMODE(path.stat().st_mode):04o}",
                "other users of this machine can read or change it",
                f"run `chmod 600 {path}`",
            )


def _server_error(url: str) -> str | None:
    import redis  # noqa: PLC0415 -- most installations have no such server
    from redis.backoff import NoBackoff  # noqa: PLC0415
    from redis.retry import Retry  # noqa: PLC0415

    options: Any = {
        "socket_timeout": _SERVER_TIMEOUT,
        "socket_connect_timeout": _SERVER_TIMEOUT,
        "retry": Retry(NoBackoff(), 0),
    }
    try:
        with redis.Redis.from_url(url, **options) as server:
            server.ping()
    except (redis.RedisError, OSError, ValueError) as error:
        return type(error).__name__  # the text may contain the password
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
    _check_stored_rows,
    _check_limiter,
    _check_files,
)
