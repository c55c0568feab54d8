"""Changing one's address: the new one is proven, and the old one can undo it."""

from contextlib import suppress
from datetime import datetime

from sqlalchemy import orm
from sqlalchemy.exc import IntegrityError

from tokenapp import accounts, audit, db, errors, one_time_tokens, sessions
from tokenapp.mail import limits, outbox, texts
from tokenapp.mail.limits import OverLimitError
from tokenapp.models import User
from tokenapp.one_time_tokens import LIFETIMES, Binding


def request(user_id: str, sid: str, email: str, client: str, now: datetime) -> None:
    """Mail a link that confirms the new address of a user.

    Nothing tells the caller whether another user has the address: the statements are the same.

    Raises:
        errors.AddressRejected: `email` is not an address at all.
        errors.AccessTokenInvalid: the user was deleted or disabled, or the session `sid` was revoked.
        errors.ReauthenticationRequired: the session has a lower level than the account.
    """
    accounts.check_form(email)
    user = accounts.get_active(user_id)
    if limits.allow_client(client, now):
        with suppress(OverLimitError):
            _request(user, sid, email, now)


def complete(token: str, now: datetime) -> None:
    """Give a user the address that this token proves; tell the old address.

    Raises:
        errors.LinkInvalid, errors.AddressTaken: nothing was written.
    """
    try:
        _complete(token, now)
    except IntegrityError:
        raise errors.AddressTaken from None


def undo(token: str, now: datetime) -> None:
    """Give a user the previous address back, after another person changed it.

    The password stops working, because that person may know it: a link for a new one is mailed. All sessions are
    revoked, and all other links of the user end, except those that undo an earlier change.

    Raises:
        errors.LinkInvalid, errors.AddressTaken: nothing was written.
    """
    try:
        _undo(token, now)
    except IntegrityError:
        raise errors.AddressTaken from None


@db.retried
def _request(user: User, sid: str, email: str, now: datetime) -> None:
    address = accounts.canonical(email)
    with db.writing() as writer:
        limits.count_request(writer, "address", address, now)
        sessions.authorize(writer, user.id, sid, now)
        owner = writer.scalars(accounts.named(address, locked=True)).one_or_none()
        token = one_time_tokens.issue(writer, Binding("address", address, email, user.id, user.locale), now)
        if owner is None or owner.id == user.id:
            to = email if accounts.is_deliverable(email) else None
            content = texts.render("address", to, texts.language_of(user.locale), link=f"email={token}")
            outbox.enqueue(writer, "address", content, now, expires_at=now + LIFETIMES["address"], user_id=user.id)
        else:
            language = texts.language_of(owner.locale)
            content = texts.render("already_registered", owner.email, language, name=owner.username)
            expires_at = now + LIFETIMES["address"]
            outbox.enqueue(writer, "already_registered", content, now, expires_at=expires_at, user_id=owner.id)


@db.retried
def _complete(token: str, now: datetime) -> None:
    with db.writing() as writer:
        binding = one_time_tokens.redeem(writer, token, "address", now=now)
        user = _locked(writer, binding)
        old = user.email if user.email_verified_at is not None else None
        accounts.set_address(writer, user, binding.email, now)
        accounts.end_links(writer, user.id, keep_undo=True)
        audit.record(writer, "address_changed", now, user_id=user.id)
        if old is not None and accounts.canonical(old) != binding.address:
            undo_binding = Binding("undo", accounts.canonical(old), old, user.id, user.locale)
            link = f"undo={one_time_tokens.issue(writer, undo_binding, now)}"
            values = {"name": user.username, "when": texts.moment(now)}
            content = texts.render("address_changed", old, texts.language_of(user.locale), link=link, **values)
            expires_at = now + LIFETIMES["undo"]
            outbox.enqueue(writer, "address_changed", content, now, expires_at=expires_at, user_id=user.id)


@db.retried
def _undo(token: str, now: datetime) -> None:
    with db.writing() as writer:
        binding = one_time_tokens.redeem(writer, token, "undo", now=now)
        user = _locked(writer, binding)
        accounts.set_address(writer, user, binding.email, now)
        accounts.remove_password(writer, user, now)
        accounts.end_links_since(writer, user.id, binding.address)
        audit.record(writer, "address_change_undone", now, user_id=user.id)
        reset = Binding("reset", binding.address, binding.email, user.id, None)
        link = f"reset={one_time_tokens.issue(writer, reset, now)}"
        language = texts.language_of(user.locale)
        content = texts.render("reset", binding.email, language, link=link, name=user.username)
        outbox.enqueue(writer, "reset", content, now, expires_at=now + LIFETIMES["reset"], user_id=user.id)


def _locked(writer: orm.Session, binding: Binding) -> User:
    """Return the user of a token, whose row stays locked until the commit."""
    user = writer.get(User, binding.user_id, with_for_update=True)
    if user is None or user.disabled_at is not None:
        raise errors.LinkInvalid
    return user
