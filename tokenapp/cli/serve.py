"""The command that runs the server."""

import os
import sys

import click

from tokenapp.cli.command import Command


@click.command(cls=Command)
def serve() -> None:
    """Serve requests with gunicorn, until a signal stops it."""
    sys.stdout.flush()
    command = [sys.executable, "-m", "gunicorn", "--config", "python:tokenapp.server.configuration"]
    os.execv(sys.executable, command)  # noqa: S606 -- this process becomes the server, which signals then reach
