"""Whether the database has the tables that this program expects."""

from functools import cache

import sqlalchemy as sa
from flask import Flask

from tokenapp import db


def stored_version() -> str | None:
    """Return the version of the tables, as the last migration left it.

    Raises:
        sqlalchemy.exc.DBAPIError: the database is away, or has no tables at all.
    """
    rows = db.execute_now(sa.text("SELECT version_num FROM alembic_version"))
    return rows[0][0] if rows else None


def newest_version(app: Flask) -> str | None:
    """Return the version that the program's own migrations lead to."""
    return _newest(app.extensions["migrate"].directory)


@cache
def _newest(directory: str) -> str | None:
    from alembic.config import Config  # noqa: PLC0415 -- it takes long to load, and only health checks need it
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    settings = Config()
    settings.set_main_option("script_location", directory)
    return ScriptDirectory.from_config(settings).get_current_head()
