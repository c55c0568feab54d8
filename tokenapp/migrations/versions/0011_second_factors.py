"""Add authenticator apps, recovery codes and pending sign-ins."""

import sqlalchemy as sa
from alembic import op

from tokenapp.db import Instant

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_USER_COLUMNS = ("password_short", "second_factor")
_TABLES = ("totps", "recovery_codes", "pending_sign_ins")


def upgrade() -> None:
    """Upgrade the tables."""
    for name in _USER_COLUMNS:
        op.add_column("users", sa.Column(name, sa.Boolean, nullable=False, server_default=sa.false()))
    op.create_table(
        "totps",
        sa.Column("id", sa.String(64), primary_key=True),
        _user(),
        sa.Column("encrypted", sa.LargeBinary, nullable=False),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("confirmed_at", Instant),
        sa.Column("last_used_at", Instant),
        sa.Column("last_step", sa.Integer, nullable=False),
    )
    op.create_table(
        "recovery_codes",
        sa.Column("digest", sa.String(64), primary_key=True),
        _user(),
        sa.Column("created_at", Instant, nullable=False),
    )
    op.create_table(
        "pending_sign_ins",
        sa.Column("digest", sa.String(64), primary_key=True),
        _user(),
        sa.Column("setup", sa.Boolean, nullable=False),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("expires_at", Instant, nullable=False),
    )
    for name in _TABLES:
        op.create_index(f"ix_{name}_user_id", name, ["user_id"])
    op.create_index("ix_pending_sign_ins_expires_at", "pending_sign_ins", ["expires_at"])


def downgrade() -> None:
    """Restore the previous tables."""
    for name in _TABLES:
        op.drop_table(name)
    for name in _USER_COLUMNS:
        op.drop_column("users", name)


def _user() -> sa.Column[str]:
    return sa.Column("user_id", sa.String(64), sa.ForeignKey("users.id", ondelete="CASCADE"), nullable=False)
