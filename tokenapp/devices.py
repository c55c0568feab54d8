"""A readable name for a device, made of what its browser says of itself."""

from functools import lru_cache

_UNKNOWN = "Unknown device"


@lru_cache(maxsize=1024)
def describe(user_agent: str | None) -> str:
    """Return a name such as "Firefox on Windows"; what cannot be told is left out."""
    if not user_agent:
        return _UNKNOWN
    from ua_parser import parse  # noqa: PLC0415 -- its patterns take 8 MB, and most workers never show a list

    seen = parse(user_agent)
    browser = seen.user_agent.family if seen.user_agent else None
    system = seen.os.family if seen.os else None
    device = seen.device.family if seen.device else None
    place = device if system == "iOS" and device else system
    return " on ".join(part for part in (browser, place) if part and part != "Other") or _UNKNOWN
