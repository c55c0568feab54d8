"""Setting a new password by a link that is mailed to the user's address."""

from contextlib import suppress
from datetime import datetime

from tokenapp import accounts, db, errors, one_time_tokens
from tokenapp.mail import limits, outbox, texts
from tokenapp.mail.limits import OverLimitError
from tokenapp.models import NewHash, User
from tokenapp.one_time_tokens import LIFETIMES, Binding


def request(email: str, client: str, locale: str | None, now: datetime) -> None:
    """Mail a link to set a new password, if a user has the address.

    Nothing tells the caller whether one has: the statements are the same.

    Raises:
        errors.AddressRejected: `email` is not an address at all.
    """
    accounts.check_form(email)
    if limits.allow_client(client, now):
        with suppress(OverLimitError):
            _request(email, locale, now)


def complete(token: str, password: str, now: datetime) -> None:
    """Set a new password; revoke all sessions, and end all other links of the user.

    Second factors do not change, and no session is opened.

    Raises:
        errors.LinkInvalid, errors.PasswordRejected: nothing was written, and the link still works unless it is invalid.
    """
    binding = one_time_tokens.check(token, "reset", now=now)
    try:
        user = accounts.get(binding.user_id or "")
    except errors.UserNotFound:
        raise errors.LinkInvalid from None
    _complete(token, accounts.hash_new(user, password), now)


@db.retried
def _request(email: str, locale: str | None, now: datetime) -> None:
    address = accounts.canonical(email)
    with db.writing() as writer:
        limits.count_request(writer, "reset", address, now)
        user = writer.scalars(accounts.named(address, locked=True)).one_or_none()
        # A user can also have this name without having the address.
        known = user is not None and user.disabled_at is None and accounts.canonical(user.email or "") == address
        to, user_id = (user.email, user.id) if user is not None and known else (None, None)
        language = texts.language_of(user.locale if user is not None and user.locale else locale)
        token = one_time_tokens.issue(writer, Binding("reset", address, to or email, user_id, None), now)
        name = user.username if user is not None else address
        content = texts.render("reset", to, language, link=f"reset={token}", name=name)
        outbox.enqueue(writer, "reset", content, now, expires_at=now + LIFETIMES["reset"], user_id=user_id)


@db.retried
def _complete(token: str, hashed: NewHash, now: datetime) -> None:
    with db.writing() as writer:
        binding = one_time_tokens.redeem(writer, token, "reset", now=now)
        user = writer.get(User, binding.user_id, with_for_update=True)
        if user is None or user.disabled_at is not None or accounts.canonical(user.email or "") != binding.address:
            raise errors.LinkInvalid
        accounts.reset_password(writer, user, hashed, now)
