"""Protect the views of a Flask application."""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, overload

from flask import Response, current_app, g, jsonify, request

from tokenapp_guard.core import Verifier
from tokenapp_guard.errors import AccessError
from tokenapp_guard.principal import Principal, Requirement

_Parameters = ParamSpec("_Parameters")
_View = Callable[_Parameters, Any]


class Guard(Verifier):
    """Verifies bearer tokens of requests; the arguments are those of `Verifier`."""

    @property
    def principal(self) -> Principal:
        """The user of the current request, in a view decorated with `required`."""
        principal: Principal = g._tokenapp_principal  # noqa: SLF001 -- extensions prefix their names on g so
        return principal

    @property
    def claims(self) -> dict[str, Any]:
        """The claims of the current request's token, in a view decorated with `required`."""
        return dict(self.principal.claims)

    @overload
    def required(self, view: _View[_Parameters], /) -> _View[_Parameters]: ...

    @overload
    def required(
        self, view: None = None, /, *, role: str | None = None, scope: str | None = None, acr: str | None = None
    ) -> Callable[[_View[_Parameters]], _View[_Parameters]]: ...

    def required(
        self,
        view: _View[_Parameters] | None = None,
        /,
        *,
        role: str | None = None,
        scope: str | None = None,
        acr: str | None = None,
    ) -> Any:
        """Require a valid access token for `view`, and what `Requirement` describes."""
        requirement = Requirement(role, scope, acr)

        def decorate(view: _View[_Parameters]) -> _View[_Parameters]:
            @functools.wraps(view)
            def guarded(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> Any:
                try:
                    principal = self.authenticate(request.headers.get("Authorization", ""))
                    requirement.check(principal)
                except AccessError as error:
                    return _response(error, self._audience)
                g._tokenapp_principal = principal  # noqa: SLF001 -- as above
                return current_app.ensure_sync(view)(*args, **kwargs)

            return guarded

        return decorate if view is None else decorate(view)

    def check(self, authorization: str) -> dict[str, Any]:
        """Return the claims of the token in an ``Authorization`` header.

        Raises:
            AccessError: 401 without a token, 403 with an invalid one, 503 if it cannot be verified at the moment.
        """
        return self.authenticate(authorization).claims


def _response(error: AccessError, realm: str) -> Response:
    response = jsonify(error.problem())
    response.status_code, response.mimetype = error.status, "application/problem+json"
    response.headers.update(error.response_headers(realm))
    return response
