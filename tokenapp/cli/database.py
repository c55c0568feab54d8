"""Commands for the tables of the database: Flask-Migrate's, with an own upgrade."""

from pathlib import Path

import click
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from flask import current_app, g
from flask.cli import with_appcontext
from flask_migrate import cli as migrate

from tokenapp import db
from tokenapp.cli.command import Command, Group, describe
from tokenapp.db import schema


@click.group("db", cls=Group)
@with_appcontext
def group() -> None:
    """Create the tables of the database, and migrate them to a new version."""
    g.directory, g.x_arg = None, ()  # what Flask-Migrate's own group sets


@group.command("upgrade", cls=Command)
@click.option("-d", "--directory", help="Migrations of your own application, instead of the service's.")
@click.argument("revision", default="head")
@with_appcontext
def upgrade(revision: str, directory: str | None) -> None:
    """Upgrade the tables to the version of this program, or to REVISION.

    The upgrade is one transaction: if it fails, nothing has changed.
    """
    try:
        click.echo(_upgrade(revision) if directory is None else _upgrade_own(revision, directory))
    except CommandError as error:
        raise click.ClickException(str(error)) from None
    except sa.exc.DBAPIError as error:
        raise click.ClickException(describe(error) or str(error.orig).partition("\n")[0]) from None


@group.command("current", cls=Command)
@with_appcontext
def current() -> None:
    """Print the version of the tables, and whether this program can use them."""
    state = schema.State(_stored(), read_only=False)
    click.echo(f"{state.version or 'none'} ({state.problem or 'head'})")


for _name, _theirs in migrate.db.commands.items():
    if _name not in group.commands:
        group.add_command(
            Command(_name, callback=_theirs.callback, params=_theirs.params, help=_theirs.help, hidden=True)
        )


def _upgrade(revision: str) -> str:
    before = _stored()
    if before is not None and before > schema.VERSION:
        raise click.ClickException(str(schema.State(before, read_only=False).problem))
    command.upgrade(_configuration(None), revision)
    after = _stored()
    if before == after:
        return f"The database is up to date: it has version {after}."
    return f"Upgraded the database from {before or 'no tables'} to {after}."


def _upgrade_own(revision: str, directory: str) -> str:
    command.upgrade(_configuration(directory), revision)
    return f"Upgraded the database by the migrations in {directory}, to {revision}."


def _configuration(directory: str | None) -> Config:
    configuration: Config = current_app.extensions["migrate"].migrate.get_config(directory)
    return configuration


def _stored() -> str | None:
    """Return the version of the tables; None for a database without tables.

    Raises:
        sqlalchemy.exc.DBAPIError: the database is unavailable.
    """
    engine = db.db.engine
    if engine.dialect.name == "sqlite" and not Path(str(engine.url.database).removeprefix("file:")).exists():
        return None
    # A transaction would wait for other writers, and give up before the upgrade does.
    with engine.execution_options(single_statement=True).connect() as connection:
        if not sa.inspect(connection).has_table("alembic_version"):
            return None
        stored: str | None = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
        return stored
