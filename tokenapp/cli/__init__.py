"""The operator's command line: groups of commands under ``flask``."""

from flask import Flask

from tokenapp.cli import clients, doctor, events, keys, sessions, users

__all__ = ["init_app"]


def init_app(app: Flask) -> None:
    """Give the flask command of `app` our groups."""
    for module in (users, sessions, events, keys, clients):
        app.cli.add_command(module.group)
    app.cli.add_command(doctor.doctor)
