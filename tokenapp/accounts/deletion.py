"""Delete users: a row without personal data stays, so that no id is reused."""

from datetime import datetime
from typing import Final

import sqlalchemy as sa

from tokenapp import access_keys, audit, db, errors, sessions
from tokenapp.factor_models import Passkey, PendingSignIn, RecoveryCode, Totp
from tokenapp.models import AccessKey, KnownDevice, LoginName, Mail, OneTimeToken, Session, User
from tokenapp.throttle import lockout

# A canonical name has no capital letters, so this is never taken.
_PLACEHOLDER: Final = "DELETED "


def delete(user: User, now: datetime, *, sid: str | None = None) -> int:
    """Delete `user` and revoke their sessions; return how many were live.

    One transaction erases names and password, mails and links, and the addresses and browsers in their sessions and
    audit events. The name is free afterwards. The id, the times of creation and deletion, and the kinds and times of
    the events stay.

    Args:
        sid: the session in which the user asks for it.

    Raises:
        errors.UserNotFound: the user was deleted before.
        errors.AccessTokenInvalid: the session was revoked.
        errors.ReauthenticationRequired: the session has a lower level than the account.
    """
    return _delete(user, sessions.ids_of(user.id), now, sid)


@db.retried
def _delete(user: User, sids: list[str], now: datetime, sid: str | None) -> int:
    erased = {
        "username": _PLACEHOLDER + user.id,
        "password_hash": "",
        "hash_kind": "",
        "credentials_changed_at": now,
        "disabled_at": now,
        "deleted_at": now,
        "email": None,
        "email_verified_at": None,
        "locale": None,
        "roles": "",
        "roles_id": "",
        "second_factor": False,
    }
    with db.writing() as session:
        if sid is not None:
            sessions.authorize(session, user.id, sid, now)
        deleting = sa.update(User).where(User.id == user.id, User.deleted_at.is_(None)).values(erased)
        if not session.connection().execute(deleting).rowcount:
            raise errors.UserNotFound
        session.execute(lockout.clearing("password", user.username))
        revoked = sessions.revoke_where(session, Session.user_id == user.id, "user_deleted", now)
        access_keys.revoke_all_of(session, user.id, "user_deleted", now)
        sessions.erase_devices(session, user.id, sids)
        names = sa.select(LoginName.name).where(LoginName.user_id == user.id)
        session.execute(sa.delete(OneTimeToken).where(OneTimeToken.address.in_(names)))
        for kind in (AccessKey, LoginName, OneTimeToken, KnownDevice, Mail, Totp, RecoveryCode, PendingSignIn, Passkey):
            session.execute(sa.delete(kind).where(kind.user_id == user.id))
        audit.record(session, "user_deleted", now, user_id=user.id)
        audit.erase(session, user.id)
        return len(revoked)
