"""Signing in with a passkey, alone or as the second step."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy import orm

from tokenapp import audit, config, db, errors, sessions
from tokenapp.factor_models import Passkey
from tokenapp.factors import challenges, levels
from tokenapp.factors.checks import Checked
from tokenapp.factors.levels import Proof
from tokenapp.models import Device, Grant, User
from tokenapp.throttle import rate_limit

USE: Final = "assertion"
_CHANGED: Final = "backup eligibility changed"
_WENT_BACK: Final = "signature counter went back"


class _Signed(NamedTuple):
    """A valid signature by a stored passkey; `named` if it says whose it is.

    `changed` is whether it states another backup eligibility than the passkey had when it was created.
    """

    passkey: Passkey
    user: User
    challenge: bytes
    sign_count: int
    backed_up: bool
    proof: Proof
    named: bool
    changed: bool


class _CounterError(Exception):
    """The signature counter of a passkey that is bound to one device went back."""


def sign_in(credential: Mapping[str, Any], device: Device, now: datetime, *, replaces: str | None = None) -> Grant:
    """Open a session for the owner of the passkey, and revoke the session `replaces`.

    Nothing is written before the signature is verified.

    Raises:
        errors.PasskeyInvalid: or the account changed in the meantime.
        errors.PasskeyUnknown, errors.TooManyAttempts
    """
    signed = _verify(credential, now)
    if not signed.named:
        raise errors.PasskeyInvalid(reason="passkey: no user handle")
    if not signed.proof.user_verified:
        raise errors.PasskeyInvalid(reason="passkey: user not verified")
    if signed.changed or signed.user.disabled_at is not None:
        raise _failed(signed, _CHANGED if signed.changed else "user disabled", now)
    rate_limit.count_sign_in(signed.user.id)
    amr = levels.assess(signed.proof).amr
    try:
        return sessions.open_session(
            signed.user, now, device, amr=amr, replaces=replaces, spend=lambda writer: _spend(writer, signed, now)
        )
    except _CounterError:
        _record_counter(signed, now)
        raise _failed(signed, _WENT_BACK, now) from None
    except errors.PasskeyInvalid:
        raise
    except errors.InvalidCredentials as error:
        raise errors.PasskeyInvalid(reason=f"passkey: {error.reason}") from None


def check(user: User, credential: Mapping[str, Any], now: datetime) -> Checked:
    """Check a passkey that `user` gives for a second step, without using it up.

    Raises:
        errors.PasskeyInvalid, errors.PasskeyUnknown
    """
    signed = _verify(credential, now)
    if signed.user.id != user.id:
        raise errors.PasskeyInvalid(reason="passkey: of another user")
    if signed.changed:
        raise errors.PasskeyInvalid(reason=f"passkey: {_CHANGED}")
    if _rejects(signed.passkey, signed.sign_count):
        _record_counter(signed, now)
        raise errors.PasskeyInvalid(reason=f"passkey: {_WENT_BACK}")

    def spend(writer: orm.Session) -> None:
        try:
            _spend(writer, signed, now)
        except _CounterError:
            raise errors.PasskeyInvalid(reason=f"passkey: {_WENT_BACK}") from None

    return Checked(signed.proof, spend)


def _verify(credential: Mapping[str, Any], now: datetime) -> _Signed:
    from tokenapp.factors import webauthn  # noqa: PLC0415 -- fido2 is loaded when a passkey is used

    try:
        challenge = webauthn.challenge_of(credential)
        if not challenges.is_valid(challenge, USE, now):
            raise errors.PasskeyInvalid(reason="passkey: challenge")
        found = _find(webauthn.credential_id_of(credential))
        if found is None:
            raise errors.PasskeyUnknown(reason="passkey: unknown")
        passkey, user = found
        assertion = webauthn.verify_assertion(credential, passkey.public_key)
    except webauthn.SignatureError as error:
        raise errors.PasskeyInvalid(reason=f"passkey: {error}") from None
    if challenges.is_spent(challenge):
        raise errors.PasskeyInvalid(reason="passkey: used challenge")
    if assertion.user_handle not in {None, user.id}:
        raise errors.PasskeyInvalid(reason="passkey: user handle")
    proof = Proof("passkey", user_verified=assertion.user_verified, device_bound=not passkey.backup_eligible)
    return _Signed(
        passkey,
        user,
        assertion.challenge,
        assertion.sign_count,
        assertion.backed_up,
        proof,
        named=assertion.user_handle is not None,
        changed=assertion.backup_eligible != passkey.backup_eligible,
    )


def _find(credential_id: str) -> tuple[Passkey, User] | None:
    own = (Passkey.credential_id == credential_id, Passkey.rp_id == config.current().rp_id)
    query = sa.select(Passkey, User).join(User, User.id == Passkey.user_id).where(*own)
    with db.reading() as session:
        row = session.execute(query).one_or_none()
    return None if row is None else (row[0], row[1])


def _spend(writer: orm.Session, signed: _Signed, now: datetime) -> None:
    """Spend the challenge, and note the use of the passkey.

    A passkey that is synchronised has one counter for several devices, or none: it is never rejected for it.

    Raises:
        errors.PasskeyInvalid: the challenge was used before, or the passkey deleted in the meantime.
        _CounterError: the counter went back, and the passkey is bound to one device.
    """
    if not challenges.spend(writer, signed.challenge, now):
        raise errors.PasskeyInvalid(reason="passkey: used challenge")
    passkey, count = signed.passkey, signed.sign_count
    forward = sa.or_(Passkey.sign_count < count, sa.and_(Passkey.sign_count == 0, sa.literal(count) == 0))
    using = sa.update(Passkey).where(Passkey.id == passkey.id)
    used = {"sign_count": count, "backed_up": signed.backed_up, "last_used_at": now}
    if writer.connection().execute(using.where(forward).values(used)).rowcount:
        return
    if not passkey.backup_eligible and writer.get(Passkey, passkey.id) is not None:
        raise _CounterError
    if not writer.connection().execute(using.values(used)).rowcount:
        raise errors.PasskeyInvalid(reason="passkey: deleted")
    audit.record(writer, "passkey_counter", now, user_id=passkey.user_id, reason="synchronised: accepted")


def _failed(signed: _Signed, cause: str, now: datetime) -> errors.PasskeyInvalid:
    """Record why a valid signature does not sign in; return the error to raise.

    Only the holder of the passkey can cause this. It is one event per hour.
    """
    about, user_id = f"{signed.user.id} {cause}", signed.user.id
    audit.count("factor_failed", now, about=about, user_id=user_id, reason=f"passkey alone: {cause}")
    return errors.PasskeyInvalid(reason=f"passkey: {cause}")


@db.retried
def _record_counter(signed: _Signed, now: datetime) -> None:
    """Record that a passkey may have been copied, once for each challenge."""
    with db.writing() as writer:
        if challenges.spend(writer, signed.challenge, now):
            audit.record(writer, "passkey_counter", now, user_id=signed.user.id, reason="bound to a device: rejected")


def _rejects(passkey: Passkey, count: int) -> bool:
    return not passkey.backup_eligible and count <= passkey.sign_count and (count, passkey.sign_count) != (0, 0)
