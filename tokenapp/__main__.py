"""The command ``tokenapp``: the flask command, with this application."""

import click
from flask import Flask
from flask.cli import FlaskGroup

from tokenapp import __version__


def main() -> None:
    """Run the command line."""
    # The service reads the files of settings by itself, only those of the current folder.
    group = FlaskGroup(help=__doc__, create_app=_load, add_version_option=False, load_dotenv=False)
    click.version_option(__version__, prog_name="tokenapp", message="%(prog)s %(version)s")(group).main()


def _load() -> Flask:
    from tokenapp.wsgi import app  # noqa: PLC0415 -- reads the settings, among them those of .env

    return app


if __name__ == "__main__":
    main()
