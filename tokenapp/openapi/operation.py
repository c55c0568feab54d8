"""What a route says of itself for the document: whatever cannot be read off its path, its method and its Structs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeVar

import msgspec
from flask import Response

from tokenapp import errors
from tokenapp.errors import Refusal

Credential = Literal[
    "bearer", "fresh bearer", "bearer, for a proxy", "client", "cookie", "cookie, if any", "cookie or bearer, if any"
]
Cookie = Literal["set", "cleared", "cleared with its session"]
Security = list[dict[str, list[str]]]

_View = TypeVar("_View", bound=Callable[..., Response])
_NAME: Final = "operation"
_BEARER: Final = (
    errors.AccessTokenMissing,
    errors.AccessTokenInvalid,
    errors.InvalidRequest,
    errors.ServiceUnavailable,
)
_COOKIE: Final = (errors.CrossSiteRequest, errors.ServiceUnavailable)
_REFRESH: Final = (errors.RefreshTokenMissing, errors.RefreshTokenExpired, errors.RefreshTokenRevoked)
_CREDENTIALS: Final[Mapping[Credential | None, tuple[Security, tuple[type[Refusal], ...]]]] = {
    None: ([], ()),
    "bearer": ([{"bearer": []}], _BEARER),
    "fresh bearer": ([{"bearer": []}], (*_BEARER, errors.ReauthenticationRequired)),
    "bearer, for a proxy": ([{"bearer": []}], tuple(kind for kind in _BEARER if kind is not errors.InvalidRequest)),
    "client": ([{"client": []}], (errors.ServiceUnavailable,)),
    "cookie": ([{"refreshCookie": []}], (*_COOKIE, *_REFRESH)),
    "cookie, if any": ([{}, {"refreshCookie": []}], _COOKIE),
    "cookie or bearer, if any": ([{"refreshCookie": []}, {"bearer": []}, {}], _COOKIE),
}


class OAuthError(msgspec.Struct):
    """An error in the words of RFC 6749, 5.2, as RFC 7662 and RFC 7009 want it."""

    error: str
    error_description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A route as its view describes it, used as the view's decorator.

    `reply` None stands for 204, and names of media types for a plain file; `media_type` is that of a reply which is
    not plain JSON. `cacheable` replies have an ETag and are asked about each time, unless `cache` says more: some are
    kept for as long as the key set is, some for ever. `headers` are more header fields of a success.
    `parameters` are JSON schemas of what stands in the path or the query. Besides `refuses`, a route gives the refusals
    that come with its credential and its body.
    """

    body: type[msgspec.Struct] | None = None
    form: type[msgspec.Struct] | None = None
    reply: type[msgspec.Struct] | tuple[str, ...] | None = None
    credential: Credential | None = None
    cookie: Cookie | None = None
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    refuses: tuple[type[Refusal], ...] = ()
    cacheable: bool = False
    cache: Literal["kept", "asked about or for ever"] | None = None
    media_type: str = "application/json"
    headers: tuple[str, ...] = ()

    @property
    def security(self) -> Security:
        """The ways to be let in, any of which will do."""
        return _CREDENTIALS[self.credential][0]

    @property
    def oauth_errors(self) -> dict[int, str]:
        """The errors by status that a route for clients gives in the words of OAuth."""
        if self.credential != "client":
            return {}
        return {400: errors.InvalidRequest.code, 401: errors.InvalidClient.code}

    @property
    def refusals(self) -> list[type[Refusal]]:
        """Every refusal that the route can give, by status and code."""
        kinds = {errors.RequestTooLarge}.union(_CREDENTIALS[self.credential][1], self.refuses)
        if self.body is not None:
            kinds |= {errors.InvalidRequest, errors.UnsupportedMediaType}
        return sorted(kinds, key=lambda kind: (kind.status, kind.code))

    def __call__(self, view: _View) -> _View:
        """Note this on `view`."""
        vars(view)[_NAME] = self
        return view


def described(view: Callable[..., Any]) -> Operation | None:
    """Return what was noted on `view`; decorators that wrap it in the usual way keep the note."""
    return vars(view).get(_NAME)


def text(longest: int, description: str, *, secret: bool = False) -> msgspec.Meta:
    """Describe a member of a body that holds text; what is checked is for the view to check."""
    schema: dict[str, Any] = {"maxLength": longest, "pattern": "^[^\\u0000]*$"}
    return msgspec.Meta(description=description, extra_json_schema=schema | ({"format": "password"} if secret else {}))
