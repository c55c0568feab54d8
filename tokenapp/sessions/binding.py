"""Bind sessions to a key that does not leave the device.

The browser registers the key after a sign-in. From then on a refresh needs the bound cookie, beside the refresh token,
and the browser gets a bound cookie only for a signed challenge (Device Bound Session Credentials, a draft of the W3C).
Challenges and bound cookies are not stored: they contain a time and a keyed digest.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

import sqlalchemy as sa
from sqlalchemy import bindparam

from tokenapp import audit, config, db, errors
from tokenapp.encryption import keyed_digest, matches_digest
from tokenapp.models import Session, User
from tokenapp.sessions import device_proof
from tokenapp.sessions.device_proof import ProofError

COOKIE: Final = "__Host-bound"
CHALLENGE_LIFETIME: Final = timedelta(minutes=5)
# Clocks of hosts may differ, and a cookie may expire on its way.
CLOCK_SLACK: Final = timedelta(seconds=60)

Use = Literal["registration", "refresh"]


def challenge(use: Use, sid: str, now: datetime) -> str:
    """Return a challenge for the key of a session, valid for five minutes."""
    issued = _milliseconds(now)
    return f"{issued}.{keyed_digest(f'device binding {use} {sid} {issued}')}"


def register(sid: str, proof: str, audience: str, now: datetime) -> None:
    """Bind the session `sid` to the key in `proof`.

    A session is bound once. The same registration may arrive twice, if its first response was lost. After the key's
    first proof it is a replay.

    Raises:
        errors.DeviceProofInvalid: the proof is invalid or a replay, or the session is revoked or bound to another key.
    """
    try:
        signed = device_proof.verify_registration(proof, audience)
        _check_challenge("registration", sid, signed.challenge, now)
    except ProofError as error:
        raise errors.DeviceProofInvalid(reason=str(error), sid=sid) from None
    if not _bind(sid, signed.key, now):
        row = _read(sid)
        if row is None or not _is_live(row, now) or row.bound_key != signed.key or row.proved_at is not None:
            raise errors.DeviceProofInvalid(reason="revoked, bound to another key, or a replay", sid=sid)


def prove(sid: str, proof: str | None, audience: str, now: datetime) -> bool:
    """Record a proof of the session's key; return whether the session is live.

    Each challenge is accepted once, and none that is older than the one that was accepted last.

    Raises:
        errors.DeviceProofRequired: with a new challenge, if there is no valid proof.
    """
    row = _read(sid)
    if row is None or row.bound_key is None or not _is_live(row, now):
        return False
    reason = "no proof"
    if proof is not None:
        try:
            signed = device_proof.verify(proof, row.bound_key, audience, sid)
            if _record_proof(sid, _check_challenge("refresh", sid, signed, now), now):
                return True
            reason = "used challenge"
        except ProofError as error:
            reason = str(error)
    # Later than the last one, even if that was issued by a host whose clock is a little ahead.
    is_usable = row.proved_at is not None and row.proved_at <= now + CLOCK_SLACK
    issued = max(now, row.proved_at + timedelta(milliseconds=1)) if is_usable else now
    raise errors.DeviceProofRequired(reason=reason, sid=sid, device_challenge=challenge("refresh", sid, issued))


def bound_cookie(sid: str, now: datetime) -> tuple[str, int]:
    """Return the value of a new bound cookie, and its lifetime in seconds.

    The browser deletes the cookie a little before the service rejects it.
    """
    lifetime = config.current().bound_cookie_lifetime
    expires = int(now.timestamp()) + lifetime
    return f"{expires}.{keyed_digest(f'bound cookie {sid} {expires}')}", lifetime - min(5, lifetime // 5)


def time_left(sid: str, cookie: str, now: datetime) -> timedelta:
    """Return how long a bound cookie of the session is valid, if it is authentic.

    For other cookies it is minus one minute.
    """
    expires, _, digest = cookie.partition(".")
    if not (expires.isascii() and expires.isdigit() and len(expires) < len("10000000000000")):
        return -CLOCK_SLACK
    if not matches_digest(digest, f"bound cookie {sid} {expires}"):
        return -CLOCK_SLACK
    return datetime.fromtimestamp(int(expires), UTC) - now


def _check_challenge(use: Use, sid: str, text: str, now: datetime) -> datetime:
    """Return when the challenge was issued."""
    issued, _, digest = text.partition(".")
    if not matches_digest(digest, f"device binding {use} {sid} {issued}"):
        raise ProofError("another challenge")
    moment = datetime.fromtimestamp(int(issued) / 1000, UTC)
    if not -CLOCK_SLACK <= now - moment <= CHALLENGE_LIFETIME:
        raise ProofError("old challenge")
    return moment


@db.retried
def _bind(sid: str, key: str, now: datetime) -> bool:
    live = (Session.id == sid, Session.bound_key.is_(None), Session.revoked_at.is_(None), Session.expires_at > now)
    with db.writing() as writer:
        bind = sa.update(Session).where(*live).values(bound_key=key, bound_at=now).returning(Session.user_id)
        user_id = writer.connection().execute(bind).scalar()
        if user_id is not None:
            audit.record(writer, "session_bound", now, user_id=user_id, sid=sid)
    return user_id is not None


def _record_proof(sid: str, issued: datetime, now: datetime) -> bool:
    return bool(db.run(_PROVE, sid=sid, issued=issued, too_late=now + CLOCK_SLACK))


def _read(sid: str) -> Any | None:
    rows = db.run(_READ, sid=sid)
    return rows[0] if rows else None


def _is_live(row: Any, now: datetime) -> bool:
    return row.revoked_at is None and row.disabled_at is None and now < row.expires_at


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


_ISSUED: Final = bindparam("issued", type_=db.Instant())
_PROVE: Final = db.Statement(
    sa.update(Session)
    .where(
        Session.id == bindparam("sid"),
        Session.revoked_at.is_(None),
        # A time further in the future was set by a wrong clock, and does not count.
        sa.or_(
            Session.proved_at.is_(None),
            Session.proved_at < _ISSUED,
            Session.proved_at > bindparam("too_late", type_=db.Instant()),
        ),
    )
    .values(proved_at=_ISSUED)
    .returning(Session.id)
)
_STORED: Final[tuple[Any, ...]] = (
    Session.id,
    Session.bound_key,
    Session.proved_at,
    Session.revoked_at,
    Session.expires_at,
)
_READ: Final = db.Statement(
    sa.select(*_STORED, User.disabled_at).join(User, User.id == Session.user_id).where(Session.id == bindparam("sid"))
)
