"""Create the table of orders."""

import sqlalchemy as sa
from alembic import op

revision = "s001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "shop_orders",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.String(64), nullable=False),
        sa.Column("article", sa.String(100), nullable=False),
        sa.Column("ordered_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_shop_orders"),
    )
    op.create_index("ix_shop_orders_user_id", "shop_orders", ["user_id"])


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("shop_orders")
