"""Other servers: the rate limit's, and the one at the issuer's URL."""

import json
from collections.abc import Iterator
from datetime import datetime
from http.client import HTTPException
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, build_opener

from tokenapp.cli.doctor.finding import Check, Finding
from tokenapp.config import Settings

_TIMEOUT: Final = 2.0
_LONGEST: Final = 65536
_GATEWAY_ERRORS: Final = range(502, 505)  # from a proxy in front of a service that is not running


def _check_limiter(settings: Settings, _now: datetime) -> Iterator[Finding]:
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


def _check_issuer(settings: Settings, _now: datetime) -> Iterator[Finding]:
    if settings.production and "localhost" in settings.issuer:
        return  # an error in any case
    try:
        answer = _issuer_at(settings.issuer)
    except (OSError, HTTPException) as error:
        yield Finding(
            "note",
            "TOKENAPP_ISSUER",
            f"nothing responds at {settings.issuer} ({getattr(error, 'reason', None) or type(error).__name__})",
            "other services cannot fetch the public keys from it while that is so",
            "start the service and its proxy, or correct the URL; from this machine it may be unreachable",
        )
        return
    if answer != settings.issuer:
        yield Finding(
            "warning",
            "TOKENAPP_ISSUER",
            f"what responds at {settings.issuer} is not this service",
            "other services cannot fetch the public keys from it and will reject the tokens",
            "set it to the URL at which clients reach this service, and restart the service after a change",
        )


def _issuer_at(issuer: str) -> Any:
    """Return the issuer that the metadata at `issuer` name, or None (RFC 8414, 3).

    Raises:
        OSError, HTTPException: nothing responds.
    """
    parts = urlsplit(issuer)
    url = f"{parts.scheme}://{parts.netloc}/.well-known/oauth-authorization-server{parts.path}"
    try:
        with build_opener(ProxyHandler({})).open(url, timeout=_TIMEOUT) as response:
            document = json.loads(response.read(_LONGEST))
    except HTTPError as error:
        error.close()
        if error.code in _GATEWAY_ERRORS:
            raise URLError(error.reason) from None
        return None
    except ValueError:
        return None
    return document.get("issuer") if isinstance(document, dict) else None


def _server_error(url: str) -> str | None:
    import redis  # noqa: PLC0415 -- most installations have no such server
    from redis.backoff import NoBackoff  # noqa: PLC0415
    from redis.retry import Retry  # noqa: PLC0415

    options: Any = {"socket_timeout": _TIMEOUT, "socket_connect_timeout": _TIMEOUT, "retry": Retry(NoBackoff(), 0)}
    try:
        with redis.Redis.from_url(url, **options) as server:
            server.ping()
    except (redis.RedisError, OSError, ValueError) as error:
        return type(error).__name__  # the text may contain the password
    return None


CHECKS: Final[tuple[Check, ...]] = (_check_limiter, _check_issuer)
