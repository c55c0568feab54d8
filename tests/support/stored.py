"""Read what the database stores."""

from typing import Any

import sqlalchemy as sa
from flask import Flask

from tokenapp import db
from tokenapp.models import Session, Throttle


def sessions(app: Flask) -> list[tuple[Any, ...]]:
    """Return all columns of all sessions."""
    with app.app_context():
        return [tuple(row) for row in db.execute_now(sa.select(Session.__table__).order_by(Session.id))]


def failed_attempts(app: Flask) -> int:
    """Return the number of failed attempts that are counted, over all accounts."""
    with app.app_context():
        return sum(row[0] for row in db.execute_now(sa.select(Throttle.failures)))
