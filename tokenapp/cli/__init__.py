"""The commands of the ``flask`` command line."""

from pathlib import Path

from flask import Flask
from flask_migrate import Migrate

from tokenapp import db
from tokenapp.cli import clients, doctor, events, keys, serve, sessions, users


def init_app(app: Flask) -> None:
    """Add the commands to the ``flask`` command of `app`, Flask-Migrate's among them."""
    Migrate(app, db.db, directory=str(Path(__file__).parents[1] / "migrations"))
    for module in (users, sessions, events, keys, clients):
        app.cli.add_command(module.group)
    app.cli.add_command(doctor.doctor)
    app.cli.add_command(serve.serve)
