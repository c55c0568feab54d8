"""Run the shop's migrations, whose version is in a table of their own."""

from typing import Any

from alembic import context
from flask import current_app

TABLES = {"shop_orders"}
database = current_app.extensions["migrate"].db


def is_ours(_item: Any, name: str | None, kind: str, _reflected: bool, _compared: Any) -> bool:  # noqa: FBT001 -- Alembic's signature
    """Return whether Alembic compares a table: not those of the service."""
    return kind != "table" or name in TABLES


with database.engine.begin() as connection:
    context.configure(
        connection=connection,
        target_metadata=database.metadata,
        version_table="alembic_version_shop",
        include_object=is_ours,
        transactional_ddl=True,
        render_as_batch=connection.dialect.name == "sqlite",
    )
    with context.begin_transaction():
        context.run_migrations()
