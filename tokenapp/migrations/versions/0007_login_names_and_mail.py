"""Add addresses and login names, one-time tokens and outgoing mail."""

import sqlalchemy as sa
from alembic import op

from tokenapp.accounts import canonical
from tokenapp.db import Instant

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

COLUMNS = ("email", "email_verified_at", "locale", "password_temporary")


def upgrade() -> None:
    """Upgrade the tables."""
    op.add_column("users", sa.Column("email", sa.String(254)))
    op.add_column("users", sa.Column("email_verified_at", Instant))
    op.add_column("users", sa.Column("locale", sa.String(16)))
    op.add_column("users", sa.Column("password_temporary", sa.Boolean, nullable=False, server_default=sa.false()))
    create_login_names()
    create_mail()


def create_login_names() -> None:
    """Create the login names, one for each user."""
    op.create_table(
        "login_names",
        sa.Column("name", sa.String(320), primary_key=True),
        sa.Column("user_id", sa.String(64), sa.ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
        sa.Column("signs_in", sa.Boolean, nullable=False),
    )
    op.create_index("ix_login_names_user_id", "login_names", ["user_id"])
    users = sa.table("users", *(sa.column(name, sa.String) for name in ("id", "username", "deleted_at")))
    names = sa.table("login_names", sa.column("name"), sa.column("user_id"), sa.column("signs_in", sa.Boolean))
    existing = sa.select(users.c.username, users.c.id, sa.true()).where(users.c.deleted_at.is_(None))
    op.execute(sa.insert(names).from_select(["name", "user_id", "signs_in"], existing))
    # Two spellings of a domain are one name now: Unicode and Punycode.
    encoded = sa.select(users.c.username).where(users.c.username.like("%xn--%"))
    for (username,) in op.get_bind().execute(encoded).all():
        name = canonical(username)
        taken = op.get_bind().execute(sa.select(names.c.name).where(names.c.name == name)).first()
        if taken is None:
            op.execute(sa.update(names).where(names.c.name == username).values(name=name))


def create_mail() -> None:
    """Create the tables of one-time tokens, of devices and of mails."""
    op.create_table(
        "one_time_tokens",
        sa.Column("purpose", sa.String(16), primary_key=True),
        sa.Column("address", sa.String(320), primary_key=True),
        sa.Column("email", sa.String(254), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False, unique=True),
        sa.Column("user_id", sa.String(64), sa.ForeignKey("users.id", ondelete="CASCADE")),
        sa.Column("locale", sa.String(16)),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("expires_at", Instant, nullable=False),
        sa.Column("used_at", Instant),
    )
    op.create_index("ix_one_time_tokens_user_id", "one_time_tokens", ["user_id"])
    op.create_index("ix_one_time_tokens_expires_at", "one_time_tokens", ["expires_at"])
    op.create_table(
        "known_devices",
        sa.Column("user_id", sa.String(64), sa.ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("created_at", Instant, nullable=False),
    )
    op.create_index("ix_known_devices_created_at", "known_devices", ["created_at"])
    op.create_table(
        "mails",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("message_id", sa.String(320), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("user_id", sa.String(64)),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("encrypted", sa.LargeBinary),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("due_at", Instant, nullable=False),
        sa.Column("expires_at", Instant, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("lease", sa.String(32)),
        sa.Column("result", sa.String(64)),
    )
    op.create_index("ix_mails_user_id", "mails", ["user_id"])
    queued = sa.text("state = 'queued'")
    op.create_index("ix_mails_queued", "mails", ["due_at"], postgresql_where=queued, sqlite_where=queued)


def downgrade() -> None:
    """Restore the previous tables."""
    for table in ("mails", "known_devices", "one_time_tokens", "login_names"):
        op.drop_table(table)
    for column in COLUMNS:
        op.drop_column("users", column)
