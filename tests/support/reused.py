"""Databases that tests use one after the other."""

from collections.abc import Callable
from typing import Any, Final

import psycopg

# Everything that a test may change beside rows. A database in which it differs is not used again.
_SCHEMA: Final = """
    SELECT md5(string_agg(line, E'\\n' ORDER BY line)) FROM (
        SELECT concat_ws('|', 'class', relname, relkind, relacl, reloptions, relpersistence) AS line
            FROM pg_class WHERE oid >= 16384
        UNION ALL SELECT concat_ws('|', 'attribute', attrelid, attname, atttypid, atttypmod, attnotnull, attacl)
            FROM pg_attribute WHERE attrelid >= 16384
        UNION ALL SELECT concat_ws('|', 'constraint', conname, conrelid, convalidated, pg_get_constraintdef(oid))
            FROM pg_constraint WHERE oid >= 16384
        UNION ALL SELECT concat_ws('|', 'index', indexrelid, indisvalid, indisunique) FROM pg_index
            WHERE indexrelid >= 16384
        UNION ALL SELECT concat_ws('|', 'trigger', tgname, tgrelid, tgenabled) FROM pg_trigger WHERE NOT tgisinternal
        UNION ALL SELECT concat_ws('|', 'function', proname) FROM pg_proc WHERE oid >= 16384
        UNION ALL SELECT concat_ws('|', 'namespace', nspname, nspacl) FROM pg_namespace
        UNION ALL SELECT concat_ws('|', 'database', datacl, datconnlimit, datallowconn) FROM pg_database
            WHERE datname = current_database()
        UNION ALL SELECT concat_ws('|', 'setting', setrole, setconfig) FROM pg_db_role_setting
            WHERE setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
        UNION ALL SELECT concat_ws('|', 'version', version_num) FROM alembic_version
    ) AS lines
"""
_OTHERS: Final = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
_FILLED: Final = (
    "SELECT quote_ident(relname) FROM pg_class WHERE relkind = 'r' AND oid >= 16384 AND relname <> 'alembic_version'"
    " AND relnamespace = 'public'::regnamespace AND pg_relation_size(oid) > 0"
)


class ReusedDatabases:
    """PostgreSQL databases with all tables and no rows.

    A used one is emptied for the next test. That takes a tenth of the CPU time that a new one takes.
    """

    def __init__(self, create: Callable[[], str]) -> None:
        self._create = create
        self._used: list[str] = []
        self._schema: Any = None

    def take(self) -> str:
        """Return the URL of a database: a used one if there is one, or a new one."""
        while self._used:
            url = self._used.pop()
            if self._empty(url):
                return url
        url = self._create()
        if self._schema is None:
            with psycopg.connect(url, autocommit=True) as connection:
                self._schema = connection.execute(_SCHEMA).fetchone()
        return url

    def give_back(self, url: str) -> None:
        """Let a later test use the database.

        It is emptied only then, because a server of this test may not have ended yet.
        """
        self._used.append(url)

    def _empty(self, url: str) -> bool:
        """Remove all rows; return False if the database is in use, changed or gone."""
        try:
            connection = psycopg.connect(url, autocommit=True)
        except psycopg.OperationalError:
            return False
        with connection:
            if connection.execute(_OTHERS).fetchone() != (0,):
                return False
            if connection.execute(_SCHEMA).fetchone() != self._schema:
                return False
            tables = ", ".join(name for (name,) in connection.execute(_FILLED))
            if tables:
                connection.execute(f"TRUNCATE {tables} RESTART IDENTITY CASCADE")
        return True
