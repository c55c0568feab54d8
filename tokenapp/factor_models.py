"""The database tables of second factors and of sign-ins that wait for one."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from tokenapp.db import Base, Instant


class Totp(Base):
    """An authenticator app of a user, with its encrypted secret (RFC 6238).

    It counts once it is confirmed. `last_step` is the number of the last time step whose code was used.
    """

    __tablename__ = "totps"

    id: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    user_id: Mapped[str] = mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"), index=True)
    encrypted: Mapped[bytes] = mapped_column(sa.LargeBinary)
    created_at: Mapped[datetime] = mapped_column(Instant)
    confirmed_at: Mapped[datetime | None] = mapped_column(Instant)
    last_used_at: Mapped[datetime | None] = mapped_column(Instant)
    last_step: Mapped[int] = mapped_column(default=0)


class RecoveryCode(Base):
    """A recovery code, as a SHA-256 digest. It is deleted when it is used."""

    __tablename__ = "recovery_codes"

    digest: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    user_id: Mapped[str] = mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime] = mapped_column(Instant)


class PendingSignIn(Base):
    """A sign-in whose password was right, and that waits for the second factor.

    Only the SHA-256 digest of its token is stored. With `setup`, the user has no second factor and must set one up.
    `new_hash` is the hash of what replaces a temporary password, and `new_short` is as in `User.password_short`.
    """

    __tablename__ = "pending_sign_ins"

    digest: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    user_id: Mapped[str] = mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"), index=True)
    setup: Mapped[bool]
    new_hash: Mapped[str | None] = mapped_column(sa.String(512))
    new_short: Mapped[bool] = mapped_column(default=False, server_default=sa.false())
    created_at: Mapped[datetime] = mapped_column(Instant)
    expires_at: Mapped[datetime] = mapped_column(Instant, index=True)


class Passkey(Base):
    """A WebAuthn credential of a user.

    `credential_id` is in base64url, `public_key` in COSE. `rp_id` is the domain that the credential belongs to. A
    credential that is not `backup_eligible` is bound to one device.
    """

    __tablename__ = "passkeys"

    id: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    user_id: Mapped[str] = mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"), index=True)
    credential_id: Mapped[str] = mapped_column(sa.String(1364), unique=True)
    public_key: Mapped[bytes] = mapped_column(sa.LargeBinary)
    rp_id: Mapped[str] = mapped_column(sa.String(253), index=True)
    name: Mapped[str] = mapped_column(sa.String(64))
    transports: Mapped[str] = mapped_column(sa.String(128))
    aaguid: Mapped[str] = mapped_column(sa.String(36))
    sign_count: Mapped[int] = mapped_column(sa.BigInteger)
    backup_eligible: Mapped[bool]
    backed_up: Mapped[bool]
    created_at: Mapped[datetime] = mapped_column(Instant)
    last_used_at: Mapped[datetime | None] = mapped_column(Instant)


class SpentChallenge(Base):
    """The digest of a challenge that a passkey has signed, until it expires."""

    __tablename__ = "spent_challenges"

    digest: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    expires_at: Mapped[datetime] = mapped_column(Instant, index=True)
