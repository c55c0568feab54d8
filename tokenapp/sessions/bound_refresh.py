"""Decide whether a refresh of a bound session comes from the device.

It needs a valid bound cookie. There are two exceptions for honest browsers: right after the registration, whose
response may not have arrived yet, and for a short time if the browser says that it could not sign.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, NamedTuple

import sqlalchemy as sa
from sqlalchemy import bindparam

from tokenapp import audit, config, db, errors
from tokenapp.models import Device, Grant, RefreshClaims, Session
from tokenapp.sessions import rotation
from tokenapp.sessions.binding import CLOCK_SLACK, time_left

# How long after its last proof a browser may say that it could not give another one.
SKIP_LIMIT: Final = timedelta(minutes=15)
_NEVER: Final = datetime.max.replace(microsecond=0, tzinfo=UTC)

# `new`: registered a moment ago, so that the browser may not have the cookie yet. `skipped`: the browser says that it
# could not sign, and the last proof is recent. `late`: the browser could not sign, or the cookie expired on its way.
Evidence = Literal["unbound", "proved", "new", "skipped", "late", "missing"]


class Presented(NamedTuple):
    """What a refresh presents beside its token: bound cookies, and a skipped proof."""

    cookies: tuple[str, ...] = ()
    skipped: bool = False

    def rotate(self, claims: RefreshClaims, now: datetime, grace: timedelta, device: Device) -> Grant | None:
        """Rotate the token, if the evidence is sufficient or only reported."""
        conditional = _enforced() and not self._has_valid_cookie(claims.sid, now)
        parameters = rotation.parameters(claims, now, grace, device)
        if conditional:
            parameters |= self._limits(now)
        rows = db.run(_ROTATE[not grace, conditional], **parameters)
        return rotation.grant("rotated", rows[0], evidence=self._report(rows[0], now)) if rows else None

    def require(self, row: Any, now: datetime) -> Evidence:
        """Return the evidence for a session's row, or reject the refresh.

        A rejected refresh does not revoke the session: someone used a copy of the cookies, and the owner still has the
        key.

        Raises:
            errors.RefreshTokenRevoked: a copy of the refresh token was used without the device's key.
            errors.ServiceUnavailable: the browser could not sign. It is not signed out, and tries again.
        """
        if not _enforced():
            return self._report(row, now)
        evidence = self._judge(row, now)
        if evidence == "late":
            raise errors.ServiceUnavailable(reason="late proof of the device", sid=row.id, outcome="late")
        if evidence == "missing":
            _note_missing(row, now, "rejected")
            raise errors.RefreshTokenRevoked(reason="no proof of the device", sid=row.id, outcome="unproved")
        return evidence

    def _report(self, row: Any, now: datetime) -> Evidence:
        evidence = self._judge(row, now)
        if evidence in {"late", "missing"}:
            _note_missing(row, now, "reported")
        return evidence

    def _judge(self, row: Any, now: datetime) -> Evidence:
        if row.bound_at is None:
            return "unbound"
        left = max((time_left(row.id, cookie, now) for cookie in self.cookies), default=-CLOCK_SLACK)
        if left > timedelta():
            return "proved"
        if row.proved_at is None and row.bound_at > now - _cookie_lifetime():
            return "new"
        if self.skipped:
            return "skipped" if (row.proved_at or row.bound_at) > now - SKIP_LIMIT else "late"
        return "late" if left > -CLOCK_SLACK else "missing"

    def _has_valid_cookie(self, sid: str, now: datetime) -> bool:
        return any(time_left(sid, cookie, now) > timedelta() for cookie in self.cookies)

    def _limits(self, now: datetime) -> dict[str, datetime]:
        """Return the parameters of `_SUFFICIENT`."""
        return {"new_after": now - _cookie_lifetime(), "skip_after": now - SKIP_LIMIT if self.skipped else _NEVER}


def _enforced() -> bool:
    return config.current().device_binding == "enforce"


def _cookie_lifetime() -> timedelta:
    return timedelta(seconds=config.current().bound_cookie_lifetime)


def _note_missing(row: Any, now: datetime, reason: Literal["rejected", "reported"]) -> None:
    """Record a refresh of a bound session without proof, once an hour."""
    audit.count("refresh_unproved", now, about=row.id, user_id=row.user_id, sid=row.id, reason=reason)
    db.execute_now(sa.update(Session).where(Session.id == row.id).values(unproved_at=now))


# The same decision as `Presented._judge`, for a refresh without a valid cookie.
_SUFFICIENT: Final = sa.or_(
    Session.bound_at.is_(None),
    sa.and_(Session.proved_at.is_(None), Session.bound_at > bindparam("new_after", type_=db.Instant())),
    sa.func.coalesce(Session.proved_at, Session.bound_at, type_=db.Instant())
    > bindparam("skip_after", type_=db.Instant()),
)
_ROTATE: Final = {
    (single_use, conditional): db.Statement(
        rotation.rotation(
            *([_SUFFICIENT] if conditional else []),
            single_use=single_use,
            columns=(Session.bound_at, Session.proved_at),
        )
    )
    for single_use in (False, True)
    for conditional in (False, True)
}
