"""Run migrations on the application's engine, each run in one transaction."""

import sys

from alembic import context
from flask import current_app
from sqlalchemy import text
from sqlalchemy.engine import Connection

from tokenapp.db import postgresql, sqlite

database = current_app.extensions["migrate"].db
LOCK_ID = 7365746


def run() -> None:
    """Run the migrations that the command asks for."""
    creating = sqlite.may_create.set(changes_tables())
    try:
        connection = database.engine.connect()
    finally:
        sqlite.may_create.reset(creating)
    with connection:
        connection.detach()  # the time limits below must not reach other users of the pool
        if connection.dialect.name == "sqlite":
            connection.connection.dbapi_connection.execute(f"PRAGMA busy_timeout = {sqlite.MIGRATION_TIMEOUT_MS}")
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


def changes_tables() -> bool:
    """Return whether the command does not only read."""
    try:
        context.get_revision_argument()
    except KeyError:
        return False
    return True


def wait_for_other_hosts(connection: Connection) -> None:
    """Wait for the migrations of other hosts, longer than a request may."""
    connection.execute(text(f"SET LOCAL statement_timeout = {postgresql.MIGRATION_TIMEOUT_MS}"))
    connection.execute(text("SET LOCAL lock_timeout = 0"))
    if not connection.execute(text(f"SELECT pg_try_advisory_xact_lock({LOCK_ID})")).scalar():
        sys.stderr.write("Waiting for another upgrade of this database, for up to 10 minutes.\n")
        connection.execute(text(f"SELECT pg_advisory_xact_lock({LOCK_ID})"))
    # A migration that waits for a table lock blocks all later statements on the table, so that wait stays short.
    connection.execute(text("SET LOCAL lock_timeout = DEFAULT"))


run()
