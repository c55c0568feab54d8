"""``flask clients``: the client credentials of other services."""

from datetime import UTC, datetime

import click
import msgspec

from tokenapp import clients
from tokenapp.cli import output
from tokenapp.cli.command import Group
from tokenapp.cli.input import Text
from tokenapp.models import Right

group = Group("clients", help="Other services that may introspect and revoke tokens: create, list, delete.")


class ClientRecord(msgspec.Struct, rename="camel"):
    """A client without its secret."""

    id: str
    name: str
    rights: list[str]
    created_at: datetime


class NewClient(ClientRecord):
    """A new client with its secret, which is shown only once."""

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
    output.show_one(
        NewClient(client.id, client.name, client.rights.split(), client.created_at, secret), as_json=as_json
    )


@group.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def list_clients(*, as_json: bool) -> None:
    """List the clients, oldest first."""
    records = (
        ClientRecord(client.id, client.name, client.rights.split(), client.created_at)
        for client in clients.list_clients()
    )
    output.show_list(records, ("id", "name", "rights", "created_at"), as_json=as_json)


@group.command("delete")
@click.argument("client_id", metavar="ID", type=Text())
def delete(client_id: str) -> None:
    """Delete the client ID. Its credentials are rejected from now on."""
    clients.delete(client_id, datetime.now(UTC))
    click.echo(f"Deleted {client_id}.")
