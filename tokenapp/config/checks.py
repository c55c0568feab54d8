"""What must hold between settings, and what production asks for; each check returns its faults as sentences."""

from typing import Any, Final

MIN_SECRET_BYTES: Final = 32
MIN_DISTINCT_CHARACTERS: Final = 10
MIN_PASSWORD_MEMORY: Final = 19456
MIN_PASSWORD_PASSES: Final = 2
# Everybody can read them here: those of the tests, of examples, and of the program before this one.
PRINTED_SECRETS: Final = frozenset(
    {
        "a key for tests that is long enough to be taken",
        "change-me",
        "secret",
        "your-access-token-secret",
        "your-refresh-token-secret",
    }
)


def secret_faults(values: dict[str, Any], *, strict: bool) -> list[str]:
    """Find secrets that are repeated and, if `strict`, those that are missing or weak."""
    faults, seen = [], dict[str, str]()
    if strict and values.get("secret_key") == "":
        faults.append("SECRET_KEY is not set: run `python -c 'import secrets; print(secrets.token_urlsafe(48))'`")
    for name in ("SECRET_KEY", "ACCESS_TOKEN_SECRET", "REFRESH_TOKEN_SECRET"):
        former = values.get(f"{name.lower()}_fallbacks", ())
        for label, value in [(name, values.get(name.lower())), *((f"{name}_FALLBACKS", each) for each in former)]:
            if not value:
                continue
            if strict and _is_weak(value):
                faults.append(f"{label} is weak: it needs at least {MIN_SECRET_BYTES} random bytes")
            if value in seen:
                faults.append(f"{label} repeats {seen[value]}: each secret must be its own")
            seen[value] = label
    return faults


def limit_faults(values: dict[str, Any]) -> list[str]:
    """Find limits that contradict each other."""
    faults = []
    for shorter, longer in (("access_lifetime", "session_lifetime"), ("refresh_lifetime", "session_lifetime")):
        if shorter in values and longer in values and values[shorter] > values[longer]:
            faults.append(f"TOKENAPP_{shorter.upper()} is longer than TOKENAPP_{longer.upper()}")
    if (values.get("metrics_bind") or ("", None))[1] == values.get("port", 0):
        faults.append("TOKENAPP_METRICS_BIND has the same port as PORT")
    return faults


def production_faults(values: dict[str, Any]) -> list[str]:
    """Find what is good enough for development only."""
    faults = []
    issuer = values.get("issuer")
    if issuer == "":
        faults.append("TOKENAPP_ISSUER is not set: it is the public https URL of this service")
    elif issuer is not None and not issuer.startswith("https://"):
        faults.append("TOKENAPP_ISSUER must be https in production")
    if any(not origin.startswith("https://") for origin in values.get("allowed_origins", ())):
        faults.append("TOKENAPP_ALLOWED_ORIGINS must be https in production")
    if values.get("password_memory", MIN_PASSWORD_MEMORY) < MIN_PASSWORD_MEMORY:
        faults.append(f"TOKENAPP_PASSWORD_MEMORY must be at least {MIN_PASSWORD_MEMORY} in production")
    if values.get("password_passes", MIN_PASSWORD_PASSES) < MIN_PASSWORD_PASSES:
        faults.append(f"TOKENAPP_PASSWORD_PASSES must be at least {MIN_PASSWORD_PASSES} in production")
    return faults


def _is_weak(value: str) -> bool:
    repeated = len(set(value)) < MIN_DISTINCT_CHARACTERS or (value + value).find(value, 1) < len(value)
    return len(value.encode()) < MIN_SECRET_BYTES or repeated or value.lower() in PRINTED_SECRETS
