"""The commands of the ``flask`` command line."""

from flask import Flask

from tokenapp.cli import clients, doctor, events, keys, sessions, users


def init_app(app: Flask) -> None:
    """Add the commands to the ``flask`` command of `app`."""
    for module in (users, sessions, events, keys, clients):
        app.cli.add_command(module.group)
    app.cli.add_command(doctor.doctor)
