"""Setting up the first second factor while signing in, as the service requires."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import orm

from tokenapp import db, errors
from tokenapp.factor_models import PendingSignIn
from tokenapp.factors import pending, registry
from tokenapp.factors.checks import Answer, Checked, Enrolment
from tokenapp.factors.levels import Proof
from tokenapp.factors.pending import Waiting
from tokenapp.models import Device, User
from tokenapp.sessions import device_names


@db.retried
def start_totp(token: str, now: datetime) -> Enrolment:
    """Return a new secret for a pending sign-in that must set up a second factor.

    Raises:
        errors.SignInExpired: there is no such pending sign-in, or it does not allow that.
    """
    from tokenapp.factors import totp  # noqa: PLC0415 -- loaded only when it is used

    waiting = pending.find(token, now)
    with db.writing() as writer:
        user = writer.get(User, waiting.user.id, with_for_update=True)
        live = sa.select(PendingSignIn.digest).where(PendingSignIn.digest == waiting.digest, PendingSignIn.setup)
        if user is None or user.second_factor or writer.scalar(live) is None:
            raise errors.SignInExpired
        return totp.create(writer, user, now)


def start_passkey(token: str, now: datetime) -> Waiting:
    """Return the pending sign-in that can set up a passkey; nothing is written.

    Raises:
        errors.SignInExpired: there is no such pending sign-in, or it does not allow that.
    """
    waiting = pending.find(token, now)
    if not waiting.setup:
        raise errors.SignInExpired
    return waiting


def check(waiting: Waiting, answer: Answer, device: Device, now: datetime) -> Checked:
    """Check an answer that confirms the first factor of a user who is signing in.

    Args:
        device: what a new passkey is named after.

    Raises:
        errors.InvalidCode, errors.FactorNotFound, errors.PasskeyRejected
    """
    if answer.method not in registry.kinds_to_set_up():
        raise errors.InvalidCode(reason=f"{answer.method}: cannot be set up while signing in")
    if answer.method == "passkey":
        from tokenapp.factors import passkeys  # noqa: PLC0415 -- as above

        name = device_names.describe(device.user_agent)[: passkeys.MAX_NAME]
        return passkeys.check_setup(waiting.user, answer.credential or {}, waiting.digest, name, now)
    from tokenapp.factors import totp  # noqa: PLC0415 -- as above

    def spend(writer: orm.Session) -> list[str] | None:
        user = writer.get_one(User, waiting.user.id, with_for_update=True)
        return totp.confirm(writer, user, answer.code, now)

    return Checked(Proof("totp"), spend)
