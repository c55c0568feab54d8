"""Rename two columns; add the authentication methods of a session."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Upgrade the tables."""
    op.alter_column("users", "password_changed_at", new_column_name="credentials_changed_at")
    op.alter_column("signing_keys", "sealed", new_column_name="encrypted")
    op.add_column("sessions", sa.Column("amr", sa.String(64), nullable=False, server_default="pwd"))


def downgrade() -> None:
    """Restore the previous tables."""
    op.drop_column("sessions", "amr")
    op.alter_column("signing_keys", "encrypted", new_column_name="sealed")
    op.alter_column("users", "credentials_changed_at", new_column_name="password_changed_at")
