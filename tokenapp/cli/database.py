"""Commands for the tables of the database: Flask-Migrate's, with an own upgrade.

The other commands do not need Flask-Migrate and Alembic. Loading these takes a tenth of the time of a short command.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import sqlalchemy as sa
from flask import Flask, current_app, g
from flask.cli import with_appcontext

from tokenapp import db
from tokenapp.cli.command import Command, Group, describe
from tokenapp.db import schema

if TYPE_CHECKING:
    from alembic.config import Config

_MIGRATIONS: Final = Path(__file__).parents[1] / "migrations"


class _Database(Group):
    """The group, with Flask-Migrate's commands for developers."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted({*super().list_commands(ctx), *_for_developers()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command; None if there is none with this name."""
        return super().get_command(ctx, cmd_name) or _for_developers().get(cmd_name)


@click.group("db", cls=_Database)
@with_appcontext
def group() -> None:
    """Create the tables of the database, and migrate them to a new version."""
    g.directory, g.x_arg = None, ()  # what Flask-Migrate's own group sets
    use_migrations(current_app)


def use_migrations(app: Flask) -> None:
    """Set up Flask-Migrate with the migrations of the service."""
    from flask_migrate import Migrate  # noqa: PLC0415 -- see the top

    if "migrate" not in app.extensions:
        Migrate(app, db.db, directory=str(_MIGRATIONS))
        app.cli.add_command(group)  # it has added its own


@group.command("upgrade", cls=Command)
@click.option("-d", "--directory", help="Migrations of your own application, instead of the service's.")
@click.argument("revision", default="head")
@with_appcontext
def upgrade(revision: str, directory: str | None) -> None:
    """Upgrade the tables to the version of this program, or to REVISION.

    The upgrade is one transaction: if it fails, nothing has changed.
    """
    from alembic.util import CommandError  # noqa: PLC0415 -- see the top

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


def _for_developers() -> dict[str, click.Command]:
    from flask_migrate import cli  # noqa: PLC0415 -- see the top

    return {
        name: Command(name, callback=each.callback, params=each.params, help=each.help, hidden=True)
        for name, each in cli.db.commands.items()
    }


def _upgrade(revision: str) -> str:
    from alembic import command  # noqa: PLC0415 -- see the top

    before = _stored()
    if before is not None and before > schema.VERSION:
        raise click.ClickException(str(schema.State(before, read_only=False).problem))
    command.upgrade(_configuration(None), revision)
    after = _stored()
    if before == after:
        return f"The database is up to date: it has version {after}."
    return f"Upgraded the database from {before or 'no tables'} to {after}."


def _upgrade_own(revision: str, directory: str) -> str:
    from alembic import command  # noqa: PLC0415 -- see the top

    command.upgrade(_configuration(directory), revision)
    return f"Upgraded the database by the migrations in {directory}, to {revision}."


def _configuration(directory: str | None) -> "Config":
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
