"""tokenapp: a self-hosted login and session service."""

import gc
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

# Loading makes 300,000 objects, nearly all of which stay. The garbage collector would look at them again and again, and
# once more at the end of the process: 0.4 of the 1.0 seconds of CPU time that a short command takes.
_collects = gc.isenabled()
gc.disable()

from flask import Flask

try:
    from tokenapp import config, db, tokens
    from tokenapp.api import BLUEPRINTS, docs
    from tokenapp.http import lifecycle, metrics, mounting, problems
    from tokenapp.sessions import revocation_list
except ModuleNotFoundError as _error:
    if str(_error.name).startswith("tokenapp"):
        raise
    # The package without its extra is for the guard. Every way to run the service imports this module first.
    sys.exit(f"The service needs {_error.name}, which is not installed: pip install 'tokenapp[service]'")

gc.freeze()
if _collects:
    gc.enable()

__version__ = "0.2.0"


def create_app(overrides: Mapping[str, str] | None = None) -> Flask:
    """Create the application from the environment and `overrides`.

    Both are by the names of the settings.

    Raises:
        config.ConfigError: with all problems of the settings.
    """
    settings = config.load({**os.environ, **(overrides or {})}, config.INSTANCE)
    app = lifecycle.App(__name__, instance_path=str(settings.instance_path), static_folder=None)
    # Flask gets no secret: it would open a cookie session for every request.
    app.config.update(TOKENAPP=settings, MAX_CONTENT_LENGTH=None)
    metrics.init_app(app, __version__)
    lifecycle.init_app(app, settings)
    problems.init_app(app)
    app.bind(settings, db.init_app(app, settings))
    tokens.init_app(app, settings, revocation_list.is_revoked, problems.render)
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
    if settings.sends_mail:
        from tokenapp.api import mail_routes  # noqa: PLC0415 -- without mail, nothing of it is loaded

        mail_routes.init_app(app, settings)
    if settings.device_binding != "off":
        from tokenapp.api import device_binding  # noqa: PLC0415 -- optional

        device_binding.init_app(app)
    if settings.rp_id:
        from tokenapp.api import passkeys  # noqa: PLC0415 -- not for an IP address or plain HTTP

        app.register_blueprint(passkeys.bp)
    docs.init_app(app, __version__)
    mounting.init_app(app, settings.base_path)
    app.own_endpoints = frozenset(app.view_functions)
    if "SERVER_SOFTWARE" not in os.environ:  # set by gunicorn
        # A server needs neither the commands nor Alembic. With four workers they take 13 MB.
        from tokenapp import cli  # noqa: PLC0415 -- see above

        cli.init_app(app)
    return app


if not TYPE_CHECKING:  # or any name would count as an attribute

    def __getattr__(name: str) -> Flask:
        """Return the application that ``flask --app tokenapp`` looks for."""
        if name != "app":
            raise AttributeError(name)
        from tokenapp.wsgi import app  # noqa: PLC0415 -- reads the settings

        return app
