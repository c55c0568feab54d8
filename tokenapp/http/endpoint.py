"""The decorator that enforces and documents a route."""

import inspect
import re
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial, wraps
from typing import Any, Final, Literal, NamedTuple

import msgspec
from flask import Response

from tokenapp import errors, passwords
from tokenapp.errors import TokenappError
from tokenapp.http import client_credentials, credentials, problems, rate_limit, requests
from tokenapp.models import Right

Cookie = Literal["set", "set, with a cookie", "cleared", "cleared with its session", "bound"]
View = Callable[..., Response]
Step = Callable[[dict[str, Any]], object]

_NAME: Final = "endpoint"
_DEMO_PASSWORD: Final = "only-for-trying-it-here"  # noqa: S105 -- of the user that `make run` creates


class PathId(NamedTuple):
    """A path variable that is an id; `otherwise` is raised for anything else."""

    otherwise: type[TokenappError]
    pattern: str = "^[A-Za-z0-9_-]{1,64}$"


@dataclass(frozen=True, slots=True, kw_only=True)
class endpoint:  # noqa: N801 -- used as a decorator
    """A route's facts, each stated once.

    The OpenAPI document is generated from the same object that enforces them. The view receives by name what it
    declares: `body`, `form`, `query`, `principal`, `now`, and path variables. It is called after all checks.

    Args:
        body, form, query: the Structs that the JSON body, the form and the query must match.
        response: the Struct of the response; None for 204; media types for files.
        credential: what authenticates the request. Routes that take or set the cookie are for the same site only.
        right: what a client must be allowed to do.
        cookie: what a successful response does to the refresh cookie; `bound` is about the bound cookie.
        path: the path variables that are ids.
        rate_limited: whether wrong passwords on this route count for the client's address; `codes` if it checks codes.
        hashes: whether the view hashes a new password without checking one.
        errors: the errors that the view raises, beside those of the other facts.
        cacheable: whether the response has an ETag and may be stored and revalidated.
        cache: an exception from that: for the lifetime of the JWK set, or immutable for versioned files.
        media_type: of a response that is not plain JSON.
        accepted: whether the response says only that the request was accepted (202).
        redirect: whether the response is a redirect.
        headers: more headers of a successful response.
    """

    body: type[msgspec.Struct] | None = None
    form: type[msgspec.Struct] | None = None
    query: type[msgspec.Struct] | None = None
    response: type[msgspec.Struct] | tuple[str, ...] | None = None
    credential: credentials.Credential | None = None
    right: Right | None = None
    cookie: Cookie | None = None
    path: Mapping[str, PathId] = field(default_factory=dict)
    rate_limited: bool | Literal["codes"] = False
    hashes: bool = False
    errors: tuple[type[TokenappError], ...] = ()
    cacheable: bool = False
    cache: Literal["key set", "revalidated or immutable"] | None = None
    media_type: str = "application/json"
    redirect: bool = False
    accepted: bool = False
    headers: tuple[str, ...] = ()

    @property
    def status(self) -> int:
        """The status of a successful response."""
        if self.redirect:
            return 302
        return 202 if self.accepted else 200 if self.response else 204

    @property
    def _kind(self) -> credentials.Kind:
        return credentials.KINDS[self.credential]

    @property
    def _same_site(self) -> bool:
        """Whether the route reads or sets the refresh cookie."""
        return self._kind.same_site or self.cookie == "set"

    @property
    def security(self) -> list[dict[str, list[str]]]:
        """The alternative credentials, as OpenAPI lists them."""
        return self._kind.security

    @property
    def oauth_errors(self) -> dict[int, str]:
        """The OAuth errors of a route for clients, by status."""
        if not self._kind.oauth:
            return {}
        return {
            400: errors.InvalidRequest.code,
            401: errors.InvalidClient.code,
            403: errors.ClientNotAllowed.code,
        }

    @property
    def all_errors(self) -> list[type[TokenappError]]:
        """Every error of the route, by status and code."""
        kinds = {errors.RequestTooLarge}.union(self._kind.errors, self.errors)
        if self._same_site:
            kinds |= {errors.CrossSiteRequest}
        if self.body is not None:
            kinds |= {errors.InvalidRequest, errors.UnsupportedMediaType}
        if self.query is not None and self.credential != "client":
            kinds |= {errors.InvalidRequest}
        if self.rate_limited:
            kinds |= {errors.TooManyAttempts}
        if self.rate_limited is True:
            kinds |= {errors.InvalidCredentials}
        return sorted(
            kinds | {path.otherwise for path in self.path.values()}, key=lambda kind: (kind.status, kind.code)
        )

    def __call__(self, view: View) -> View:
        """Return `view` with the checks around it."""
        enforced = self._enforce(view)
        if self._kind.oauth:
            enforced = _oauth(enforced)
        if self.hashes:
            enforced = _in_place(enforced)
        if self.rate_limited:
            enforced = rate_limit.limited(enforced, hashes=self.rate_limited != "codes")
        enforced = wraps(view)(enforced)
        vars(enforced)[_NAME] = self
        return enforced

    def _enforce(self, view: View) -> View:
        steps = tuple(self._steps(inspect.signature(view).parameters))

        def enforced(**values: Any) -> Response:
            for step in steps:
                step(values)
            return view(**values)

        return enforced

    def _steps(self, wanted: Container[str]) -> Iterator[Step]:
        """Yield the route's checks, which raise errors or add arguments of the view."""
        if self._same_site:
            yield lambda _values: requests.check_same_site()
        authenticate = self._kind.authenticate
        if self.right is not None and self.credential == "client":
            right = self.right
            yield lambda _values: client_credentials.authenticate(right)
        elif authenticate is not None:
            yield _provide("principal", authenticate) if "principal" in wanted else lambda _values: authenticate()
        for name, path in self.path.items():
            yield _check_path(name, re.compile(path.pattern), path.otherwise)
        if self.body is not None:
            # Made here, before there are threads: msgspec is not thread-safe when it prepares a type.
            yield _provide("body", partial(requests.parse_json, msgspec.json.Decoder(self.body)))
        if self.form is not None:
            msgspec.json.Decoder(self.form)
            parse = partial(requests.parse_form, self.form)
            if self.credential == "client or key" and self.right is not None:
                parse = partial(client_credentials.checked_form, self.right, parse)
            yield _provide("form", parse)
        if self.query is not None:
            msgspec.json.Decoder(self.query)
            yield _provide("query", partial(requests.parse_query, self.query))
        if "now" in wanted:
            yield _provide("now", partial(datetime.now, UTC))


def described(view: Callable[..., Any] | None) -> endpoint | None:
    """Return the endpoint of a view, or None for a view that is not the service's."""
    found = getattr(view, "__dict__", {}).get(_NAME)
    return found if isinstance(found, endpoint) else None


def text(longest: int, description: str, example: str) -> msgspec.Meta:
    """Return the constraints of a text.

    It has at most `longest` characters and no NUL, which PostgreSQL cannot store.
    """
    return msgspec.Meta(max_length=longest, pattern=r"^[^\x00]*$", description=description, examples=[example])


def password(description: str) -> msgspec.Meta:
    """Return the constraints of an existing password."""
    return msgspec.Meta(
        max_length=1024,
        pattern=r"^[^\x00]*$",
        description=description,
        examples=[_DEMO_PASSWORD],
        extra_json_schema={"format": "password"},
    )


def _provide(name: str, get: Callable[[], Any]) -> Step:
    def step(values: dict[str, Any]) -> None:
        values[name] = get()

    return step


def _check_path(name: str, pattern: re.Pattern[str], otherwise: type[TokenappError]) -> Step:
    def step(values: dict[str, Any]) -> None:
        if not pattern.fullmatch(values[name]):
            raise otherwise

    return step


def _in_place(view: View) -> View:
    """Give a request that hashes a password one of the places for that."""

    def placed(**values: Any) -> Response:
        with passwords.place():
            return view(**values)

    return placed


def _oauth(view: View) -> View:
    """Render the errors of a route for clients as OAuth's."""

    def rendered(**values: Any) -> Response:
        try:
            return view(**values)
        except (errors.InvalidClient, errors.ClientNotAllowed, errors.InvalidRequest) as error:
            return problems.render_oauth(error)

    return rendered
