"""The operator's command line: groups of commands under ``flask``."""

import click
from flask import Flask
from flask.cli import AppGroup

from tokenapp import migrating

__all__ = ["init_app"]


class _Commands(AppGroup):
    """Our groups and Flask-Migrate's, loaded when the flask command asks for the first: no server ever does."""

    def __init__(self, app: Flask) -> None:
        super().__init__(app.name)
        self._app: Flask | None = app

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name them all."""
        self._load()
        return super().list_commands(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the one of that name."""
        self._load()
        return super().get_command(ctx, cmd_name)

    def _load(self) -> None:
        if self._app is None:
            return
        from tokenapp.cli import clients, doctor, events, keys, sessions, users  # noqa: PLC0415 -- as said above

        for module in (users, sessions, events, keys, clients):
            self.add_command(module.group)
        self.add_command(doctor.doctor)
        migrating.load(self._app)
        self._app = None


def init_app(app: Flask) -> None:
    """Give the flask command of `app` our groups."""
    app.cli = _Commands(app)
