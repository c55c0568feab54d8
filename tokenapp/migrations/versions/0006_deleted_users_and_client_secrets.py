"""Add the time of deletion of users, and last use and old secret of clients."""

import sqlalchemy as sa
from alembic import op

from tokenapp.db import Instant

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Upgrade the tables."""
    op.add_column("users", sa.Column("deleted_at", Instant))
    op.add_column("clients", sa.Column("last_used_at", Instant))
    op.add_column("clients", sa.Column("previous_secret_hash", sa.String(64)))
    op.add_column("clients", sa.Column("previous_secret_until", Instant))


def downgrade() -> None:
    """Restore the previous tables."""
    op.drop_column("clients", "previous_secret_until")
    op.drop_column("clients", "previous_secret_hash")
    op.drop_column("clients", "last_used_at")
    op.drop_column("users", "deleted_at")
