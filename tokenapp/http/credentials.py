"""The kinds of credentials that a route can ask for."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, Literal, NamedTuple

from tokenapp import errors
from tokenapp.errors import TokenappError
from tokenapp.http import principal

Credential = Literal[
    "bearer",
    "bearer or key's",
    "fresh bearer",
    "fresh bearer, account's level",
    "recent bearer",
    "bearer, for a proxy",
    "client",
    "client or key",
    "cookie",
    "cookie or key",
    "cookie, if any",
    "cookie or bearer, if any",
]


class Kind(NamedTuple):
    """What a route with such a credential documents and checks.

    `security` are the alternative credentials, as OpenAPI lists them.
    """

    security: list[dict[str, list[str]]]
    errors: tuple[type[TokenappError], ...]
    authenticate: Callable[[], Any] | None = None
    same_site: bool = False
    oauth: bool = False


_BEARER: Final = (
    errors.AccessTokenMissing,
    errors.AccessTokenInvalid,
    errors.InvalidRequest,
    errors.ServiceUnavailable,
)
_FRESH: Final = Kind([{"bearer": []}], (*_BEARER, errors.InsufficientScope, errors.ReauthenticationRequired))
_COOKIE: Final = (errors.CrossSiteRequest, errors.ServiceUnavailable)
_REFRESH: Final = (errors.RefreshTokenMissing, errors.RefreshTokenExpired, errors.RefreshTokenRevoked)
KINDS: Final[Mapping[Credential | None, Kind]] = {
    None: Kind([], ()),
    "bearer": Kind([{"bearer": []}], (*_BEARER, errors.InsufficientScope), principal.authenticate),
    "bearer or key's": Kind([{"bearer": []}], _BEARER, partial(principal.authenticate, keys=True)),
    "fresh bearer": _FRESH._replace(authenticate=partial(principal.authenticate, fresh=True)),
    "fresh bearer, account's level": _FRESH._replace(
        authenticate=partial(principal.authenticate, fresh=True, level=True)
    ),
    "recent bearer": _FRESH._replace(authenticate=principal.authenticate_recent),
    "bearer, for a proxy": Kind(
        [{"bearer": []}, {"accessKey": []}],
        tuple(kind for kind in _BEARER if kind is not errors.InvalidRequest),
        principal.authenticate_for_proxy,
    ),
    "client": Kind([{"client": []}], (errors.ServiceUnavailable,), oauth=True),
    "client or key": Kind([{"client": []}, {}], (errors.ServiceUnavailable, errors.TooManyAttempts), oauth=True),
    "cookie": Kind([{"refreshCookie": []}], (*_COOKIE, *_REFRESH), same_site=True),
    "cookie or key": Kind(
        [{"refreshCookie": []}, {"accessKey": []}],
        (*_COOKIE, *_REFRESH, errors.AccessKeyInvalid, errors.InvalidRequest, errors.TooManyAttempts),
        same_site=True,
    ),
    "cookie, if any": Kind([{}, {"refreshCookie": []}], _COOKIE, same_site=True),
    "cookie or bearer, if any": Kind([{"refreshCookie": []}, {"bearer": []}, {}], _COOKIE, same_site=True),
}
