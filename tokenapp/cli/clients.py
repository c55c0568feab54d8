"""``flask clients``: the client credentials of other services."""

from datetime import UTC, datetime, timedelta

import click
import msgspec

from tokenapp import clients
from tokenapp.cli import output
from tokenapp.cli.command import Group
from tokenapp.cli.completion import CLIENT
from tokenapp.cli.input import Age, Text, confirm
from tokenapp.models import Client, Right

_COLUMNS = ("id", "name", "rights", "created_at", "last_used_at")
_LAYOUT = (("name",), ("id",), ("rights",), ("last_used_at",))
_CLIENT = click.argument("subject", metavar="CLIENT", type=CLIENT)

group = Group("clients", help="Other services that may introspect and revoke tokens: create, list, rotate, delete.")


class ClientRecord(msgspec.Struct, rename="camel"):
    """A client without its secret."""

    id: str
    name: str
    rights: list[str]
    created_at: datetime
    last_used_at: datetime | None


class NewSecret(ClientRecord):
    """A client with its new secret, which is shown only once."""

    secret: str


@group.command("create")
@click.argument("name", type=Text())
@click.option(
    "--right", "rights", type=click.Choice(clients.RIGHTS), multiple=True, help="May be repeated. Default: none."
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def create(name: str, *, rights: tuple[Right, ...], as_json: bool) -> None:
    """Create credentials for the service NAME. The secret is shown only once."""
    client, secret = clients.create(name, rights, datetime.now(UTC))
    output.show_one(NewSecret(**msgspec.structs.asdict(_record(client)), secret=secret), as_json=as_json)


@group.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def list_clients(*, as_json: bool) -> None:
    """List the clients, oldest first, with the minute of their last use."""
    output.show_list(map(_record, clients.list_clients()), _COLUMNS, _LAYOUT, as_json=as_json)


@group.command("rotate")
@_CLIENT
@click.option("--overlap", type=Age(), default="0s", show_default=True, help="How long the old secret is accepted.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def rotate(subject: str, overlap: timedelta, *, as_json: bool) -> None:
    """Give the client CLIENT a new secret, which is shown only once.

    The old secret is rejected from now on, or when the overlap ends. At most one old secret is accepted.
    """
    client = clients.find(subject)
    secret = clients.rotate_secret(client.id, overlap, datetime.now(UTC))
    output.show_one(NewSecret(**msgspec.structs.asdict(_record(client)), secret=secret), as_json=as_json)


@group.command("delete")
@_CLIENT
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def delete(subject: str, *, yes: bool) -> None:
    """Delete the client CLIENT. Its credentials are rejected from now on."""
    client = clients.find(subject)
    confirm(f"This deletes the client {client.name} ({client.id}). Continue?", yes=yes)
    clients.delete(client.id, datetime.now(UTC))
    click.echo(f"Deleted {client.id}.")


def _record(client: Client) -> ClientRecord:
    return ClientRecord(client.id, client.name, client.rights.split(), client.created_at, client.last_used_at)
