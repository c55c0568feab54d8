"""The same application in Flask, Django and FastAPI, on loopback ports."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Annotated, Any, Final

import django
import django.conf
import django.http
import django.urls
import uvicorn
from django.core.handlers.wsgi import WSGIHandler
from django.test import override_settings
from django.utils.decorators import method_decorator
from django.views import View
from fastapi import Depends, FastAPI
from flask import Flask
from werkzeug.serving import make_server

import tokenapp_guard.django
from tests.support.concurrency import wait_until
from tests.support.server import free_port
from tokenapp_guard import AccessError, Guard, Principal, asgi

VIEWS: Final[Mapping[str, Mapping[str, str]]] = {
    "/orders": {},
    "/admin": {"role": "admin"},
    "/export": {"scope": "orders:read orders:export"},
    "/payment": {"acr": "2"},
}


@contextmanager
def serve_flask(options: Mapping[str, Any]) -> Iterator[int]:
    """Run the application in Flask; yield its port."""
    app, guard = Flask("shop"), Guard(**options)
    for path, required in VIEWS.items():

        @guard.required(**required)
        def view() -> dict[str, str]:
            return {"for": guard.principal.username}

        app.add_url_rule(path, path, view)

    @app.get("/async")
    @guard.required
    async def async_view() -> dict[str, str]:
        return {"for": guard.principal.username}

    with _serve_wsgi(app) as port:
        yield port


@contextmanager
def serve_django(options: Mapping[str, Any]) -> Iterator[int]:
    """Run the application in Django; yield its port."""
    ensure_django()
    urls: Any = ModuleType("shop_urls")
    views = {path[1:]: tokenapp_guard.django.required(_django_view, **required) for path, required in VIEWS.items()}
    required = tokenapp_guard.django.required
    views["async"] = required(_async_django_view)
    views["class"] = required(_AsyncDjangoView.as_view())
    decorated = type("Decorated", (_AsyncDjangoView,), {})
    views["decorated"] = method_decorator(required, name="dispatch")(decorated).as_view()
    urls.urlpatterns = [django.urls.path(path, view) for path, view in views.items()]
    middleware = ["django.middleware.csrf.CsrfViewMiddleware", "tokenapp_guard.django.GuardMiddleware"]
    with (
        override_settings(MIDDLEWARE=middleware, ROOT_URLCONF=urls, TOKENAPP_GUARD=options),
        _serve_wsgi(WSGIHandler()) as port,
    ):
        yield port


def ensure_django() -> None:
    """Configure the Django of this process."""
    if not django.conf.settings.configured:
        secret = "of no use here"
        django.conf.settings.configure(
            ALLOWED_HOSTS=["127.0.0.1", "testserver"], LOGGING_CONFIG=None, SECRET_KEY=secret
        )
        django.setup()


def _django_view(request: Any) -> Any:
    return django.http.JsonResponse({"for": request.principal.username})


async def _async_django_view(request: Any) -> Any:
    return _django_view(request)


class _AsyncDjangoView(View):  # type: ignore[misc]  # Django has no types
    async def get(self, request: Any) -> Any:
        return _django_view(request)


@contextmanager
def serve_fastapi(options: Mapping[str, Any]) -> Iterator[int]:
    """Run the application in FastAPI; yield its port."""
    app, guard = FastAPI(), asgi.Guard(**options)
    app.add_exception_handler(AccessError, asgi.problem_response)
    for path, required in VIEWS.items():
        dependency = Depends(guard(**required))

        @app.get(path)
        async def view(principal: Annotated[Principal, dependency]) -> dict[str, str]:
            return {"for": principal.username}

    @app.get("/ping")
    async def ping() -> dict[str, str]:
        return {}

    with serve_asgi(app) as port:
        yield port


@contextmanager
def serve_asgi(app: Any) -> Iterator[int]:
    """Run an ASGI application; yield its port."""
    config = uvicorn.Config(app, port=free_port(), log_config=None, ws="none", lifespan="off", access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started, seconds=20, what="uvicorn")
        yield config.port
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def _serve_wsgi(app: Any) -> Iterator[int]:
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
