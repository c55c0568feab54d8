"""The commands of the ``flask`` command line."""

import sys
from copy import copy

import click
from click.core import ParameterSource
from flask import Flask

from tokenapp import config, create_app
from tokenapp.cli import access_keys, clients, database, doctor, events, keys, mail, serve, sessions, users, version
from tokenapp.config import env_files

COMMANDS = (
    *(module.group for module in (database, users, sessions, events, keys, access_keys, clients, mail)),
    doctor.doctor,
    serve.serve,
)


def init_app(app: Flask) -> None:
    """Add the commands to the ``flask`` command of `app`."""
    for command in (*COMMANDS, version.version):
        app.cli.add_command(command)


def load() -> Flask:
    """Create the application for the command line.

    With invalid settings, it is one with which the commands show their help and end with the error.
    """
    ctx = click.get_current_context(silent=True)
    _hide_other_commands(ctx)
    try:
        env_files.load()
        if ctx is None or ctx.find_root().get_parameter_source("env_file") != ParameterSource.COMMANDLINE:
            env_files.check_parents()
        return create_app()
    except config.ConfigError as fault:
        if ctx is None or not isinstance(ctx.command, click.Group):  # no group that looks for a command
            sys.exit(str(fault))
        app = Flask(__name__, static_folder=None)
        for command in COMMANDS:
            app.cli.add_command(_without_action(command, str(fault)))
        app.cli.add_command(version.version)
        return app


def _without_action(command: click.Command, fault: str) -> click.Command:
    """Return a command with the help of `command` that only ends with the error."""
    copied = copy(command)
    if isinstance(copied, click.Group):
        ctx = click.Context(copied)
        found = ((name, copied.get_command(ctx, name)) for name in copied.list_commands(ctx))
        copied.commands = {name: _without_action(each, fault) for name, each in found if each}
    else:
        copied.callback = lambda **_: sys.exit(fault)
    return copied


def _hide_other_commands(ctx: click.Context | None) -> None:
    """Leave commands for developers out of the help: those of Flask.

    An application that contains this one does not come here and keeps them.
    """
    root = ctx.find_root().command if ctx is not None else None
    others = list(root.commands.values()) if isinstance(root, click.Group) else []
    for command in others:
        command.hidden = True
