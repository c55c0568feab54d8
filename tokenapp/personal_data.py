"""What is stored about a person, for download."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa

from tokenapp import accounts, db
from tokenapp.factor_models import Passkey, PendingSignIn, RecoveryCode, Totp
from tokenapp.models import AccessKey, AuditEvent, KnownDevice, Mail, OneTimeToken, Session


class Export(msgspec.Struct, rename="camel"):
    """All data about a user, except secrets and their digests."""

    exported_at: datetime
    account: dict[str, Any]
    sessions: list[dict[str, Any]]
    access_keys: list[dict[str, Any]]
    events: list[dict[str, Any]]
    mails: list[dict[str, Any]]
    links: list[dict[str, Any]]
    known_devices: list[dict[str, Any]]
    passkeys: list[dict[str, Any]]
    authenticator_apps: list[dict[str, Any]]
    recovery_codes: list[dict[str, Any]]
    pending_sign_ins: list[dict[str, Any]]


def export(user_id: str, now: datetime) -> Export:
    """Return everything that is stored about a user.

    Raises:
        errors.AccessTokenInvalid: the user was deleted or disabled.
    """
    user = accounts.get_active(user_id)
    account = {
        "id": user.id,
        "username": user.username,
        "email": user.email,
        "emailVerifiedAt": user.email_verified_at,
        "locale": user.locale,
        "roles": user.roles.split(),
        "createdAt": user.created_at,
        "passwordChangedAt": user.credentials_changed_at,
    }
    sids = sa.select(AuditEvent.sid).where(AuditEvent.user_id == user_id)
    return Export(
        exported_at=now,
        account=account,
        # By the events: no index finds the ended sessions of a user.
        sessions=_rows(user_id, Session, ("current_jti", "previous_jti", "generation"), Session.id.in_(sids)),
        access_keys=_rows(user_id, AccessKey, ("digest",)),
        events=_rows(user_id, AuditEvent, ("operator",)),
        mails=_rows(user_id, Mail, ("encrypted", "lease")),
        links=_rows(user_id, OneTimeToken, ("digest", "address"), also=_is_to(user.email)),
        known_devices=_rows(user_id, KnownDevice, ("digest",)),
        passkeys=_rows(user_id, Passkey, ("public_key",)),
        authenticator_apps=_rows(user_id, Totp, ("encrypted", "last_step")),
        recovery_codes=_rows(user_id, RecoveryCode, ("digest",)),
        pending_sign_ins=_rows(user_id, PendingSignIn, ("digest", "new_hash", "new_short")),
    )


def _is_to(email: str | None) -> sa.ColumnElement[bool]:
    """Return whether a link was mailed to an address, before it had an account."""
    return sa.and_(OneTimeToken.user_id.is_(None), OneTimeToken.address == accounts.canonical(email or ""))


def _rows(
    user_id: str,
    kind: Any,
    left_out: Sequence[str],
    *which: sa.ColumnElement[bool],
    also: sa.ColumnElement[bool] | None = None,
) -> list[dict[str, Any]]:
    """Return the rows of a user, without secrets and what has no meaning outside."""
    columns = [column for column in kind.__table__.columns if column.name not in {"user_id", *left_out}]
    owned = kind.user_id == user_id if also is None else sa.or_(kind.user_id == user_id, also)
    mine = sa.select(*columns).where(owned, *which).order_by(*kind.__table__.primary_key)
    rows = db.execute_now(mine)
    return [{_camel(name): value for name, value in row._mapping.items()} for row in rows]  # noqa: SLF001 -- documented


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
