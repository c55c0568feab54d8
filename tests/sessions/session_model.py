"""The model of a session, and how time passes for its row in the database."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import sqlalchemy as sa
from hypothesis import strategies as st

from tokenapp import db
from tokenapp.models import Session, Throttle
from tokenapp.throttle.lockout import FREE_FAILURES

GRACE_PERIOD: Final = 600  # seconds
MINUTE, HOUR, DAY = 60, 3600, 86400
AGES: Final = st.sampled_from([2 * MINUTE, 8 * MINUTE, GRACE_PERIOD, HOUR, 2 * DAY, 6 * DAY, 8 * DAY, 31 * DAY])
TIMES: Final = ("created_at", "authenticated_at", "rotated_at", "expires_at", "ends_at")
CHECKED: Final = (
    Session.id,
    Session.current_jti,
    Session.generation,
    Session.created_at,
    Session.expires_at,
    Session.ends_at,
    Session.revoked_at,
    Session.last_user_agent,
)


@dataclass
class Login:
    """The model of a session.

    `tokens` are the refresh tokens in their order, without those that a restored backup does not know, which are in
    `lost`. `browser` is the one that signed in or rotated last, `failures` the wrong passwords in the session. Ages
    are in seconds; `rotation_age` is None before the first rotation. `revoked_at` is a monotonic time.
    """

    user: str
    sid: str
    tokens: list[str]
    browser: str
    failures: int = 0
    lost: list[str] = field(default_factory=list)
    access: list[str] = field(default_factory=list)
    rotation_age: int | None = None
    idle: int = 0
    age: int = 0
    revoked_at: float | None = None

    @property
    def expired(self) -> bool:
        """Whether the idle or the absolute limit has passed."""
        return self.idle >= 7 * DAY or self.age >= 30 * DAY

    def outcome(self, token: str) -> str:
        """Return the outcome of presenting `token` that the contract requires."""
        recent = self.rotation_age is not None and self.rotation_age < GRACE_PERIOD
        if self.revoked_at is not None:
            return "revoked"
        if self.expired:
            return "expired"
        if token == self.tokens[-1]:
            return "damped" if recent else "rotated"
        if token in self.tokens[-2:] and recent:
            return "grace"
        return "ahead" if token in self.lost else "reuse"


def age(sid: str, seconds: int) -> None:
    """Move all times of a session back."""
    shift = timedelta(seconds=seconds)
    with db.reading() as reader:
        row = reader.get_one(Session, sid)
        times = {name: getattr(row, name) - shift for name in TIMES if getattr(row, name) is not None}
    db.execute_now(sa.update(Session).where(Session.id == sid).values(times))


def lengthen_waits() -> None:
    """Let the waits after failures begin in an hour: none ends during an example."""
    locked = sa.update(Throttle).where(Throttle.failures > FREE_FAILURES)
    db.execute_now(locked.values(last_failed_at=datetime.now(UTC) + timedelta(hours=1)))
