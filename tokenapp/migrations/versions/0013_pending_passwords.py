"""Let a sign-in keep the new password until the second factor is confirmed."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Upgrade the tables."""
    op.add_column("pending_sign_ins", sa.Column("new_hash", sa.String(512)))
    op.add_column("pending_sign_ins", sa.Column("new_short", sa.Boolean, nullable=False, server_default=sa.false()))


def downgrade() -> None:
    """Downgrade the tables."""
    op.drop_column("pending_sign_ins", "new_short")
    op.drop_column("pending_sign_ins", "new_hash")
