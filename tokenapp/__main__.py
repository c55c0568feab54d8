"""The command ``tokenapp``: the flask command, with this application."""

from flask import Flask
from flask.cli import FlaskGroup


def main() -> None:
    """Run the command line."""
    FlaskGroup(help=__doc__, create_app=_load).main()


def _load() -> Flask:
    from tokenapp.wsgi import app  # noqa: PLC0415 -- reads the settings, among them those of .env

    return app


if __name__ == "__main__":
    main()
