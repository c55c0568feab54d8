"""Add access keys, the roles of users, and revocations of both."""

import sqlalchemy as sa
from alembic import op

from tokenapp.db import Instant

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Upgrade the tables."""
    for name, length in (("roles", 700), ("roles_id", 64)):
        op.add_column("users", sa.Column(name, sa.String(length), nullable=False, server_default=""))
    op.create_table(
        "revocations",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("revoked_at", Instant, nullable=False),
    )
    op.create_index("ix_revocations_revoked_at", "revocations", ["revoked_at"])
    op.create_table(
        "access_keys",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("user_id", sa.String(64), sa.ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False, unique=True),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("scopes", sa.String(1400), nullable=False),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("expires_at", Instant, nullable=False),
        sa.Column("last_used_at", Instant),
        sa.Column("noticed_at", Instant),
        sa.Column("revoked_at", Instant),
        sa.Column("revoked_reason", sa.String(32)),
    )
    for column in ("user_id", "expires_at"):
        op.create_index(f"ix_access_keys_{column}", "access_keys", [column])


def downgrade() -> None:
    """Downgrade the tables."""
    op.drop_table("access_keys")
    op.drop_table("revocations")
    for name in ("roles_id", "roles"):
        op.drop_column("users", name)
