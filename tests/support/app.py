"""The application in this process, its settings for tests, and users."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from weakref import WeakSet

from flask import Flask
from werkzeug.routing import Rule

from tokenapp import accounts, create_app
from tokenapp.cli.database import use_migrations
from tokenapp.db import db

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "correct horse battery staple"
SETTINGS = {
    "TOKENAPP_ENV": "development",
    "SECRET_KEY": "a key for tests that is long enough to be taken",
    "TOKENAPP_PASSWORD_MEMORY": "8",
    "TOKENAPP_PASSWORD_PASSES": "1",
    "WEB_CONCURRENCY": "2",
    "TOKENAPP_ADDRESS_FAILURES": "100000",
}
ISSUER = "https://auth.example.com"
# The settings that production requires, apart from the database.
PRODUCTION = {
    "TOKENAPP_ENV": "production",
    "TOKENAPP_ISSUER": ISSUER,
    "SECRET_KEY": secrets.token_urlsafe(48),
    "TOKENAPP_PASSWORD_MEMORY": "19456",
    "TOKENAPP_PASSWORD_PASSES": "2",
}


def environment(**settings: str) -> dict[str, str]:
    """Return this process's environment with the settings of the tests.

    `settings` take precedence. Settings of tokenapp in this process's environment are left out.
    """
    prefixes = (
        "TOKENAPP_",
        "SECRET_KEY",
        "DATABASE_URL",
        "ACCESS_TOKEN_",
        "REFRESH_TOKEN_",
        "PORT",
        "WEB_CONCURRENCY",
        "RATELIMIT_",
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
    return {**clean, "PYTHONPATH": str(ROOT), **SETTINGS, **settings}


_builders: dict[Any, Any] = {}
_compile_builder: Any = Rule._compile_builder


def _builder(rule: Any, append_unknown: bool = True) -> Any:  # noqa: FBT001, FBT002 -- werkzeug's signature
    """Return the function by which werkzeug builds the URL of a route.

    Compiling it takes half of the time of `make_app`, and it is the same function in each application.
    """
    key = (rule.rule, tuple(rule._trace), append_unknown, repr(rule.defaults))
    if key not in _builders:
        _builders[key] = _compile_builder(rule, append_unknown)
    return _builders[key]


Rule._compile_builder = _builder  # type: ignore[assignment, method-assign]
_new_apps: list[Flask] = []
_old_apps: WeakSet[Flask] = WeakSet()


def make_app(database_url: str, **settings: str) -> Flask:
    """Make the application in this process, on that database, with its migrations."""
    app = create_app({**SETTINGS, "DATABASE_URL": database_url, **settings})
    use_migrations(app)
    _new_apps.append(app)
    return app


def dispose_engines() -> None:
    """Close the database connections of all applications that tests made."""
    _old_apps.update(_new_apps)
    _new_apps.clear()
    for app in list(_old_apps):
        with app.app_context():
            db.engine.dispose()


@contextmanager
def application(database_url: str, **settings: str) -> Iterator[Flask]:
    """Create the application on a database; close its connections at the end."""
    app = make_app(database_url, **settings)
    try:
        yield app
    finally:
        with app.app_context():
            db.engine.dispose()


def create_user(app: Flask, username: str = "alice", password: str = PASSWORD, email: str | None = None) -> str:
    """Create a user, with a confirmed address if there is one, and return the id."""
    new = accounts.NewUser(username, password, email=email, email_verified=email is not None)
    with app.app_context():
        return accounts.create(new, datetime.now(UTC)).id
