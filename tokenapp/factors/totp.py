"""Authenticator apps: time-based one-time passwords (RFC 6238).

SHA-1, six digits and 30 seconds are what every app supports. A code is accepted one step early or late.
"""

import hmac
import io
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

import pyotp
import segno
import sqlalchemy as sa
from sqlalchemy import orm

from tokenapp import config, db, errors
from tokenapp.factor_models import Totp
from tokenapp.factors import registry, totp_secrets
from tokenapp.factors.checks import Checked, Enrolment, normalize
from tokenapp.factors.levels import Proof
from tokenapp.models import User

MOST: Final = 5
_SHOWN: Final = 64  # characters of the user name; a QR code holds no long name in another script
_STEPS: Final = (-1, 0, 1)
_SECONDS: Final = 30
_DIGITS: Final = 6


def create(writer: orm.Session, user: User, now: datetime) -> Enrolment:
    """Store a secret that does not count yet, in place of an unconfirmed one.

    Raises:
        errors.InvalidRequest: the user has too many authenticator apps.
    """
    confirmed = sa.select(sa.func.count()).where(Totp.user_id == user.id, Totp.confirmed_at.is_not(None))
    if (writer.scalar(confirmed) or 0) >= MOST:
        raise errors.InvalidRequest(detail=f"An account has at most {MOST} authenticator apps.")
    writer.execute(sa.delete(Totp).where(Totp.user_id == user.id, Totp.confirmed_at.is_(None)))
    secret, totp_id = pyotp.random_base32(), db.new_id(now)
    encrypted = totp_secrets.encrypt(secret, totp_id)
    values = {"id": totp_id, "user_id": user.id, "encrypted": encrypted, "created_at": now, "last_step": 0}
    writer.execute(sa.insert(Totp).values(values))
    name, issuer = user.username[:_SHOWN], config.current().brand_name
    uri = pyotp.TOTP(secret).provisioning_uri(name=name, issuer_name=issuer)
    return Enrolment(totp_id, secret, uri, _qr_code(uri))


def confirm(writer: orm.Session, user: User, code: str, now: datetime, totp_id: str | None = None) -> list[str] | None:
    """Confirm the new secret of `user`, locked, with a code of it, which is used up.

    Returns the recovery codes that come with the first factor.

    Args:
        totp_id: its id; None for the one that waits for its confirmation.

    Raises:
        errors.FactorNotFound, errors.InvalidCode
    """
    own = sa.select(Totp).where(Totp.user_id == user.id, Totp.confirmed_at.is_(None))
    row = writer.scalar(own if totp_id is None else own.where(Totp.id == totp_id))
    if row is None:
        raise errors.FactorNotFound
    step = next(_matching(row, normalize(code), now), None)
    if step is None:
        raise errors.InvalidCode(reason="totp: wrong code at the confirmation")
    using = {"confirmed_at": now, **_used(row, step, now)}
    unconfirmed = (Totp.id == row.id, Totp.confirmed_at.is_(None))
    if not writer.connection().execute(sa.update(Totp).where(*unconfirmed).values(using)).rowcount:
        raise errors.FactorNotFound
    return registry.added(writer, user, "totp", now)


def check(user: User, code: str, now: datetime) -> Checked:
    """Check a code against the authenticator apps of `user`.

    Raises:
        errors.InvalidCode: it is wrong, or was used before.
    """
    code = normalize(code)
    with db.reading() as session:
        rows = session.scalars(sa.select(Totp).where(Totp.user_id == user.id, Totp.confirmed_at.is_not(None))).all()
    found = [(row, step) for row in rows for step in _matching(row, code, now)]
    if not found:
        raise errors.InvalidCode(reason="totp: wrong code")
    unused = [(row, step) for row, step in found if step > row.last_step]
    if not unused:
        raise errors.InvalidCode(reason="totp: code used before")
    row, step = unused[0]

    def spend(writer: orm.Session) -> None:
        # The one statement that decides which of several uses of a code succeeds.
        first = (Totp.id == row.id, Totp.confirmed_at.is_not(None), Totp.last_step < step)
        if not writer.connection().execute(sa.update(Totp).where(*first).values(_used(row, step, now))).rowcount:
            raise errors.InvalidCode(reason="totp: code used before")

    return Checked(Proof("totp"), spend)


def _used(row: Totp, step: int, now: datetime) -> dict[str, Any]:
    """Return what a use changes; a former ``SECRET_KEY`` is replaced, too."""
    secret, outdated = totp_secrets.decrypt(row)
    again = {"encrypted": totp_secrets.encrypt(secret, row.id)} if outdated else {}
    return {"last_step": step, "last_used_at": now, **again}


def _matching(row: Totp, code: str, now: datetime) -> Iterator[int]:
    """Yield the time steps around `now` that have this code."""
    secret, _ = totp_secrets.decrypt(row)
    totp, current = pyotp.TOTP(secret, digits=_DIGITS), int(now.timestamp()) // _SECONDS
    for step in (current + offset for offset in _STEPS):
        if hmac.compare_digest(totp.generate_otp(step).encode(), code.encode()):
            yield step


def _qr_code(uri: str) -> str:
    out = io.BytesIO()
    segno.make(uri, error="m").save(
        out, kind="svg", xmldecl=False, svgns=True, omitsize=True, nl=False, dark="#000", light="#fff"
    )
    return out.getvalue().decode()
