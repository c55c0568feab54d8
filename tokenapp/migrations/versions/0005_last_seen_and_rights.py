"""Add last address, rights, hash kinds and counts; revoke surplus sessions."""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

from tokenapp import errors
from tokenapp.db import Instant, new_id
from tokenapp.passwords import kind_of

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

MAX_SESSIONS = 100
ALL_RIGHTS = "introspect revoke feed"
BATCH = 10_000


def upgrade() -> None:
    """Upgrade the tables."""
    op.add_column("sessions", sa.Column("last_ip_address", sa.String(64)))
    op.add_column("sessions", sa.Column("last_user_agent", sa.String(512)))
    op.execute(
        "UPDATE sessions SET last_ip_address = ip_address, last_user_agent = user_agent WHERE revoked_at IS NULL"
    )
    op.add_column("clients", sa.Column("rights", sa.String(64), nullable=False, server_default=""))
    op.execute(sa.table("clients", sa.column("rights", sa.String)).update().values(rights=ALL_RIGHTS))
    op.add_column("events", sa.Column("operator", sa.String(64)))
    unknown = sa.text("kind = 'sign_in_failed' AND user_id IS NULL")
    op.create_index("ix_events_unknown_user", "events", ["id"], postgresql_where=unknown, sqlite_where=unknown)
    op.add_column("events", sa.Column("count", sa.Integer, nullable=False, server_default="1"))
    op.add_column("users", sa.Column("hash_kind", sa.String(64), nullable=False, server_default=""))
    op.create_index("ix_users_hash_kind", "users", ["hash_kind"])
    name_hash_kinds()
    revoke_surplus()


def name_hash_kinds() -> None:
    """Record the kind of each stored hash.

    Hashes that are too expensive to verify get none, and ``flask doctor`` names their users.
    """
    users = sa.table("users", *(sa.column(name, sa.String) for name in ("id", "password_hash", "hash_kind")))
    rename = sa.update(users).where(users.c.id == sa.bindparam("user")).values(hash_kind=sa.bindparam("kind"))
    last = ""
    page = sa.select(users.c.id, users.c.password_hash).order_by(users.c.id).limit(BATCH)
    while rows := op.get_bind().execute(page.where(users.c.id > last)).all():
        last = rows[-1].id
        op.get_bind().execute(rename, [{"user": row.id, "kind": kind(row.password_hash)} for row in rows])


def kind(stored: str) -> str:
    """Return the kind of a hash, or nothing for one that cannot be verified."""
    try:
        return kind_of(stored)
    except errors.PasswordRejected:
        return ""


def revoke_surplus() -> None:
    """Revoke the oldest sessions of users who have more than the limit."""
    now = datetime.now(UTC)
    sessions = sa.table(
        "sessions",
        *(sa.column(name, sa.String) for name in ("id", "user_id", "revoked_reason")),
        sa.column("revoked_at", Instant),
        sa.column("expires_at", Instant),
    )
    events = sa.table(
        "events",
        *(sa.column(name, sa.String) for name in ("id", "kind", "user_id", "sid", "reason", "actor")),
        sa.column("at", Instant),
    )
    age = sa.func.row_number().over(partition_by=sessions.c.user_id, order_by=sessions.c.id.desc()).label("age")
    ranked = sa.select(sessions.c.id, sessions.c.user_id, age).where(
        sessions.c.revoked_at.is_(None), sessions.c.expires_at > now
    )
    surplus = ranked.subquery()
    found = op.get_bind().execute(sa.select(surplus.c.id, surplus.c.user_id).where(surplus.c.age > MAX_SESSIONS)).all()
    for start in range(0, len(found), BATCH):
        rows = found[start : start + BATCH]
        op.get_bind().execute(
            sa.update(sessions)
            .where(sessions.c.id == sa.bindparam("sid"))
            .values(revoked_at=now, revoked_reason="too_many_sessions"),
            [{"sid": row.id} for row in rows],
        )
        made = [
            {
                "id": new_id(now),
                "kind": "session_ended",
                "at": now,
                "user_id": row.user_id,
                "sid": row.id,
                "reason": "too_many_sessions",
                "actor": "operator",
            }
            for row in rows
        ]
        op.get_bind().execute(sa.insert(events), made)


def downgrade() -> None:
    """Restore the previous tables."""
    op.drop_index("ix_users_hash_kind", "users")
    op.drop_column("users", "hash_kind")
    op.drop_index("ix_events_unknown_user", "events")
    op.drop_column("events", "operator")
    op.drop_column("events", "count")
    op.drop_column("clients", "rights")
    op.drop_column("sessions", "last_user_agent")
    op.drop_column("sessions", "last_ip_address")
