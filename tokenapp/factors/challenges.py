"""Challenges for passkeys: issued without a row, and spent once they were signed.

A challenge contains its time and a keyed digest. Only one that a passkey has signed is stored, so that nobody fills the
database by asking for challenges.
"""

import hashlib
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.dialects import postgresql, sqlite

from tokenapp import db
from tokenapp.encryption import keyed_digest, matches_digest
from tokenapp.factor_models import SpentChallenge

# ES256, EdDSA and RS256 (COSE), in the order in which they are offered.
ALGORITHMS: Final = (-7, -8, -257)
LIFETIME: Final = timedelta(minutes=5)
# Clocks of hosts may differ.
_CLOCK_SLACK: Final = timedelta(seconds=60)
_MAX_LENGTH: Final = 128


def issue(use: str, now: datetime) -> bytes:
    """Return a challenge for `use`, valid for five minutes."""
    issued = f"{int(now.timestamp() * 1000)}.{secrets.token_urlsafe(16)}"
    return f"{issued}.{keyed_digest(f'passkey {use} {issued}')}".encode()


def is_valid(challenge: bytes, use: str, now: datetime) -> bool:
    """Return whether `challenge` was issued for `use` within five minutes."""
    text = challenge[:_MAX_LENGTH].decode("ascii", errors="replace")
    issued, _, digest = text.rpartition(".")
    if not matches_digest(digest, f"passkey {use} {issued}"):
        return False
    moment = datetime.fromtimestamp(int(issued.partition(".")[0]) / 1000, UTC)
    return -_CLOCK_SLACK <= now - moment <= LIFETIME


def is_spent(challenge: bytes) -> bool:
    """Return whether a passkey has signed `challenge` before."""
    return bool(db.execute_now(sa.select(SpentChallenge.digest).where(SpentChallenge.digest == _digest(challenge))))


def spend(writer: orm.Session, challenge: bytes, now: datetime) -> bool:
    """Spend a valid challenge; return whether it was unspent.

    Of several transactions that spend it at once, one succeeds.
    """
    row: dict[str, Any] = {
        "digest": _digest(challenge),
        "expires_at": now + LIFETIME + 2 * _CLOCK_SLACK,
    }
    insert: Any = postgresql.insert if db.current().engine.dialect.name == "postgresql" else sqlite.insert
    spending = insert(SpentChallenge).values(row).on_conflict_do_nothing().returning(SpentChallenge.digest)
    return writer.connection().execute(spending).first() is not None


def prune(now: datetime) -> int:
    """Delete the digests of challenges that have expired; return how many."""
    old = sa.delete(SpentChallenge).where(SpentChallenge.expires_at < now).returning(SpentChallenge.digest)
    return len(db.execute_now(old))


def _digest(challenge: bytes) -> str:
    return hashlib.sha256(challenge).hexdigest()
