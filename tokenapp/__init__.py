"""tokenapp: a self-hosted login and session service."""

from collections.abc import Callable, Mapping
from typing import Any

from flask import Flask

from tokenapp import (
    account,
    addresses,
    auth,
    cli,
    config,
    db,
    errors,
    incoming,
    metrics,
    migrating,
    openapi,
    ops,
    pages,
    revocations,
    tokens,
    wellknown,
)

__version__ = "0.1.0"


class _App(Flask):
    """Flask without coroutines: we have none, and to look for them anew at every request costs a twentieth of it."""

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Take `func` as it is."""
        return func


def create_app(overrides: Mapping[str, str] | None = None) -> Flask:
    """Make the application from the environment and then `overrides`, which go by the settings' names.

    Raises:
        config.ConfigError: listing every fault in the settings.
    """
    app = _App(__name__, instance_path=str(config.INSTANCE), static_folder=None)
    settings = config.init_app(app, overrides)
    metrics.init_app(app, __version__)
    ops.init_app(app, settings)
    errors.init_app(app)
    db.init_app(app, settings)
    migrating.init_app(app)
    tokens.init_app(app, settings, revocations.has_ended)
    addresses.init_app(app, settings)
    for blueprint in (auth.bp, account.bp, wellknown.bp, ops.bp, pages.bp):
        app.register_blueprint(blueprint)
    openapi.init_app(app, __version__)
    cli.init_app(app)
    incoming.prepare_types()
    return app
