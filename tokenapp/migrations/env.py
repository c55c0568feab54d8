"""Runs migrations on the application's own engine, each upgrade in one transaction on both databases."""

from alembic import context
from flask import current_app
from sqlalchemy import text
from sqlalchemy.engine import Connection

handle = current_app.extensions["migrate"].db
PATIENCE_MS = 600_000


def wait_our_turn(connection: Connection) -> None:
    """Let hosts that start together migrate one after the other, without the time limits that requests have."""
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SET LOCAL statement_timeout = {PATIENCE_MS}"))
        connection.execute(text("SET LOCAL lock_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_xact_lock(7365746)"))
        # Whoever waits to change a table keeps everybody else waiting for it: that must stay short.
        connection.execute(text("SET LOCAL lock_timeout = DEFAULT"))


def run() -> None:
    """Run what was asked for."""
    with handle.engine.connect() as connection:
        connection.detach()  # not to be used for anything else, with the time limit that it gets here
        if connection.dialect.name == "sqlite":
            connection.connection.dbapi_connection.execute(f"PRAGMA busy_timeout = {PATIENCE_MS}")
        with connection.begin():
            wait_our_turn(connection)
            context.configure(
                connection=connection,
                target_metadata=handle.metadata,
                transactional_ddl=True,
                render_as_batch=connection.dialect.name == "sqlite",
            )
            with context.begin_transaction():
                context.run_migrations()


run()
