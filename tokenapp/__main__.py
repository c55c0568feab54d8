"""The command ``tokenapp``: the flask command, with this application."""

import sys
from typing import Any

import click
from flask import Flask
from flask.cli import FlaskGroup

from tokenapp import __version__


def main() -> None:
    """Run the command line."""
    # The service reads the files of settings by itself, only those of the current folder.
    group = _Group(help=__doc__, create_app=_load, add_version_option=False, load_dotenv=False)
    click.version_option(__version__, prog_name="tokenapp", message="%(prog)s %(version)s")(group).main()


class _Group(FlaskGroup):
    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Parse the options, of which --env-file reads a file."""
        try:
            return super().make_context(*args, **extra)
        except (OSError, ValueError) as error:
            sys.exit(f"tokenapp cannot start:\n  - the file of --env-file cannot be read: {error}")


def _load() -> Flask:
    from tokenapp.wsgi import app  # noqa: PLC0415 -- reads the settings, among them those of .env

    return app


if __name__ == "__main__":
    main()
