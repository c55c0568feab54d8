"""The database tables, and the records that pass between modules."""

from datetime import datetime
from typing import Literal, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from tokenapp.db import Base, Instant

Outcome = Literal["opened", "rotated", "damped", "grace", "reauthenticated"]
Right = Literal["introspect", "revoke", "feed"]


class User(Base):
    """A person who signs in. `id` is the ``sub`` of the tokens and is never reused.

    `hash_kind` is the algorithm and cost of the password hash; both are empty if the user has no password. The row of a
    deleted user stays, without personal data. It counts as disabled, so that nothing has to ask for `deleted_at` to
    reject the user.

    `email` is stored as given. A user with a temporary password must replace it at the next sign-in. `roles` are
    separated by spaces. `roles_id` changes whenever a role is removed: access tokens with an older one are revoked.
    With `second_factor`, the password alone does not sign the user in. `password_short` is about a password that is
    allowed only then.
    """

    __tablename__ = "users"

    id: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    username: Mapped[str] = mapped_column(sa.String(254), unique=True)
    password_hash: Mapped[str] = mapped_column(sa.String(512))
    hash_kind: Mapped[str] = mapped_column(sa.String(64), server_default=sa.text("''"), index=True)
    credentials_changed_at: Mapped[datetime] = mapped_column(Instant)
    created_at: Mapped[datetime] = mapped_column(Instant)
    disabled_at: Mapped[datetime | None] = mapped_column(Instant)
    deleted_at: Mapped[datetime | None] = mapped_column(Instant)
    email: Mapped[str | None] = mapped_column(sa.String(254))
    email_verified_at: Mapped[datetime | None] = mapped_column(Instant)
    locale: Mapped[str | None] = mapped_column(sa.String(16))
    password_temporary: Mapped[bool] = mapped_column(default=False, server_default=sa.false())
    roles: Mapped[str] = mapped_column(sa.String(700), default="", server_default=sa.text("''"))
    roles_id: Mapped[str] = mapped_column(sa.String(64), default="", server_default=sa.text("''"))
    password_short: Mapped[bool] = mapped_column(default=False, server_default=sa.false())
    second_factor: Mapped[bool] = mapped_column(default=False, server_default=sa.false())


class LoginName(Base):
    """A name that belongs to a user: the user name or the address, in canonical form.

    Its primary key is what makes names and addresses unique together. With an address that is not verified, nobody can
    sign in.
    """

    __tablename__ = "login_names"

    name: Mapped[str] = mapped_column(sa.String(320), primary_key=True)
    user_id: Mapped[str] = mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"), index=True)
    signs_in: Mapped[bool]


class OneTimeToken(Base):
    """A token that was mailed to an address; only its SHA-256 digest is stored.

    `address` is the canonical form of `email`. There is one live token per purpose and address.
    """

    __tablename__ = "one_time_tokens"

    purpose: Mapped[str] = mapped_column(sa.String(16), primary_key=True)
    address: Mapped[str] = mapped_column(sa.String(320), primary_key=True)
    email: Mapped[str] = mapped_column(sa.String(254))
    digest: Mapped[str] = mapped_column(sa.String(64), unique=True)
    user_id: Mapped[str | None] = mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"), index=True)
    locale: Mapped[str | None] = mapped_column(sa.String(16))
    created_at: Mapped[datetime] = mapped_column(Instant)
    expires_at: Mapped[datetime] = mapped_column(Instant, index=True)
    used_at: Mapped[datetime | None] = mapped_column(Instant)


class KnownDevice(Base):
    """A browser or a network from which a user has signed in, as a keyed digest."""

    __tablename__ = "known_devices"

    user_id: Mapped[str] = mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    digest: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    created_at: Mapped[datetime] = mapped_column(Instant, index=True)


class Mail(Base):
    """A mail to send, or what is left of one: its text is erased once it is sent.

    `encrypted` holds the recipient, the subject and both texts. `lease` names the claim of the process that sends it.
    """

    __tablename__ = "mails"
    __table_args__ = (
        sa.Index(
            "ix_mails_queued",
            "due_at",
            postgresql_where=sa.text("state = 'queued'"),
            sqlite_where=sa.text("state = 'queued'"),
        ),
    )

    id: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    message_id: Mapped[str] = mapped_column(sa.String(320))
    kind: Mapped[str] = mapped_column(sa.String(32))
    user_id: Mapped[str | None] = mapped_column(sa.String(64), index=True)
    state: Mapped[str] = mapped_column(sa.String(16))
    encrypted: Mapped[bytes | None] = mapped_column(sa.LargeBinary)
    created_at: Mapped[datetime] = mapped_column(Instant)
    due_at: Mapped[datetime] = mapped_column(Instant)
    expires_at: Mapped[datetime] = mapped_column(Instant)
    failures: Mapped[int] = mapped_column(default=0)
    lease: Mapped[str | None] = mapped_column(sa.String(32))
    result: Mapped[str | None] = mapped_column(sa.String(64))


class Session(Base):
    """One sign-in on one device, with its current and previous refresh token id.

    `amr` lists the authentication methods (RFC 8176), separated by spaces. No index covers a column that a rotation
    changes: a rotation then writes one row and no index (PostgreSQL: HOT update).

    A session that is bound to a device has the device's public key, when it was bound, when the last signed challenge
    was issued, and when a refresh came without proof.
    """

    __tablename__ = "sessions"
    __table_args__ = (
        sa.Index(
            "ix_sessions_live_user",
            "user_id",
            postgresql_where=sa.text("revoked_at IS NULL"),
            sqlite_where=sa.text("revoked_at IS NULL"),
        ),
        sa.Index(
            "ix_sessions_revoked_at",
            "revoked_at",
            postgresql_where=sa.text("revoked_at IS NOT NULL"),
            sqlite_where=sa.text("revoked_at IS NOT NULL"),
        ),
        sa.Index("ix_sessions_ends_at", "ends_at"),
        {"postgresql_with": {"fillfactor": 80}},
    )

    id: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    user_id: Mapped[str] = mapped_column(sa.ForeignKey("users.id"))
    current_jti: Mapped[str] = mapped_column(sa.String(32))
    previous_jti: Mapped[str | None] = mapped_column(sa.String(32))
    generation: Mapped[int] = mapped_column(default=0)
    amr: Mapped[str] = mapped_column(sa.String(64), server_default="pwd")
    created_at: Mapped[datetime] = mapped_column(Instant)
    authenticated_at: Mapped[datetime] = mapped_column(Instant)
    rotated_at: Mapped[datetime | None] = mapped_column(Instant)
    expires_at: Mapped[datetime] = mapped_column(Instant)
    ends_at: Mapped[datetime] = mapped_column(Instant)
    revoked_at: Mapped[datetime | None] = mapped_column(Instant)
    revoked_reason: Mapped[str | None] = mapped_column(sa.String(32))
    ip_address: Mapped[str | None] = mapped_column(sa.String(64))
    user_agent: Mapped[str | None] = mapped_column(sa.String(512))
    last_ip_address: Mapped[str | None] = mapped_column(sa.String(64))
    last_user_agent: Mapped[str | None] = mapped_column(sa.String(512))
    bound_key: Mapped[str | None] = mapped_column(sa.String(1024))
    bound_at: Mapped[datetime | None] = mapped_column(Instant)
    proved_at: Mapped[datetime | None] = mapped_column(Instant)
    unproved_at: Mapped[datetime | None] = mapped_column(Instant)

    def is_live(self, now: datetime) -> bool:
        """Return whether a refresh can still succeed, judging by this row alone."""
        return self.revoked_at is None and now < self.expires_at


class Revocation(Base):
    """A revoked id that access tokens can contain, other than that of a session.

    It is the id of an access key, or of a set of roles. Revoked sessions are found by their own rows.
    """

    __tablename__ = "revocations"

    id: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    revoked_at: Mapped[datetime] = mapped_column(Instant, index=True)


class AccessKey(Base):
    """A personal access key, for scripts; only its SHA-256 digest is stored.

    `id` is the ``sid`` of the access tokens that it is exchanged for. `scopes` are separated by spaces. `last_used_at`
    is to the minute, and `noticed_at` is when its owner was reminded that it expires.
    """

    __tablename__ = "access_keys"

    id: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    user_id: Mapped[str] = mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"), index=True)
    digest: Mapped[str] = mapped_column(sa.String(64), unique=True)
    name: Mapped[str] = mapped_column(sa.String(64))
    scopes: Mapped[str] = mapped_column(sa.String(1400))
    created_at: Mapped[datetime] = mapped_column(Instant)
    expires_at: Mapped[datetime] = mapped_column(Instant, index=True)
    last_used_at: Mapped[datetime | None] = mapped_column(Instant)
    noticed_at: Mapped[datetime | None] = mapped_column(Instant)
    revoked_at: Mapped[datetime | None] = mapped_column(Instant)
    revoked_reason: Mapped[str | None] = mapped_column(sa.String(32))


class AuditEvent(Base):
    """One event of the audit log; `actor` is ``request`` or ``operator``.

    It outlives what it describes.
    """

    __tablename__ = "events"
    __table_args__ = (
        sa.Index("ix_events_user", "user_id", "id"),
        sa.Index("ix_events_session", "sid", "id"),
        sa.Index(
            "ix_events_unknown_user",
            "id",
            postgresql_where=sa.text("kind = 'sign_in_failed' AND user_id IS NULL"),
            sqlite_where=sa.text("kind = 'sign_in_failed' AND user_id IS NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    at: Mapped[datetime] = mapped_column(Instant)
    kind: Mapped[str] = mapped_column(sa.String(32))
    user_id: Mapped[str | None] = mapped_column(sa.String(64))
    sid: Mapped[str | None] = mapped_column(sa.String(64))
    reason: Mapped[str | None] = mapped_column(sa.String(64))
    actor: Mapped[str] = mapped_column(sa.String(16))
    request_id: Mapped[str | None] = mapped_column(sa.String(128))
    ip_address: Mapped[str | None] = mapped_column(sa.String(64))
    operator: Mapped[str | None] = mapped_column(sa.String(64))
    count: Mapped[int] = mapped_column(server_default="1")


class Client(Base):
    """Another service with credentials for the OAuth routes.

    Only a digest of its secret is stored, and of the previous one while that is still accepted. `rights` are separated
    by spaces. `last_used_at` is to the minute.
    """

    __tablename__ = "clients"

    id: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(128))
    secret_hash: Mapped[str] = mapped_column(sa.String(64))
    rights: Mapped[str] = mapped_column(sa.String(64), server_default=sa.text("''"))
    created_at: Mapped[datetime] = mapped_column(Instant)
    last_used_at: Mapped[datetime | None] = mapped_column(Instant)
    previous_secret_hash: Mapped[str | None] = mapped_column(sa.String(64))
    previous_secret_until: Mapped[datetime | None] = mapped_column(Instant)


class Throttle(Base):
    """The consecutive failures on one account, named by a keyed digest."""

    __tablename__ = "throttles"

    account: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    failures: Mapped[int]
    last_failed_at: Mapped[datetime] = mapped_column(Instant)


class AddressCount(Base):
    """A rate limit's count for one client address, until it expires."""

    __tablename__ = "address_counts"

    key: Mapped[str] = mapped_column(sa.String(256), primary_key=True)
    count: Mapped[int]
    expires_at: Mapped[datetime] = mapped_column(Instant, index=True)


class SigningKey(Base):
    """A signing key, encrypted; `serial` counts the keys of one use."""

    __tablename__ = "signing_keys"
    __table_args__ = (sa.Index("uq_signing_keys_serial", "use", "serial", unique=True),)

    kid: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    use: Mapped[str] = mapped_column(sa.String(16))
    serial: Mapped[int]
    algorithm: Mapped[str] = mapped_column(sa.String(16))
    encrypted: Mapped[bytes] = mapped_column(sa.LargeBinary)
    created_at: Mapped[datetime] = mapped_column(Instant)
    activates_at: Mapped[datetime] = mapped_column(Instant)
    verifies_until: Mapped[datetime | None] = mapped_column(Instant)
    retired_at: Mapped[datetime | None] = mapped_column(Instant)


class Device(NamedTuple):
    """Where a request comes from."""

    ip_address: str | None = None
    user_agent: str | None = None


class NewHash(NamedTuple):
    """The hash of a new password.

    With `short`, the password is allowed only with a second factor.
    """

    text: str
    short: bool


class RefreshClaims(msgspec.Struct, frozen=True):
    """The claims of an authentic refresh token; `gen` counts earlier tokens."""

    sid: str
    jti: str
    gen: int
    sub: str | None = None


class Grant(msgspec.Struct, frozen=True):
    """What a sign-in or a refresh grants: everything that the new tokens state.

    `roles` has the id of the user's set of roles, and then the roles; it is empty without roles. `evidence` is what a
    refresh showed of the bound device, if sessions are bound.
    """

    outcome: Outcome
    sid: str
    user_id: str
    username: str
    jti: str
    generation: int
    issued_at: datetime
    expires_at: datetime
    ends_at: datetime
    authenticated_at: datetime
    amr: tuple[str, ...]
    roles: tuple[str, ...] = ()
    elsewhere: bool = False
    evidence: str | None = None
