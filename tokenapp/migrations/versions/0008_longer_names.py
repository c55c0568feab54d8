"""Let names of users have 254 characters, as addresses."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Upgrade the tables."""
    set_length(128, 254)


def downgrade() -> None:
    """Restore the previous tables."""
    set_length(254, 128)


def set_length(before: int, after: int) -> None:
    """Change the length of the column.

    SQLite does not check it. Its ALTER TABLE cannot change it, and a copy of the table would violate the foreign keys
    of sessions. So only the text of the definition is changed, as its documentation advises.
    """
    if op.get_bind().dialect.name != "sqlite":
        op.alter_column("users", "username", existing_type=sa.String(before), type_=sa.String(after))
        return
    old, new = (f"username VARCHAR({length})" for length in (before, after))
    op.execute("PRAGMA writable_schema = ON")
    op.execute(
        sa.text(
            "UPDATE sqlite_master SET sql = replace(sql, :old, :new) WHERE type = 'table' AND name = 'users'"
        ).bindparams(old=old, new=new)
    )
    op.execute("PRAGMA writable_schema = RESET")
