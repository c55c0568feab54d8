"""What is in the tables: keys, clients, users and sessions."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from ipaddress import ip_address, ip_network
from typing import Final

import sqlalchemy as sa

from tokenapp import accounts, clients, db
from tokenapp.cli.doctor.finding import Check, Finding
from tokenapp.config import Settings
from tokenapp.factors import passkeys, totp_secrets
from tokenapp.keys import lifecycle
from tokenapp.models import Session

_OLD_KEY: Final = timedelta(days=365)
_NAMED: Final = 20
_RECENT: Final = timedelta(days=7)
_EXAMINED: Final = 200
_ENOUGH: Final = 5
_INTERNAL: Final = [
    ip_network(each)
    for each in ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7", "fe80::/10")
]


def _check_keys(settings: Settings, now: datetime) -> Iterator[Finding]:
    for kid in lifecycle.unreadable(now):
        yield Finding(
            "error",
            "keys",
            f"the key {kid} was encrypted under another SECRET_KEY",
            "requests that need it fail",
            "add the former SECRET_KEY to SECRET_KEY_FALLBACKS, or drop the key: `flask keys retire --now`",
        )
    for info in lifecycle.list_keys(now):
        if info.state == "active" and now - info.activates_at > _OLD_KEY and settings.production:
            yield Finding(
                "warning",
                "keys",
                f"the {info.use} key {info.kid} has been active for more than a year",
                "a copy that leaked in that time is still valid",
                f"run `flask keys rotate --use {info.use}`",
            )


def _check_clients(_settings: Settings, _now: datetime) -> Iterator[Finding]:
    for client in clients.list_clients():
        if len(client.rights.split()) == len(clients.RIGHTS):
            yield Finding(
                "warning",
                "clients",
                f"the client {client.id} has all rights",
                "it can revoke every session",
                "create one with the rights that it needs, and delete this one",
            )


def _check_users(_settings: Settings, _now: datetime) -> Iterator[Finding]:
    if not accounts.list_users(limit=1):
        yield Finding("note", "users", "there is no user", "nobody can sign in", "run `flask users create NAME`")
    for username in accounts.with_unverifiable_hash(limit=_NAMED):
        yield Finding(
            "warning",
            "users",
            f"the password hash of {username} is too expensive to verify or malformed",
            "a sign-in takes long, slows down others, or fails",
            f"set a new password: `flask users set-password {username}`",
        )


def _check_addresses(settings: Settings, now: datetime) -> Iterator[Finding]:
    """Find a proxy whose address is taken for that of every client."""
    if not settings.production and not settings.trusted_proxies:
        return
    recent = sa.select(Session.ip_address, Session.user_id).where(Session.id >= db.first_id(now - _RECENT))
    rows = db.execute_now(recent.order_by(Session.id.desc()).limit(_EXAMINED))
    addresses = {row.ip_address for row in rows}
    if len(rows) < _ENOUGH or len(addresses) > 1:
        return
    [address] = addresses
    if len({row.user_id for row in rows}) == 1 and not _is_internal(address):
        return  # one person at home
    yield Finding(
        "warning",
        "TOKENAPP_TRUSTED_PROXIES",
        f"all {len(rows)} recent sessions have the address {address or 'of no client'}",
        "if it is a proxy's, all clients share one rate limit, and the device list and the audit log are wrong",
        "add the proxy's address to TOKENAPP_TRUSTED_PROXIES, and let the proxy send X-Forwarded-For",
    )


def _check_passkeys(settings: Settings, _now: datetime) -> Iterator[Finding]:
    for domain, number in passkeys.domains().items():
        if domain != settings.rp_id:
            yield Finding(
                "error",
                "TOKENAPP_RP_ID",
                f"{number} passkeys are for {domain}, and the service is for {settings.rp_id or 'none'}",
                "browsers do not offer them, and their owners need another way to sign in",
                f"set TOKENAPP_RP_ID={domain} if that is a parent domain of the issuer's, or restore the issuer",
            )


def _check_apps(_settings: Settings, _now: datetime) -> Iterator[Finding]:
    former, unreadable = totp_secrets.count_outdated()
    if former:
        yield Finding(
            "warning",
            "authenticator apps",
            f"{former} of them still need a former SECRET_KEY",
            "without it their users cannot sign in with them",
            "run `flask keys reencrypt` while it is in SECRET_KEY_FALLBACKS",
        )
    if unreadable:
        yield Finding(
            "error",
            "authenticator apps",
            f"{unreadable} of them were encrypted under another SECRET_KEY",
            "their users cannot sign in with them",
            "add the former SECRET_KEY to SECRET_KEY_FALLBACKS, or run `flask users reset-factors NAME`",
        )


def _is_internal(address: str | None) -> bool:
    try:
        parsed = ip_address(address or "")
    except ValueError:  # a unix socket has none
        return True
    return any(parsed in network for network in _INTERNAL)


CHECKS: Final[tuple[Check, ...]] = (
    _check_keys,
    _check_clients,
    _check_users,
    _check_addresses,
    _check_passkeys,
    _check_apps,
)
