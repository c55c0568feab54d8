"""Erase personal data from the sessions of a deleted user."""

from collections.abc import Sequence
from typing import Final

import sqlalchemy as sa
from sqlalchemy import orm

from tokenapp import db
from tokenapp.models import AuditEvent, Session

_BATCH: Final = 500
_ERASED: Final = dict.fromkeys(("ip_address", "user_agent", "last_ip_address", "last_user_agent", "bound_key"))


def ids_of(user_id: str) -> list[str]:
    """Return the ids of all sessions of a user, live or not.

    No index finds the ended ones, so this reads the whole table. It is done before the transaction that erases.
    """
    return [row.id for row in db.execute_now(sa.select(Session.id).where(Session.user_id == user_id))]


def erase_devices(writer: orm.Session, user_id: str, sids: Sequence[str]) -> None:
    """Erase addresses and browsers from the sessions `sids` of a user.

    Sessions that were opened since `sids` were read are found by their audit events.
    """
    opened = sa.select(AuditEvent.sid).where(AuditEvent.user_id == user_id, AuditEvent.sid.is_not(None))
    batches = [Session.id.in_(sids[start : start + _BATCH]) for start in range(0, len(sids), _BATCH)]
    for which in (Session.id.in_(opened), *batches):
        writer.connection().execute(sa.update(Session).where(Session.user_id == user_id, which).values(_ERASED))
