"""The header fields of our answers, as the document tells of them."""

from collections.abc import Mapping
from typing import Any, Final

from tokenapp.config import Settings

Header = dict[str, Any]

_TEXT: Final = {"type": "string"}
_HEADERS: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "X-Request-ID": (
        "The request's own id, if it sent a good one, else a new one. It stands in our log, too.",
        {"type": "string", "pattern": "^[A-Za-z0-9._~+/=-]{1,128}$"},
    ),
    "X-Content-Type-Options": ("Never guess at the content type.", {"const": "nosniff"}),
    "Content-Security-Policy": ("Nothing of any other host is loaded, and no page may frame us.", _TEXT),
    "Referrer-Policy": ("Never tell where a visitor comes from.", {"const": "no-referrer"}),
    "Strict-Transport-Security": ("Come back over https only.", _TEXT),
    "Cache-Control": ("Never to be stored.", {"const": "no-store"}),
    "ETag": ("Names this very version.", _TEXT),
    "Vary": ("The answer depends on who asks.", {"const": "Origin"}),
    "Cross-Origin-Resource-Policy": ("Pages of any origin may load it.", {"const": "cross-origin"}),
    "Access-Control-Allow-Origin": ("The caller's origin, if it is one of those that may call us.", _TEXT),
    "Access-Control-Allow-Credentials": ("Cookies may come along.", {"const": "true"}),
    "Access-Control-Expose-Headers": ("What a page of that origin may read.", _TEXT),
    "WWW-Authenticate": (
        "How to be let in: RFC 6750, and RFC 9470 where the password has to be given again.",
        {"type": "string", "pattern": '^Bearer realm="[^"]*"'},
    ),
    "Retry-After": ("Seconds to wait before the next try.", {"type": "integer", "minimum": 1}),
    "RateLimit-Limit": ("How many wrong passwords an address has in a minute.", {"type": "integer", "minimum": 1}),
    "RateLimit-Remaining": ("How many of them are left.", {"type": "integer", "minimum": 0}),
    "RateLimit-Reset": ("Seconds until the minute is over.", {"type": "integer", "minimum": 1}),
    "X-Auth-User": ("The name of whoever is signed in, percent-encoded.", _TEXT),
    "X-Auth-Subject": ("The id of whoever is signed in.", _TEXT),
    "X-Auth-Session": ("The id of the session.", _TEXT),
    "Allow": ("The methods that the path has.", _TEXT),
}
RATE_LIMIT: Final = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")
_ALWAYS: Final = ("X-Request-ID", "X-Content-Type-Options", "Content-Security-Policy", "Referrer-Policy")
_CROSS_ORIGIN: Final = (
    "Access-Control-Allow-Origin",
    "Access-Control-Allow-Credentials",
    "Access-Control-Expose-Headers",
)


def on_every_answer(settings: Settings, *, cacheable: bool) -> dict[str, Header]:
    """Return the header fields of each answer, those of a document that may be kept or those of any other."""
    names = [*_ALWAYS, *(["Strict-Transport-Security"] if settings.production else [])]
    headers = {name: header(name) for name in names}
    if cacheable:
        headers["Cache-Control"] = _inline("To be kept, and asked about each time.", {"const": "public, no-cache"})
        headers["ETag"] = header("ETag")
    else:
        headers["Cache-Control"] = header("Cache-Control")
    if settings.allowed_origins:
        headers["Vary"] = header("Vary")
        headers |= {name: header(name, required=False) for name in _CROSS_ORIGIN}
    return headers


def header(name: str, *, required: bool = True) -> Header:
    """Return the header field `name`."""
    return {"$ref": f"#/components/headers/{name}"} if required else _inline(*_HEADERS[name], required=False)


def kept(settings: Settings) -> Header:
    """Return the ``Cache-Control`` of what may be kept for as long as the key set."""
    return _inline("How long it may be kept.", {"const": f"public, max-age={settings.jwks_lifetime}"})


def asked_about_or_for_ever() -> Header:
    """Return the ``Cache-Control`` of files, some of which have names that change with their bytes."""
    values = ["public, no-cache", "public, max-age=31536000, immutable"]
    return _inline("To be asked about each time or, with a version in its name, never again.", {"enum": values})


def basic_challenge() -> Header:
    """Return the ``WWW-Authenticate`` that asks a client for its credentials."""
    return _inline("How to be let in: RFC 7617.", {"type": "string", "pattern": '^Basic realm="[^"]*"'})


def refresh_cookie(settings: Settings, cookie: str) -> Header:
    """Return the ``Set-Cookie`` of a route that sets or clears the refresh cookie, or may clear it."""
    cleared = cookie != "set"
    description = "The refresh cookie is cleared." if cleared else "The refresh cookie, to be kept by the browser."
    value = "" if cleared else "[A-Za-z0-9._-]+"
    schema = {"type": "string", "pattern": f"^{settings.cookie_name}={value};"}
    return _inline(description, schema, required=cookie != "cleared with its session")


def components() -> dict[str, Header]:
    """Return all of them by name, for the document to refer to."""
    return {name: _inline(*row) for name, row in _HEADERS.items()}


def _inline(description: str, schema: Mapping[str, Any], *, required: bool = True) -> Header:
    return {"description": description, "required": required, "schema": dict(schema)}
