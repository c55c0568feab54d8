"""Create the tables of the audit log, the lockout and the rate limit."""

import sqlalchemy as sa
from alembic import op

from tokenapp.db import Instant

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Upgrade the tables."""
    op.create_table(
        "events",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("at", Instant, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("user_id", sa.String(64)),
        sa.Column("sid", sa.String(64)),
        sa.Column("reason", sa.String(64)),
        sa.Column("actor", sa.String(16), nullable=False),
        sa.Column("request_id", sa.String(128)),
        sa.Column("ip_address", sa.String(64)),
    )
    op.create_index("ix_events_user", "events", ["user_id", "id"])
    op.create_index("ix_events_session", "events", ["sid", "id"])
    op.create_table(
        "throttles",
        sa.Column("account", sa.String(64), primary_key=True),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("last_failed_at", Instant, nullable=False),
    )
    op.create_table(
        "address_counts",
        sa.Column("key", sa.String(256), primary_key=True),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("expires_at", Instant, nullable=False),
    )
    op.create_index("ix_address_counts_expires_at", "address_counts", ["expires_at"])


def downgrade() -> None:
    """Restore the previous tables."""
    for table in ("address_counts", "throttles", "events"):
        op.drop_table(table)
