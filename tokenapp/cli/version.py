"""``flask version``: the version of this program."""

import click

from tokenapp import __version__


@click.command("version")  # without the base class, so that it needs no settings
def version() -> None:
    """Print the version of this program."""
    click.echo(f"tokenapp {__version__}")
