"""Checks across settings, and the stricter rules of production.

Each takes the values that could be read, by field name, and yields a sentence for every problem.
"""

import re
from collections.abc import Iterator, Mapping
from math import inf
from typing import Any, Final
from urllib.parse import urlsplit

from zxcvbn import zxcvbn

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
MIN_SECRET_BYTES: Final = 32
MIN_DISTINCT_CHARACTERS: Final = 10
MIN_PASSWORD_MEMORY: Final = 19456
MIN_PASSWORD_PASSES: Final = 2
MAX_PASSWORD_MEMORY: Final = 1 << 18  # KiB
MAX_PASSWORD_COST: Final = 1 << 20  # KiB times passes; a sign-in with a costlier hash would harm others
# Of random bytes there are many more: 32 hexadecimal digits have 10**32.
MIN_GUESSES: Final = 10**24
_ESTIMATED: Final = 72  # characters
# Words of placeholders, which random text does not contain.
_PLACEHOLDER: Final = re.compile(
    r"secret|passw|change.?(me|in|this)|your[-_ ]|example|placeholder|replace|insert|goes.?here", re.IGNORECASE
)
# Published in these tests, in examples, and in the Express program that this service replaces.
PUBLISHED_SECRETS: Final = frozenset(
    {
        "a key for tests that is long enough to be taken",
        "change-me",
        "secret",
        "your-access-token-secret",
        "your-refresh-token-secret",
    }
)


def check_secrets(values: Mapping[str, Any], *, strict: bool) -> Iterator[str]:
    """Find secrets that are used twice and, if `strict`, missing or weak ones."""
    if strict and values.get("secret_key") == "":
        yield "SECRET_KEY is not set: run `python -c 'import secrets; print(secrets.token_urlsafe(48))'`"
    seen: dict[str, str] = {}
    for name in ("SECRET_KEY", "ACCESS_TOKEN_SECRET", "REFRESH_TOKEN_SECRET"):
        fallbacks = values.get(f"{name.lower()}_fallbacks", ())
        for label, value in [(name, values.get(name.lower())), *((f"{name}_FALLBACKS", each) for each in fallbacks)]:
            if not value:
                continue
            if strict and _is_weak(value):
                yield f"{label} is weak: it needs at least {MIN_SECRET_BYTES} random bytes"
            if value in seen:
                yield f"{label} has the same value as {seen[value]}: each secret must be different"
            seen[value] = label


def check_limits(values: Mapping[str, Any]) -> Iterator[str]:
    """Find limits that contradict each other."""
    for name in ("access_lifetime", "refresh_lifetime"):
        if values.get(name, 0) > values.get("session_lifetime", inf):
            yield f"TOKENAPP_{name.upper()} is longer than TOKENAPP_SESSION_LIFETIME"
    if values.get("password_memory", 0) * values.get("password_passes", 0) > MAX_PASSWORD_COST:
        yield f"TOKENAPP_PASSWORD_MEMORY times TOKENAPP_PASSWORD_PASSES must be at most {MAX_PASSWORD_COST}"
    issuer, script_name = values.get("issuer"), values.get("script_name")
    if issuer and script_name and urlsplit(issuer).path != script_name:
        yield "SCRIPT_NAME is not the path of TOKENAPP_ISSUER"
    rp_id = values.get("rp_id")
    if issuer and rp_id and rp_id != default_rp_id(issuer) and not _covers(rp_id, issuer):
        yield "TOKENAPP_RP_ID must be the host of TOKENAPP_ISSUER or a parent domain of it that one owner can register"
    for problem in values["brand_color"].problems() if values.get("brand_color") else ():
        yield f"TOKENAPP_BRAND_COLOR {problem}"
    if (values.get("metrics_bind") or ("", None))[1] == values.get("port", 0):
        yield "TOKENAPP_METRICS_BIND has the same port as PORT"


def check_production(values: Mapping[str, Any]) -> Iterator[str]:
    """Find values that are allowed in development only."""
    issuer = values.get("issuer")
    if issuer == "":
        yield "TOKENAPP_ISSUER is not set: it is the public https URL of this service"
    elif issuer is not None and not issuer.startswith("https://"):
        yield "TOKENAPP_ISSUER must be https in production"
    if not all(origin.startswith("https://") for origin in values.get("allowed_origins", ())):
        yield "TOKENAPP_ALLOWED_ORIGINS must be https in production"
    if values.get("password_memory", inf) < MIN_PASSWORD_MEMORY:
        yield f"TOKENAPP_PASSWORD_MEMORY must be at least {MIN_PASSWORD_MEMORY} in production"
    if values.get("password_passes", inf) < MIN_PASSWORD_PASSES:
        yield f"TOKENAPP_PASSWORD_PASSES must be at least {MIN_PASSWORD_PASSES} in production"

    if values.get("smtp", "invalid") is None and values.get("registration") in {"invite", "open"}:
        yield "TOKENAPP_REGISTRATION needs TOKENAPP_SMTP_URL"


def default_rp_id(issuer: str) -> str:
    """Return the host of the issuer, or nothing if it cannot have passkeys.

    Browsers offer passkeys to secure pages only, and not at IP addresses.
    """
    parts = urlsplit(issuer)
    host = parts.hostname or ""
    is_local = host == "localhost" or host.endswith(".localhost")
    is_domain = ":" not in host and not host.rpartition(".")[2].isdigit()
    return host if is_domain and (parts.scheme == "https" or is_local) else ""


def origin_of(url: str) -> str:
    """Return the origin of a web URL as browsers write it (RFC 6454, 6.2)."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = "" if parts.port in {None, _DEFAULT_PORTS[parts.scheme]} else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"


def _covers(rp_id: str, issuer: str) -> bool:
    from fido2.rpid import verify_rp_id  # noqa: PLC0415 -- reads the list of public suffixes; rarely needed

    return bool(verify_rp_id(rp_id, issuer))


def _is_weak(value: str) -> bool:
    return (
        len(value.encode()) < MIN_SECRET_BYTES
        or len(set(value)) < MIN_DISTINCT_CHARACTERS
        or _PLACEHOLDER.search(value) is not None
        or value.lower() in PUBLISHED_SECRETS
        or zxcvbn(value[:_ESTIMATED], max_length=_ESTIMATED)["guesses"] < MIN_GUESSES
    )
