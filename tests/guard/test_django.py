"""The guard for Django under ASGI."""

import asyncio
from typing import Any

import django.urls
from asgiref.sync import iscoroutinefunction
from django.test import AsyncClient, override_settings

from tests.guard.stacks import ensure_django
from tokenapp_guard.django import GuardMiddleware, required

OPTIONS = {"issuer": "https://login.example.com", "audience": "tokenapp-api"}


async def view(_request: Any) -> Any:
    raise AssertionError("a request without a valid token must not reach the view")


class Urls:
    """The URLs of an application."""

    urlpatterns = (django.urls.path("async", required(view)),)


def test_async_view_is_protected_under_asgi() -> None:
    ensure_django()
    middleware = ["tokenapp_guard.django.GuardMiddleware"]
    with override_settings(MIDDLEWARE=middleware, ROOT_URLCONF=Urls, TOKENAPP_GUARD=OPTIONS):
        for headers, status in ({}, 401), ({"Authorization": "Bearer x"}, 403):
            assert asyncio.run(AsyncClient().get("/async", headers=headers)).status_code == status


def test_middleware_of_an_async_application_needs_no_thread() -> None:
    ensure_django()
    with override_settings(TOKENAPP_GUARD=OPTIONS):
        assert GuardMiddleware.async_capable
        assert iscoroutinefunction(GuardMiddleware(view))
        assert not iscoroutinefunction(GuardMiddleware(lambda _request: None))
