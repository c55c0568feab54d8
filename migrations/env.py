"""Runs migrations on the application's own engine, each upgrade in one transaction on both databases."""

from alembic import context
from flask import current_app
from sqlalchemy import text

handle = current_app.extensions["migrate"].db


def run() -> None:
    """Run what was asked for, without the time limits that requests have."""
    with handle.engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            # Two hosts that start together migrate one after the other.
            connection.execute(text("SELECT pg_advisory_xact_lock(7365746)"))
        context.configure(
            connection=connection,
            target_metadata=handle.metadata,
            transactional_ddl=True,
            render_as_batch=connection.dialect.name == "sqlite",
        )
        with context.begin_transaction():
            context.run_migrations()


run()
