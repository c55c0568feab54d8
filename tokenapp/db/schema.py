"""The version of the database tables."""

from typing import Final

import sqlalchemy as sa

from tokenapp import db

# The newest migration. A test compares it with Alembic's own view.
VERSION: Final = "0009"


def stored_version() -> str | None:
    """Return the version of the tables in the database.

    Raises:
        sqlalchemy.exc.DBAPIError: the database is unavailable, or has no tables at all.
    """
    rows = db.execute_now(sa.text("SELECT version_num FROM alembic_version"))
    return rows[0][0] if rows else None
