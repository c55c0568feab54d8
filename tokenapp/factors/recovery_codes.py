"""Recovery codes: ten of 80 bits each, shown once, each used once."""

import base64
import hashlib
import re
import secrets
from datetime import datetime
from typing import Final, Literal

import sqlalchemy as sa
from sqlalchemy import orm

from tokenapp import audit, errors
from tokenapp.factor_models import RecoveryCode
from tokenapp.factors.checks import Checked, normalize
from tokenapp.factors.levels import Proof
from tokenapp.models import User

Reason = Literal["first factor", "replaced"]
NUMBER: Final = 10
_BYTES: Final = 10
_FORM: Final = re.compile(r"[A-Z2-7]{16}")
_GROUP: Final = 4


def replace(writer: orm.Session, user_id: str, now: datetime, reason: Reason) -> list[str]:
    """Replace the recovery codes of a user, and return the new ones."""
    codes = [base64.b32encode(secrets.token_bytes(_BYTES)).decode() for _ in range(NUMBER)]
    writer.execute(sa.delete(RecoveryCode).where(RecoveryCode.user_id == user_id))
    rows = [{"digest": _digest(code), "user_id": user_id, "created_at": now} for code in codes]
    writer.execute(sa.insert(RecoveryCode), rows)
    audit.record(writer, "recovery_codes_created", now, user_id=user_id, reason=reason)
    return ["-".join(code[start : start + _GROUP] for start in range(0, len(code), _GROUP)).lower() for code in codes]


def check(user: User, code: str, now: datetime) -> Checked:
    """Return what a recovery code proves; its use decides whether it is right.

    Raises:
        errors.InvalidCode: it cannot be a recovery code.
    """
    code = normalize(code)
    if not _FORM.fullmatch(code):
        raise errors.InvalidCode(reason="recovery_code: malformed")

    def spend(writer: orm.Session) -> None:
        own = (RecoveryCode.digest == _digest(code), RecoveryCode.user_id == user.id)
        if not writer.connection().execute(sa.delete(RecoveryCode).where(*own)).rowcount:
            raise errors.InvalidCode(reason="recovery_code: unknown or used before")
        audit.record(writer, "recovery_code_used", now, user_id=user.id)

    return Checked(Proof("recovery_code"), spend)


def _digest(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()
