"""Refresh-token rotation: the statement that decides races, and the policy."""

import logging
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

import sqlalchemy as sa
from sqlalchemy import bindparam, orm

from tokenapp import audit, config, db, errors
from tokenapp.models import Device, Grant, Outcome, RefreshClaims, Session, User
from tokenapp.sessions.revocation import revoke
from tokenapp.throttle.rate_limit import network_of

log = logging.getLogger(__name__)
# A rotation that lies further in the future was dated by a wrong clock, and does not count as recent.
_CLOCK_SLACK: Final = timedelta(seconds=60)

_NOW: Final = bindparam("now", type_=db.Instant())
_ACTIVE_USER: Final = sa.select(User.id).where(User.id == Session.user_id, User.disabled_at.is_(None))
_USERNAME: Final = sa.select(User.username).where(User.id == Session.user_id).correlate(Session).scalar_subquery()
_ROLES: Final = (
    sa.select(User.roles_id + " " + User.roles).where(User.id == Session.user_id).correlate(Session).scalar_subquery()
)
GRANTED: Final = (
    Session.id,
    Session.user_id,
    _USERNAME.label("username"),
    Session.current_jti,
    Session.generation,
    sa.func.coalesce(Session.rotated_at, Session.created_at, type_=db.Instant()).label("issued_at"),
    Session.expires_at,
    Session.ends_at,
    Session.authenticated_at,
    Session.amr,
    _ROLES.label("roles"),
)


class DeviceCheck(Protocol):
    """What else a refresh must show, if sessions are bound to devices."""

    def rotate(self, claims: RefreshClaims, now: datetime, grace: timedelta, device: Device) -> Grant | None:
        """Rotate the token in one statement; return None if a condition is not met."""

    def require(self, row: Any, now: datetime) -> str:
        """Return what is shown for a session's row, or reject the refresh."""


def refresh(
    claims: RefreshClaims,
    now: datetime,
    device: Device = Device(),  # noqa: B008 -- immutable
    check: DeviceCheck | None = None,
) -> Grant:
    """Rotate the refresh token of a session.

    A replaced or just issued token is answered with the current one within the grace period, which serves tabs, retries
    and lost responses. Reuse of an older token revokes the session; this is committed before the error is raised.

    Raises:
        errors.RefreshTokenExpired, errors.RefreshTokenRevoked
        errors.ServiceUnavailable: the row changed twice between two statements.
    """
    grace = timedelta(seconds=config.current().refresh_grace)
    for _ in range(2):
        rotated = (_rotate if check is None else check.rotate)(claims, now, grace, device)
        if rotated is not None:
            return rotated
        row = _read(claims.sid)
        if row is None:
            raise errors.RefreshTokenRevoked(reason="unknown session", sid=claims.sid, outcome="revoked")
        if row.revoked_at is not None or row.disabled_at is not None:
            reason = row.revoked_reason or "user_disabled"
            raise errors.RefreshTokenRevoked(reason=f"session ended: {reason}", sid=claims.sid, outcome="revoked")
        if now >= row.expires_at:
            raise errors.RefreshTokenExpired(reason="session expired", sid=claims.sid)
        evidence = None if check is None else check.require(row, now)
        recent = _in_grace_period(row, now, grace)
        if recent and claims.jti in {row.current_jti, row.previous_jti}:
            return grant(
                "damped" if claims.jti == row.current_jti else "grace",
                row,
                elsewhere=_note_elsewhere(row, device, now),
                evidence=evidence,
            )
        if claims.jti != row.current_jti:
            break
    else:
        raise errors.ServiceUnavailable(reason="lost the race twice", sid=claims.sid)
    if claims.gen > row.generation:
        log.critical("refresh token is ahead of the database: was a backup restored? sid=%s", claims.sid)
        audit.record_alone("refresh_ahead", now, sid=claims.sid, user_id=row.user_id)
        raise errors.RefreshTokenRevoked(reason="generation ahead", sid=claims.sid, outcome="ahead")
    revoke(claims.sid, "reuse", now)
    raise errors.RefreshTokenRevoked(reason="reuse", sid=claims.sid, outcome="reuse")


def is_active(sid: str, now: datetime, roles_id: str = "") -> bool:
    """Return whether the session `sid` is live, and its user is active.

    Args:
        roles_id: the set of roles in a token, which must not be replaced.
    """
    row = _read(sid)
    if row is None or row.revoked_at is not None or row.disabled_at is not None or now >= row.expires_at:
        return False
    return not roles_id or roles_id in row.roles.split()[:1]


def grant(outcome: Outcome, row: Any, *, elsewhere: bool = False, evidence: str | None = None) -> Grant:
    """Build a Grant from a row of the columns `GRANTED`."""
    return Grant(
        outcome,
        sid=row.id,
        user_id=row.user_id,
        username=row.username,
        jti=row.current_jti,
        generation=row.generation,
        issued_at=row.issued_at,
        expires_at=row.expires_at,
        ends_at=row.ends_at,
        authenticated_at=row.authenticated_at,
        amr=tuple(row.amr.split()),
        roles=tuple(row.roles.split()),
        elsewhere=elsewhere,
        evidence=evidence,
    )


def new_jti() -> str:
    """Return a new refresh-token id: 128 random bits."""
    return secrets.token_urlsafe(16)


def statement(grace: timedelta) -> db.Statement:
    """Return the rotation statement for a grace period or for none."""
    return _ROTATE[not grace]


def parameters(claims: RefreshClaims, now: datetime, grace: timedelta, device: Device) -> dict[str, Any]:
    """Return the parameters of the rotation statement."""
    return {
        "sid": claims.sid,
        "jti": claims.jti,
        "fresh_jti": new_jti(),
        "now": now,
        "rotated_before": now - grace,
        "rotated_after": now + _CLOCK_SLACK,
        "last_ip_address": device.ip_address,
        "last_user_agent": device.user_agent,
        "idle_limit": now + timedelta(seconds=config.current().refresh_lifetime),
    }


def _rotate(claims: RefreshClaims, now: datetime, grace: timedelta, device: Device) -> Grant | None:
    rows = db.run(statement(grace), **parameters(claims, now, grace, device))
    return grant("rotated", rows[0]) if rows else None


def _read(sid: str) -> Any | None:
    """Return the session's row with the state of its user."""
    rows = db.run(_READ, sid=sid)
    return rows[0] if rows else None


def _in_grace_period(row: Any, now: datetime, grace: timedelta) -> bool:
    """Return whether the last rotation is recent.

    If an outage hid the rotation from the client, the grace period starts when the outage ends.
    """
    if not grace or row.rotated_at is None:
        return False
    age = now - row.rotated_at
    return -_CLOCK_SLACK <= age <= grace or (age > grace and db.was_away(age, grace))


def _note_elsewhere(row: Any, device: Device, now: datetime) -> bool:
    """Record a repeated token from another network and another browser.

    Within the grace period a copied cookie works, and this is the sign of it.
    """
    if not (device.ip_address and row.last_ip_address and device.user_agent != row.last_user_agent):
        return False
    if network_of(device.ip_address) == network_of(row.last_ip_address):
        return False
    audit.record_alone("refresh_elsewhere", now, sid=row.id, user_id=row.user_id)
    return True


def rotation(
    *conditions: sa.ColumnElement[bool], single_use: bool, columns: Sequence[orm.Mapped[Any]] = ()
) -> sa.UpdateBase:
    """Return the statement that rotates a token, under more conditions."""
    idle_limit = bindparam("idle_limit", type_=db.Instant())
    rotated_before = bindparam("rotated_before", type_=db.Instant())
    rotated_after = bindparam("rotated_after", type_=db.Instant())
    not_recent = sa.or_(
        Session.rotated_at.is_(None), Session.rotated_at < rotated_before, Session.rotated_at > rotated_after
    )
    return (
        sa.update(Session)
        .where(
            Session.id == bindparam("sid"),
            Session.current_jti == bindparam("jti"),
            sa.true() if single_use else not_recent,
            Session.revoked_at.is_(None),
            Session.expires_at > _NOW,
            sa.exists(_ACTIVE_USER.correlate(Session)),
            *conditions,
        )
        .values(
            previous_jti=Session.current_jti,
            current_jti=bindparam("fresh_jti"),
            generation=Session.generation + 1,
            rotated_at=db.not_before(_NOW),
            expires_at=sa.case((Session.ends_at < idle_limit, Session.ends_at), else_=idle_limit),
            last_ip_address=bindparam("last_ip_address", type_=sa.String),
            last_user_agent=bindparam("last_user_agent", type_=sa.String),
        )
        .returning(*GRANTED, *columns)
    )


_ROTATE: Final = {single_use: db.Statement(rotation(single_use=single_use)) for single_use in (False, True)}
_READ: Final = db.Statement(
    sa.select(
        *GRANTED,
        Session.previous_jti,
        Session.rotated_at,
        Session.revoked_at,
        Session.revoked_reason,
        Session.last_ip_address,
        Session.last_user_agent,
        Session.bound_at,
        Session.proved_at,
        User.disabled_at,
    )
    .join(User, User.id == Session.user_id)
    .where(Session.id == bindparam("sid"))
)
