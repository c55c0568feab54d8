"""Mail: whether the server can be used, and whether mails are stuck."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa

from tokenapp import db
from tokenapp.cli.doctor.finding import Check, Finding
from tokenapp.config import Settings
from tokenapp.models import Mail

_OVERDUE: Final = timedelta(minutes=10)


def _check_server(settings: Settings, _now: datetime) -> Iterator[Finding]:
    if settings.smtp is None:
        return
    from tokenapp.mail import delivery  # noqa: PLC0415 -- loaded only if mail is configured

    try:
        delivery.check_server()
    except delivery.FAULTS as error:
        yield Finding(
            "error",
            "TOKENAPP_SMTP_URL",
            f"the mail server cannot be used ({delivery.explain(error)})",
            "nobody can register or reset a password, and mails wait",
            "check host, port, certificate, user and password; then run `flask mail test ADDRESS`",
        )


def _check_sender(settings: Settings, _now: datetime) -> Iterator[Finding]:
    if settings.smtp is not None and settings.mail_from is None:
        yield Finding(
            "warning",
            "TOKENAPP_MAIL_FROM",
            "it is not set",
            "mail servers may reject mails from an address that does not exist",
            "set an address that the mail server may send from",
        )


def _check_failures(settings: Settings, _now: datetime) -> Iterator[Finding]:
    if not settings.sends_mail:
        return
    failed = sa.select(sa.func.count()).where(Mail.state.in_(("failed", "expired")))
    number = db.execute_now(failed)[0][0]
    if number:
        yield Finding(
            "note",
            "mail",
            f"mails of the last week that were not delivered: {number}",
            "their recipients did not get them",
            "look at `flask mail list` for the answers of the mail server",
        )


def _check_total(settings: Settings, now: datetime) -> Iterator[Finding]:
    if not settings.sends_mail:
        return
    from tokenapp.mail import limits  # noqa: PLC0415 -- as above

    if limits.total_is_reached(now):
        yield Finding(
            "warning",
            "TOKENAPP_MAIL_DAILY_LIMIT",
            f"{settings.mail_daily_limit} mails were requested within a day",
            "until the day is over, nobody gets a link to register or to reset a password",
            "look in the log for the clients that request them, or set a higher limit",
        )


def _check_waiting(_settings: Settings, now: datetime) -> Iterator[Finding]:
    overdue = sa.select(sa.func.count()).where(Mail.state == "queued", Mail.due_at < now - _OVERDUE)
    number = db.execute_now(overdue)[0][0]
    if number:
        yield Finding(
            "warning",
            "mail",
            f"mails that wait although they are due: {number}",
            "their recipients do not get them",
            "start the service with TOKENAPP_SMTP_URL; its workers send mail",
        )


CHECKS: Final[tuple[Check, ...]] = (_check_server, _check_sender)
STORED_CHECKS: Final[tuple[Check, ...]] = (_check_failures, _check_waiting, _check_total)
