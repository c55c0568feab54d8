"""The operator's command line: groups of commands under ``flask``."""

from flask import Flask

from tokenapp.cli import sessions, users

__all__ = ["init_app", "sessions", "users"]


def init_app(app: Flask) -> None:
    """Give the flask command of `app` our groups."""
    for group in (users.group, sessions.group):
        app.cli.add_command(group)
