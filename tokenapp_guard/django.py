"""Protect the views of a Django application."""

import functools
from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse

from tokenapp_guard.core import Verifier
from tokenapp_guard.errors import AccessError
from tokenapp_guard.principal import Requirement


class GuardMiddleware:
    """Give requests a `Verifier` with the arguments in ``TOKENAPP_GUARD``."""

    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self._get_response, self._verifier = get_response, Verifier(**settings.TOKENAPP_GUARD)
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        """Handle a request; under ASGI, return what Django awaits."""
        request.tokenapp_verifier = self._verifier
        return self._get_response(request)


def required(view: Any = None, /, *, role: str | None = None, scope: str | None = None, acr: str | None = None) -> Any:
    """Require a valid access token; the view gets it as ``request.principal``."""
    requirement = Requirement(role, scope, acr)

    def rejection(request: HttpRequest) -> HttpResponse | None:
        try:
            request.principal = request.tokenapp_verifier.authenticate(request.headers.get("Authorization", ""))
            requirement.check(request.principal)
        except AccessError as error:
            headers = error.response_headers(settings.TOKENAPP_GUARD["audience"])
            kind = "application/problem+json"
            return JsonResponse(error.problem(), status=error.status, headers=headers, content_type=kind)
        return None

    def decorate(view: Any) -> Any:
        async def guarded_async(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            return await sync_to_async(rejection)(request) or await view(request, *args, **kwargs)

        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            return rejection(request) or view(request, *args, **kwargs)

        instance = getattr(getattr(view, "func", None), "__self__", None)  # of a class, with method_decorator
        is_async = iscoroutinefunction(view) or getattr(instance, "view_is_async", False)
        wrapped: Any = functools.wraps(view)(guarded_async if is_async else guarded)
        wrapped.csrf_exempt = True  # other sites cannot send the token
        return wrapped

    return decorate if view is None else decorate(view)
