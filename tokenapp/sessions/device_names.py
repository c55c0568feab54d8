"""Readable names for devices, from their user agents."""

from functools import lru_cache
from typing import Final

_UNKNOWN: Final = "Unknown device"
_NOISE: Final = {"Other", "Mobile", "iOS", "UI/WKWebView"}
_PLAIN: Final = {"Mac OS X": "macOS", "Chrome OS": "ChromeOS"}


@lru_cache(maxsize=1024)
def describe(user_agent: str | None) -> str:
    """Return a name such as "Firefox on Windows"; unknown parts are left out."""
    if not user_agent:
        return _UNKNOWN
    from ua_parser import parse  # noqa: PLC0415 -- its patterns take 33 MB; most workers never list devices

    seen = parse(user_agent)
    browser = _words(seen.user_agent.family) if seen.user_agent else ""
    system = seen.os.family if seen.os else ""
    model = seen.device.family if seen.device and system == "iOS" else ""
    place = _words(model) or _PLAIN.get(system) or ("iOS" if system == "iOS" else _words(system))
    return " on ".join(dict.fromkeys(part for part in (browser, place) if part)) or _UNKNOWN


def _words(family: str) -> str:
    """Remove words that mean nothing to users: "Mobile Safari" becomes "Safari"."""
    return " ".join(word for word in family.split() if word not in _NOISE)
