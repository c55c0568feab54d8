"""The WSGI application that servers and the command line load."""

import os
import sys

from flask import Flask

from tokenapp import create_app
from tokenapp.config import ConfigError, env_files


def _load() -> Flask:
    if os.environ.get("FLASK_RUN_FROM_CLI") == "true" and "SERVER_SOFTWARE" not in os.environ:
        from tokenapp import cli  # noqa: PLC0415 -- a server does not need the commands

        return cli.load()
    try:
        env_files.load()
        return create_app()
    except ConfigError as fault:
        sys.exit(str(fault))


app = _load()

if "granian" in sys.modules:  # it loads this module in each worker; gunicorn starts the thread after the fork
    app.extensions.get("tokenapp.mail", lambda: None)()
