"""Registration: an address is proven before there is a user."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Final

from sqlalchemy.exc import IntegrityError

from tokenapp import accounts, audit, config, db, errors, factors, one_time_tokens, sessions
from tokenapp.mail import limits, outbox, texts
from tokenapp.mail.limits import OverLimitError
from tokenapp.models import Device, Grant, User
from tokenapp.one_time_tokens import LIFETIMES, Binding, Purpose

_PURPOSES: Final[Mapping[str, tuple[Purpose, ...]]] = {
    "open": ("registration", "invitation"),
    "invite": ("invitation",),
    "closed": (),
}


def request(email: str, client: str, locale: str | None, now: datetime) -> None:
    """Mail a link to create an account, or say that there is one already.

    Nothing tells the caller which: the statements are the same, also for an address that gets no mail.

    Raises:
        errors.AddressRejected: `email` is not an address at all.
    """
    accounts.check_form(email)
    if limits.allow_client(client, now):
        with suppress(OverLimitError):
            _request(email, texts.language_of(locale), now)


def invite(email: str, locale: str | None, now: datetime) -> None:
    """Mail a link that creates an account, also while registration is by invitation.

    Raises:
        errors.AddressRejected, errors.AddressTaken: nothing is mailed.
    """
    accounts.check_address(email)
    address = accounts.canonical(email)
    if accounts.taken([address]):
        raise errors.AddressTaken
    _invite(Binding("invitation", address, email, None, texts.language_of(locale)), now)


def complete(
    token: str, username: str, password: str, device: Device, now: datetime, *, replaces: str | None = None
) -> Grant:
    """Create the user of a proven address, and open their first session.

    The session `replaces`, of whoever used the browser before, is revoked in the same transaction.

    Raises:
        errors.LinkInvalid, errors.UsernameRejected, errors.PasswordRejected, errors.UsernameTaken,
            errors.AddressTaken: nothing was written, and the link still works unless it is invalid.
        errors.SecondFactorRequired: the user was created, and must set up a second factor.
    """
    binding = one_time_tokens.check(token, *_PURPOSES[config.current().registration], now=now)
    new = accounts.NewUser(username, password, email=binding.email, email_verified=True, locale=binding.locale)
    name = accounts.check(new)
    if "@" in name and name != binding.address:  # it could be the address of another person
        raise errors.UsernameRejected(detail="A user name must not contain an @, unless it is your e-mail address.")
    accounts.check_free(name, binding.email)
    try:
        user, grant = _complete(token, accounts.draft(new, now), device, now, replaces)
    except IntegrityError:
        accounts.check_free(name, binding.email)
        raise errors.UsernameTaken from None
    if grant is None:
        raise factors.pending.begin(user, now)
    return grant


@db.retried
def _request(email: str, language: str, now: datetime) -> None:
    address = accounts.canonical(email)
    with db.writing() as writer:
        limits.count_request(writer, "registration", address, now)
        user = writer.scalars(accounts.named(address, locked=True)).one_or_none()
        token = one_time_tokens.issue(writer, Binding("registration", address, email, None, language), now)
        expires_at = now + LIFETIMES["registration"]
        if user is None:
            to = email if _may_register(email) else None
            content = texts.render("registration", to, language, link=f"register={token}")
            outbox.enqueue(writer, "registration", content, now, expires_at=expires_at)
        else:
            theirs = texts.language_of(user.locale or language)
            content = texts.render("already_registered", user.email, theirs, name=user.username)
            outbox.enqueue(writer, "already_registered", content, now, expires_at=expires_at, user_id=user.id)


@db.retried
def _invite(binding: Binding, now: datetime) -> None:
    with db.writing() as writer:
        token = one_time_tokens.issue(writer, binding, now)
        content = texts.render("invitation", binding.email, binding.locale or "", link=f"register={token}")
        outbox.enqueue(writer, "invitation", content, now, expires_at=now + LIFETIMES["invitation"])
        audit.record(writer, "user_invited", now)


@db.retried
def _complete(token: str, user: User, device: Device, now: datetime, replaces: str | None) -> tuple[User, Grant | None]:
    with db.writing() as writer:
        binding = one_time_tokens.redeem(writer, token, *_PURPOSES[config.current().registration], now=now)
        accounts.add(writer, user, now, "invited" if binding.purpose == "invitation" else "registered")
        opens = not factors.pending.is_needed(user)
        return user, sessions.open_first(writer, user, now, device, replaces=replaces) if opens else None


def _may_register(email: str) -> bool:
    domains = config.current().registration_domains
    return accounts.is_deliverable(email) and (not domains or accounts.domain_of(email) in domains)
