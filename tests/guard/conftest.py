"""The service under gunicorn, and in this process on the same database."""

import pytest
from flask import Flask

from tests.conftest import Databases, Servers
from tests.support.app import create_user, make_app
from tests.support.server import Server


@pytest.fixture
def app(databases: Databases) -> Flask:
    """Return the application on the server's database, with one user."""
    app = make_app(databases("sqlite"))
    create_user(app)
    return app


@pytest.fixture
def service(app: Flask, serve: Servers) -> Server:
    """Start the service under gunicorn."""
    return serve(app.config["TOKENAPP"].database_url.render_as_string(hide_password=False))
