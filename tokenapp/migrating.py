"""The migrations, and whether the database has the tables that this program expects.

A server only asks that question. Alembic, which takes 4 MB and its time to load, comes with the first that migrates.
"""

import re
from functools import cache, partial
from typing import Any, Final

import sqlalchemy as sa
from flask import Flask
from werkzeug.local import LocalProxy

from tokenapp import config, db

_FOLDER: Final = config.ROOT / "migrations"
_REVISION: Final = re.compile(r'^(down_)?revision = "(\w+)"$', re.ASCII | re.MULTILINE)


def init_app(app: Flask) -> None:
    """Let Flask-Migrate find our migrations in `app`, and be loaded when it looks for them."""
    app.extensions["migrate"] = LocalProxy(partial(load, app))


def load(app: Flask) -> Any:
    """Load Flask-Migrate with its group of commands, ``flask db``, and return what it keeps of `app`."""
    from flask_migrate import Migrate  # noqa: PLC0415 -- as the docstring of the module says

    if isinstance(app.extensions["migrate"], LocalProxy):
        Migrate(app, db.db, directory=str(_FOLDER))
    return app.extensions["migrate"]


def stored_version() -> str | None:
    """Return the version of the tables, as the last migration left it.

    Raises:
        sqlalchemy.exc.DBAPIError: the database is away, or has no tables at all.
    """
    rows = db.execute_now(sa.text("SELECT version_num FROM alembic_version"))
    return rows[0][0] if rows else None


@cache
def newest_version() -> str | None:
    """Return the version that the program's own migrations lead to: the one that none of them goes on from."""
    names: dict[str, set[str]] = {"": set(), "down_": set()}
    for file in (_FOLDER / "versions").glob("*.py"):
        for which, name in _REVISION.findall(file.read_text(encoding="utf-8")):
            names[which].add(name)
    return max(names[""] - names["down_"], default=None)
