"""Store when something was last used, with one write per minute."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from tokenapp import db


def note(model: Any, row: Any, now: datetime) -> None:
    """Store the minute in which `row` of `model` was last used.

    A database that only reads does not fail the request, which itself changes nothing.
    """
    minute = now.replace(second=0, microsecond=0)
    if row.last_used_at is not None and row.last_used_at >= minute:
        return
    older = sa.or_(model.last_used_at.is_(None), model.last_used_at < minute)
    try:
        db.execute_now(sa.update(model).where(model.id == row.id, older).values(last_used_at=minute))
    except Exception as error:
        if not db.is_fault(error):
            raise
