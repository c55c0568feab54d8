"""The response headers of the OpenAPI document."""

from collections.abc import Mapping
from typing import Any, Final

from tokenapp.config import Settings

Header = dict[str, Any]

_TEXT: Final = {"type": "string"}
_HEADERS: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "X-Request-ID": (
        "The id of the request, as sent by the client if it is well-formed. The log contains it too.",
        {"type": "string", "pattern": "^[A-Za-z0-9._~+/=-]{1,128}$"},
    ),
    "X-Content-Type-Options": ("Disables content sniffing.", {"const": "nosniff"}),
    "Content-Security-Policy": ("Forbids framing and resources of other hosts.", _TEXT),
    "Referrer-Policy": ("Disables the `Referer` header.", {"const": "no-referrer"}),
    "Strict-Transport-Security": ("Requires https.", _TEXT),
    "Cache-Control": ("Forbids caching.", {"const": "no-store"}),
    "Location": ("The address of the page, without the host.", _TEXT),
    "ETag": ("The version of the document.", _TEXT),
    "Last-Modified": ("When the file was changed.", _TEXT),
    "Content-Disposition": ("The name of the file.", _TEXT),
    "Vary": (
        "The request headers that the response depends on.",
        {"type": "string", "pattern": "^(Accept-Encoding|Accept-Language|Cookie|Origin|Sec-Fetch-Site|, )+$"},
    ),
    "Content-Encoding": ("The file is compressed.", {"const": "gzip"}),
    "Cross-Origin-Resource-Policy": ("Pages of any origin may load the file.", {"const": "cross-origin"}),
    "Access-Control-Allow-Origin": ("The origin of the request, if it is allowed.", _TEXT),
    "Access-Control-Allow-Credentials": ("Requests may include the cookie.", {"const": "true"}),
    "Access-Control-Expose-Headers": ("The headers that pages of the origin may read.", _TEXT),
    "WWW-Authenticate": (
        "The challenge (RFC 6750), with parameters of RFC 9470 if the user must authenticate again.",
        {"type": "string", "pattern": '^Bearer realm="[^"]*"'},
    ),
    "Retry-After": ("Seconds to wait before a retry.", {"type": "integer", "minimum": 1}),
    "RateLimit-Limit": ("Wrong passwords allowed per address and minute.", {"type": "integer", "minimum": 1}),
    "RateLimit-Remaining": ("Wrong passwords left in this minute.", {"type": "integer", "minimum": 0}),
    "RateLimit-Reset": ("Seconds until the limit is reset.", {"type": "integer", "minimum": 1}),
    "Clear-Site-Data": ("Clears the browser's cache.", {"const": '"cache"'}),
    "X-Auth-User": ("The user name, percent-encoded.", _TEXT),
    "X-Auth-Subject": ("The user id.", _TEXT),
    "X-Auth-Session": ("The id of the session or of the access key.", _TEXT),
    "X-Auth-AMR": ("The authentication methods of the sign-in, separated by spaces.", _TEXT),
    "X-Auth-ACR": ("The level of the sign-in: `1`, or `2` for two factors.", _TEXT),
    "X-Auth-Roles": ("The roles of the user, separated by commas.", _TEXT),
    "X-Auth-Scope": ("The scopes of an access key, separated by spaces.", _TEXT),
    "Secure-Session-Registration": ("Asks the browser to bind the session to a key of the device.", _TEXT),
    "Secure-Session-Challenge": ("What the key of the bound session must sign.", _TEXT),
    "Allow": ("The methods that the path supports.", _TEXT),
}
RATE_LIMIT: Final = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")
_ALWAYS: Final = ("X-Request-ID", "X-Content-Type-Options", "Content-Security-Policy", "Referrer-Policy")
_CROSS_ORIGIN: Final = (
    "Access-Control-Allow-Origin",
    "Access-Control-Allow-Credentials",
    "Access-Control-Expose-Headers",
)


def on_every_response(settings: Settings, *, cacheable: bool) -> dict[str, Header]:
    """Return the headers of every response, cacheable or not."""
    names = [*_ALWAYS, *(["Strict-Transport-Security"] if settings.production else [])]
    headers = {name: header(name) for name in names}
    if cacheable:
        headers["Cache-Control"] = _inline("Requires revalidation.", {"const": "public, no-cache"})
        headers["ETag"] = header("ETag")
        headers |= {name: header(name, required=False) for name in ("Vary", "Content-Encoding")}
    else:
        headers["Cache-Control"] = header("Cache-Control")
    if settings.allowed_origins:
        headers["Vary"] = header("Vary")
        headers |= {name: header(name, required=False) for name in _CROSS_ORIGIN}
    return headers


def header(name: str, *, required: bool = True) -> Header:
    """Return the header `name`."""
    return {"$ref": f"#/components/headers/{name}"} if required else _inline(*_HEADERS[name], required=False)


def cached_as_key_set(settings: Settings) -> Header:
    """Return the ``Cache-Control`` of documents cached as long as the JWK set."""
    return _inline("How long the document may be cached.", {"const": f"public, max-age={settings.jwks_lifetime}"})


def revalidated_or_immutable() -> Header:
    """Return the ``Cache-Control`` of files, with and without a version in the name."""
    values = ["public, no-cache", "public, max-age=31536000, immutable"]
    return _inline("Requires revalidation or, for a file with a version in its name, none.", {"enum": values})


def basic_challenge() -> Header:
    """Return the ``WWW-Authenticate`` that asks for client credentials."""
    return _inline("The challenge (RFC 7617).", {"type": "string", "pattern": '^Basic realm="[^"]*"'})


def refresh_cookie(settings: Settings, cookie: str) -> Header:
    """Return the ``Set-Cookie`` of a route that sets or clears the refresh cookie."""
    if cookie == "bound":
        schema = {"type": "string", "pattern": "^__Host-bound=[A-Za-z0-9._=-]+;"}
        return _inline("Sets the bound cookie, if the session goes on.", schema, required=False)
    cleared = not cookie.startswith("set")
    description = "Clears the refresh cookie." if cleared else "Sets the refresh cookie."
    value = "" if cleared else "[A-Za-z0-9._-]+"
    name = settings.cookie_name
    if cleared and settings.device_binding != "off":
        name = f"({name}|__Host-bound)"
    schema = {"type": "string", "pattern": f"^{name}={value};"}
    return _inline(description, schema, required=cookie in {"set", "cleared"})


def components() -> dict[str, Header]:
    """Return all headers by name."""
    return {name: _inline(*row) for name, row in _HEADERS.items()}


def _inline(description: str, schema: Mapping[str, Any], *, required: bool = True) -> Header:
    return {"description": description, "required": required, "schema": dict(schema)}
