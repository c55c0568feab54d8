"""Add the device key of a session, and the times of its proofs."""

import sqlalchemy as sa
from alembic import op

from tokenapp.db import Instant

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_TIMES = ("bound_at", "proved_at", "unproved_at")


def upgrade() -> None:
    """Upgrade the tables."""
    op.add_column("sessions", sa.Column("bound_key", sa.String(1024)))
    for name in _TIMES:
        op.add_column("sessions", sa.Column(name, Instant))


def downgrade() -> None:
    """Downgrade the tables."""
    for name in (*_TIMES, "bound_key"):
        op.drop_column("sessions", name)
