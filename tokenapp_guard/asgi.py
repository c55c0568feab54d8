"""Protect the endpoints of a FastAPI or Starlette application."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse

from tokenapp_guard.cache import FetchNeededError
from tokenapp_guard.core import Verifier
from tokenapp_guard.errors import AccessError
from tokenapp_guard.principal import Principal, Requirement

MAX_FETCHING = 8  # requests that wait for the issuer in threads at the same time


class RequestRejectedError(AccessError, HTTPException):
    """An `AccessError` that has its status and headers also if it is not handled."""

    def __init__(self, error: AccessError, realm: str) -> None:
        AccessError.__init__(self, error.status, error.code, error.detail, **error.parameters)
        self.status_code, self.headers = error.status, error.response_headers(realm)


class Guard(Verifier):
    """Makes dependencies: ``Depends(guard(role="admin"))``.

    The arguments are those of `Verifier`.
    """

    def __init__(self, issuer: str, **options: Any) -> None:
        super().__init__(issuer, **options)
        self._fetching = anyio.CapacityLimiter(MAX_FETCHING)

    def __call__(
        self, *, role: str | None = None, scope: str | None = None, acr: str | None = None
    ) -> Callable[[HTTPConnection], Awaitable[Principal]]:
        """Return a dependency: a valid token, and what `Requirement` describes."""
        requirement = Requirement(role, scope, acr)

        async def principal(connection: HTTPConnection) -> Principal:
            authorization = ", ".join(connection.headers.getlist("Authorization"))  # two are malformed
            try:
                found = await self._authenticate(authorization)
                requirement.check(found)
            except AccessError as error:
                raise RequestRejectedError(error, self._audience) from None
            return found

        return principal

    async def _authenticate(self, authorization: str) -> Principal:
        """Authenticate in the event loop; only if something must be fetched, in a thread."""
        try:
            return self.authenticate(authorization, fetch=False)
        except FetchNeededError:
            call = partial(self.authenticate, authorization)
            return await anyio.to_thread.run_sync(call, limiter=self._fetching)


def problem_response(_connection: HTTPConnection, error: Exception) -> JSONResponse:
    """Handle `AccessError` in an application, with the same body as the service.

    Usage: ``app.add_exception_handler(AccessError, problem_response)``
    """
    assert isinstance(error, RequestRejectedError)  # noqa: S101 -- the only kind that the guard raises
    media_type = "application/problem+json"
    return JSONResponse(error.problem(), error.status, headers=error.headers, media_type=media_type)
