"""Settings that are allowed and have consequences."""

from collections.abc import Iterator
from datetime import datetime
from ipaddress import ip_network
from typing import Final

from tokenapp.cli.doctor.finding import Check, Finding
from tokenapp.config import Settings

_WIDEST: Final = {4: 8, 6: 16}  # the shortest prefix of a network that one organization can have


def _check_mode(settings: Settings, _now: datetime) -> Iterator[Finding]:
    if not settings.production:
        yield Finding(
            "warning",
            "TOKENAPP_ENV",
            "the mode is development",
            "the refresh cookie is not Secure and weak settings are accepted",
            "unset TOKENAPP_ENV, or set it to production, if real users sign in",
        )


def _check_secrets(settings: Settings, _now: datetime) -> Iterator[Finding]:
    fallbacks = settings.access_token_secret_fallbacks + settings.refresh_token_secret_fallbacks
    if fallbacks or settings.secret_key_fallbacks:
        yield Finding(
            "warning",
            "…_FALLBACKS",
            "former secrets are still accepted",
            "anyone who knows one of them can still use it",
            "remove them when the longest token lifetime has passed since the change",
        )


def _check_issuer(settings: Settings, _now: datetime) -> Iterator[Finding]:
    if settings.production and "localhost" in settings.issuer:
        yield Finding(
            "error",
            "TOKENAPP_ISSUER",
            "it is a URL of this machine",
            "other services cannot fetch the public keys from it and will reject the tokens",
            "set it to the public https URL",
        )


def _check_origins(settings: Settings, _now: datetime) -> Iterator[Finding]:
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


def _check_proxies(settings: Settings, _now: datetime) -> Iterator[Finding]:
    if settings.production and not settings.trusted_proxies:
        yield Finding(
            "warning",
            "TOKENAPP_TRUSTED_PROXIES",
            "it is not set",
            "behind a proxy, all clients seem to have the proxy's address and share one rate limit",
            "set it to the proxy's address, or ignore this if there is no proxy",
        )
    for proxy in settings.trusted_proxies:
        if _is_wide(proxy):
            yield Finding(
                "warning",
                "TOKENAPP_TRUSTED_PROXIES",
                f"{proxy} trusts addresses that cannot all be proxies",
                "a client that reaches the service directly chooses the address that is limited and recorded",
                "list the addresses or the network of the proxies alone",
            )


def _check_grace_period(settings: Settings, _now: datetime) -> Iterator[Finding]:
    if settings.refresh_grace == 0:
        yield Finding(
            "warning",
            "TOKENAPP_REFRESH_GRACE",
            "it is 0: a refresh token works exactly once",
            "a lost response, a retry or two tabs that refresh at once sign the user out",
            "set it to 30s, unless every client serializes its refreshes",
        )


def _is_wide(proxy: str) -> bool:
    try:
        network = ip_network(proxy)
    except ValueError:  # not an address
        return False
    return network.prefixlen < _WIDEST[network.version]


CHECKS: Final[tuple[Check, ...]] = (
    _check_mode,
    _check_secrets,
    _check_issuer,
    _check_origins,
    _check_proxies,
    _check_grace_period,
)
