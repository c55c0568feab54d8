"""Django REST framework with simplejwt, which rotates and blacklists tokens."""

import os
from datetime import timedelta
from urllib.parse import urlsplit

import django
from django.conf import settings
from django.contrib.auth.hashers import Argon2PasswordHasher

_url = urlsplit(os.environ["DATABASE_URL"])


class SameCost(Argon2PasswordHasher):
    """Django's argon2 hasher with the cost of this service."""

    time_cost = 2
    memory_cost = 19456
    parallelism = 1


# The SQLite settings of this service, which are faster than the defaults.
_SAME_FILE_SETTINGS = {
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL",
    "transaction_mode": "IMMEDIATE",
}
_SQLITE = {
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": _url.path[1:],
    "OPTIONS": _SAME_FILE_SETTINGS if os.environ.get("WAL") else {},
}
_POSTGRESQL = {
    "ENGINE": "django.db.backends.postgresql",
    "NAME": _url.path[1:],
    "HOST": _url.hostname,
    "PORT": _url.port,
    "USER": _url.username,
}

settings.configure(
    DEBUG=False,
    SECRET_KEY="a secret for the benchmark, of thirty-two bytes and more",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=[
        "django.contrib.contenttypes",
        "django.contrib.auth",
        "rest_framework",
        "rest_framework_simplejwt.token_blacklist",
    ],
    MIDDLEWARE=[],
    DATABASES={"default": {**(_SQLITE if _url.scheme == "sqlite" else _POSTGRESQL), "CONN_MAX_AGE": None}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    PASSWORD_HASHERS=[f"{__name__}.SameCost"],
    USE_TZ=True,
    REST_FRAMEWORK={
        "DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework_simplejwt.authentication.JWTAuthentication"],
        "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
        "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    },
    SIMPLE_JWT={
        "ACCESS_TOKEN_LIFETIME": timedelta(minutes=15),
        "REFRESH_TOKEN_LIFETIME": timedelta(days=7),
        "ROTATE_REFRESH_TOKENS": True,
        "BLACKLIST_AFTER_ROTATION": True,
    },
)
django.setup()

# The framework reads its settings at import.
from django.core.wsgi import get_wsgi_application  # noqa: E402 -- after its settings
from django.http import HttpResponse  # noqa: E402 -- after its settings
from django.urls import path  # noqa: E402 -- after its settings
from rest_framework.decorators import api_view, permission_classes  # noqa: E402 -- after its settings
from rest_framework.permissions import IsAuthenticated  # noqa: E402 -- after its settings
from rest_framework.request import Request  # noqa: E402 -- after its settings
from rest_framework.response import Response  # noqa: E402 -- after its settings
from rest_framework_simplejwt.views import (  # noqa: E402 -- after its settings
    TokenBlacklistView,
    TokenObtainPairView,
    TokenRefreshView,
)


@api_view(["GET"])
@permission_classes([IsAuthenticated])
def protected(request: Request) -> Response:
    return Response({"message": f"Welcome, {request.user.username}! This is protected data."})


urlpatterns = [
    path("api/login", TokenObtainPairView.as_view()),
    path("api/token", TokenRefreshView.as_view()),
    path("api/logout", TokenBlacklistView.as_view()),
    path("api/protected", protected),
    path("healthz", lambda _request: HttpResponse("ok")),
]
application = get_wsgi_application()
