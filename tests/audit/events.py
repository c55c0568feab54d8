"""Read the audit log and other tables."""

from typing import Any

import sqlalchemy as sa
from flask import Flask

from tokenapp import db
from tokenapp.models import AuditEvent


def rows_of(app: Flask, model: Any) -> list[Any]:
    """Return all rows of a table."""
    with app.app_context(), db.reading() as reader:
        return list(reader.scalars(sa.select(model)))


def kinds(app: Flask) -> list[tuple[str, str | None]]:
    """Return the kind and reason of each audit event, in their order.

    The creation of users and keys, which precedes each test, is left out.
    """
    events = sorted(rows_of(app, AuditEvent), key=lambda event: event.id)
    return [(event.kind, event.reason) for event in events if event.kind not in {"user_created", "key_created"}]
