"""The outbox: mails that wait to be sent, each claimed by one process at a time.

A mail is a row in the transaction that it reports. Its recipient and texts are encrypted, and erased once it is sent. A
process that dies while it sends leaves a claim that expires, so another process sends the mail: at least once, always
with the same Message-ID.
"""

import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, Literal
from urllib.parse import urlsplit

import msgspec
import sqlalchemy as sa
from sqlalchemy import event, orm

from tokenapp import config, db
from tokenapp.encryption import UndecryptableError, decrypt, encrypt
from tokenapp.mail import sender
from tokenapp.models import Mail

State = Literal["queued", "sent", "failed", "expired"]
LEASE: Final = timedelta(seconds=90)  # longer than all steps of the slowest delivery
RETRIES: Final = (timedelta(minutes=1), timedelta(minutes=5), timedelta(minutes=30), timedelta(hours=2))
NOTICE_LIFETIME: Final = timedelta(days=1)
KEPT: Final = timedelta(days=7)
_PURPOSE: Final = "mail"


class Content(msgspec.Struct, frozen=True):
    """What is encrypted. A mail without a recipient is never sent.

    Such a mail is written for an address that is not known, so that a request takes the same time for all addresses.
    """

    to: str | None
    subject: str
    text: str
    html: str
    language: str


class Claimed(msgspec.Struct, frozen=True):
    """A mail that this process is sending."""

    id: str
    message_id: str
    kind: str
    created_at: datetime
    expires_at: datetime
    failures: int
    lease: str
    encrypted: bytes


def enqueue(
    writer: orm.Session,
    kind: str,
    content: Content,
    now: datetime,
    *,
    expires_at: datetime | None = None,
    user_id: str | None = None,
) -> None:
    """Add a mail to the transaction of `writer`; it is sent after the commit."""
    mail_id = db.new_id(now)
    row = {
        "id": mail_id,
        "message_id": message_id(mail_id),
        "kind": kind,
        "user_id": user_id,
        "state": "queued",
        "encrypted": encrypt(msgspec.json.encode(content), purpose=_PURPOSE, context=mail_id),
        "created_at": now,
        "due_at": now,
        "expires_at": expires_at or now + NOTICE_LIFETIME,
        "failures": 0,
    }
    # Not the session's own execute, which leaves out columns that are None: the statement is the same for all mails.
    writer.connection().execute(sa.insert(Mail), [row])
    event.listen(writer, "after_commit", sender.wake, once=True)


def claim(now: datetime) -> Claimed | None:
    """Claim the mail that has waited longest, until the lease is over.

    Returns None if no mail is due. Rows that another process is claiming are skipped.
    """
    lease = secrets.token_urlsafe(16)
    due = sa.select(Mail.id).where(Mail.state == "queued", Mail.due_at <= now).order_by(Mail.due_at).limit(1)
    if not db.execute_now(due):  # an UPDATE would wait for other writers on SQLite
        return None
    claiming = (
        sa.update(Mail)
        .where(
            Mail.id == due.with_for_update(skip_locked=True).scalar_subquery(),
            Mail.state == "queued",
            Mail.due_at <= now,
        )
        .values(due_at=now + LEASE, lease=lease)
        .returning(Mail.id, Mail.message_id, Mail.kind, Mail.created_at, Mail.expires_at, Mail.failures, Mail.encrypted)
    )
    rows = db.execute_now(claiming)
    return Claimed(**rows[0]._mapping, lease=lease) if rows else None  # noqa: SLF001 -- documented


def content_of(mail: Claimed) -> Content | None:
    """Return the content of a mail; None if ``SECRET_KEY`` has changed since."""
    try:
        plaintext, _ = decrypt(mail.encrypted, purpose=_PURPOSE, context=mail.id)
    except UndecryptableError:
        return None
    return msgspec.json.decode(plaintext, type=Content)


def finish(mail: Claimed, state: State, result: str) -> None:
    """End a claim for good: the content is erased."""
    done = sa.update(Mail).where(Mail.id == mail.id, Mail.state == "queued")
    db.execute_now(done.values(state=state, result=result, encrypted=None, lease=None))


def postpone(mail: Claimed, now: datetime, result: str) -> State:
    """Give a mail back for a later attempt; return its new state.

    There is no attempt that could end after its expiry, nor after the last of `RETRIES`.
    """
    if mail.failures >= len(RETRIES):
        finish(mail, "failed", result)
        return "failed"
    due_at = now + RETRIES[mail.failures]
    if due_at + LEASE >= mail.expires_at:
        finish(mail, "expired", result)
        return "expired"
    mine = (Mail.id == mail.id, Mail.state == "queued", Mail.lease == mail.lease)
    retry = {"failures": mail.failures + 1, "due_at": due_at, "lease": None, "result": result}
    db.execute_now(sa.update(Mail).where(*mine).values(retry))
    return "queued"


def message_id(mail_id: str) -> str:
    """Return the Message-ID of a new mail."""
    return f"<{mail_id}@{urlsplit(config.current().issuer).hostname}>"


def list_mails(*, after: str = "", limit: int = 1000, newest: bool = False, search: str = "") -> Sequence[Mail]:
    """Return one page of mails, oldest first, starting after the id `after`.

    Args:
        newest: return the last page instead of the first, newest first.
        search: what the kind, the state or the result must contain.
    """
    page = sa.select(Mail).where(Mail.id > after).order_by(Mail.id.desc() if newest else Mail.id).limit(limit)
    if search:
        found = (column.icontains(search, autoescape=True) for column in (Mail.kind, Mail.state, Mail.result))
        page = page.where(sa.or_(*found))
    with db.reading() as session:
        return session.scalars(page).all()


def retry(now: datetime) -> int:
    """Make all mails that wait for another attempt due now; return how many."""
    waiting = sa.update(Mail).where(Mail.state == "queued", Mail.lease.is_(None), Mail.due_at > now)
    return len(db.execute_now(waiting.values(due_at=now).returning(Mail.id)))


def prune(now: datetime) -> int:
    """Delete what is left of mails of a week ago; return how many.

    A mail that has expired in the queue is deleted, too: without a mail server no thread ends it.
    """
    ended = sa.or_(Mail.state != "queued", Mail.expires_at <= now)
    old = sa.delete(Mail).where(Mail.id < db.first_id(now - KEPT), ended).returning(Mail.id)
    return len(db.execute_now(old))
