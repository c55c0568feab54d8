"""Run migrations on the application's engine, each run in one transaction."""

from alembic import context
from flask import current_app
from sqlalchemy import text
from sqlalchemy.engine import Connection

database = current_app.extensions["migrate"].db
TIMEOUT_MS = 600_000
LOCK_ID = 7365746


def run() -> None:
    """Run the migrations that the command asks for."""
    with database.engine.connect() as connection:
        connection.detach()  # the time limits below must not reach other users of the pool
        if connection.dialect.name == "sqlite":
            connection.connection.dbapi_connection.execute(f"PRAGMA busy_timeout = {TIMEOUT_MS}")
        with connection.begin():
            if connection.dialect.name == "postgresql":
                wait_for_other_hosts(connection)
            context.configure(
                connection=connection,
                target_metadata=database.metadata,
                transactional_ddl=True,
                render_as_batch=connection.dialect.name == "sqlite",
            )
            with context.begin_transaction():
                context.run_migrations()


def wait_for_other_hosts(connection: Connection) -> None:
    """Wait for the migrations of other hosts, longer than a request may."""
    connection.execute(text(f"SET LOCAL statement_timeout = {TIMEOUT_MS}"))
    connection.execute(text("SET LOCAL lock_timeout = 0"))
    connection.execute(text(f"SELECT pg_advisory_xact_lock({LOCK_ID})"))
    # A migration that waits for a table lock blocks all later statements on the table, so that wait stays short.
    connection.execute(text("SET LOCAL lock_timeout = DEFAULT"))


run()
