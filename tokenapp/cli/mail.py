"""``flask mail`` and ``flask users invite``: outgoing mail."""

from collections.abc import Iterator
from datetime import UTC, datetime

import click
import msgspec

from tokenapp import config
from tokenapp.cli import output, users
from tokenapp.cli.command import Group
from tokenapp.cli.input import Text, limit_option
from tokenapp.models import Mail

_COLUMNS = ("id", "kind", "state", "created_at", "due_at", "failures", "result")
_LAYOUT = (("id",), ("kind", "state"), ("created_at", "due_at"), ("failures", "result"))

group = Group("mail", help="Outgoing mail: list, test, retry.")


class MailRecord(msgspec.Struct, rename="camel"):
    """A mail without its recipient and its texts."""

    id: str
    kind: str
    state: str
    created_at: datetime
    due_at: datetime
    failures: int
    result: str | None
    user_id: str | None
    message_id: str


@group.command("list")
@click.option("--search", type=Text(), default="", help="Only mails whose kind, state or result contains this text.")
@limit_option("Only this many of the newest.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def list_mails(search: str, limit: int | None, *, as_json: bool) -> None:
    """List the mails of the last week: queued, sent, failed and expired ones."""
    _check_configured()
    output.show_list(map(_record, _mails(search, limit)), _COLUMNS, _LAYOUT, as_json=as_json)


@group.command("test")
@click.argument("address", type=Text())
def test(address: str) -> None:
    """Send a test mail to ADDRESS now, and print the server's error if it fails."""
    _check_configured()
    from tokenapp import accounts, db  # noqa: PLC0415 -- as below
    from tokenapp.mail import delivery, outbox, texts  # noqa: PLC0415 -- loaded only if mail is configured

    now = datetime.now(UTC)
    content = texts.render("test", accounts.check_address(address), texts.LANGUAGES[0])
    try:
        delivery.send(content, outbox.message_id(db.new_id(now)), now)
    except delivery.FAULTS as error:
        message = f"The mail was not sent: {delivery.explain(error).rstrip('.')}."
        raise click.ClickException(message) from None
    click.echo("Sent.")


@group.command("retry")
def retry() -> None:
    """Try all queued mails again now, instead of after their wait."""
    _check_configured()
    from tokenapp.mail import outbox  # noqa: PLC0415 -- as above

    click.echo(f"Queued {output.count(outbox.retry(datetime.now(UTC)), 'mail')} for now.")


@users.group.command("invite")
@click.argument("email", type=Text())
@click.option("--locale", type=Text(), help="The language of the mail, such as de. Default: en.")
def invite(email: str, locale: str | None) -> None:
    """Mail EMAIL a link with which that person creates an account."""
    _check_configured()
    from tokenapp import registration  # noqa: PLC0415 -- as above

    if config.current().registration == "closed":
        raise click.ClickException("Registration is closed: set TOKENAPP_REGISTRATION to invite or open.")
    registration.invite(email, locale, datetime.now(UTC))
    click.echo(f"Invited {email}.")


def prune(now: datetime) -> None:
    """Delete mails and links after a week, and known devices after a year.

    Also if the service has stopped sending mail: they are personal data.
    """
    from tokenapp import notices, one_time_tokens  # noqa: PLC0415 -- as above
    from tokenapp.mail import outbox  # noqa: PLC0415 -- as above

    for each in (outbox, one_time_tokens, notices):
        each.prune(now)


def _check_configured() -> None:
    if not config.current().sends_mail:
        raise click.ClickException("Mail is not configured: set TOKENAPP_SMTP_URL.")


def _mails(search: str, limit: int | None) -> Iterator[Mail]:
    """Yield mails, oldest first; without a limit, one page at a time is read."""
    from tokenapp.mail import outbox  # noqa: PLC0415 -- as above

    if limit is not None:
        yield from outbox.list_mails(limit=limit, newest=True, search=search)[::-1]
        return
    page = outbox.list_mails(search=search)
    while page:
        yield from page
        page = outbox.list_mails(after=page[-1].id, search=search)


def _record(mail: Mail) -> MailRecord:
    return MailRecord(**{name: getattr(mail, name) for name in MailRecord.__struct_fields__})
