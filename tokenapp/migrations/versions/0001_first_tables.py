"""Create the tables of users, sessions and signing keys."""

import sqlalchemy as sa
from alembic import op

from tokenapp.db import Instant

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Upgrade the tables."""
    op.create_table(
        "users",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("username", sa.String(128), nullable=False, unique=True),
        sa.Column("password_hash", sa.String(512), nullable=False),
        sa.Column("password_changed_at", Instant, nullable=False),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("disabled_at", Instant),
    )
    op.create_table(
        "sessions",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("user_id", sa.String(64), sa.ForeignKey("users.id"), nullable=False),
        sa.Column("current_jti", sa.String(32), nullable=False),
        sa.Column("previous_jti", sa.String(32)),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("authenticated_at", Instant, nullable=False),
        sa.Column("rotated_at", Instant),
        sa.Column("expires_at", Instant, nullable=False),
        sa.Column("ends_at", Instant, nullable=False),
        sa.Column("revoked_at", Instant),
        sa.Column("revoked_reason", sa.String(32)),
        sa.Column("ip_address", sa.String(64)),
        sa.Column("user_agent", sa.String(512)),
        # With free space on each page PostgreSQL can update a row without changing an index (HOT).
        postgresql_with={"fillfactor": 80},
    )
    op.create_index("ix_sessions_ends_at", "sessions", ["ends_at"])
    _create_partial_index("ix_sessions_live_user", "sessions", "user_id", "revoked_at IS NULL")
    _create_partial_index("ix_sessions_revoked_at", "sessions", "revoked_at", "revoked_at IS NOT NULL")
    op.create_table(
        "signing_keys",
        sa.Column("kid", sa.String(64), primary_key=True),
        sa.Column("use", sa.String(16), nullable=False),
        sa.Column("serial", sa.Integer, nullable=False),
        sa.Column("algorithm", sa.String(16), nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("activates_at", Instant, nullable=False),
        sa.Column("verifies_until", Instant),
        sa.Column("retired_at", Instant),
    )
    op.create_index("uq_signing_keys_serial", "signing_keys", ["use", "serial"], unique=True)


def downgrade() -> None:
    """Restore the previous tables."""
    for table in ("signing_keys", "sessions", "users"):
        op.drop_table(table)


def _create_partial_index(name: str, table: str, column: str, where: str) -> None:
    condition = sa.text(where)
    op.create_index(name, table, [column], postgresql_where=condition, sqlite_where=condition)
