"""``flask access-keys``: list and revoke the access keys of users."""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from itertools import islice

import click
import msgspec

from tokenapp import access_keys, accounts, errors
from tokenapp.cli import output
from tokenapp.cli.command import Group
from tokenapp.cli.completion import USER
from tokenapp.cli.input import Text, limit_option

_COLUMNS = ("id", "username", "name", "scopes", "created_at", "expires_at", "last_used_at")
_COLUMNS_OF_ALL = (*_COLUMNS, "revoked_at", "revoked_reason")
_LAYOUT = (("id",), ("username", "name"), ("scopes",), ("expires_at", "last_used_at"))
_LAYOUT_OF_ALL = (*_LAYOUT, ("revoked_at", "revoked_reason"))

group = Group("access-keys", help="Access keys of users, for scripts: list, revoke.")


class AccessKeyRecord(msgspec.Struct, rename="camel"):
    """An access key without its text."""

    id: str
    username: str | None
    name: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None
    revoked_reason: str | None


@group.command("list")
@click.option("--user", "name", type=USER, help="Only the keys of this user.")
@click.option("--search", type=Text(), default="", help="Only those whose user or name contains this text.")
@limit_option("At most this many.")
@click.option("--all", "everything", is_flag=True, help="Include revoked and expired keys.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def list_keys(name: str | None, search: str, limit: int | None, *, everything: bool, as_json: bool) -> None:
    """List the access keys, oldest first, with the minute of their last use."""
    user_id = accounts.find(name, deleted=True).id if name is not None else None
    records = islice(_all_keys(datetime.now(UTC), user_id, search, live=not everything), limit)
    columns, layout = (_COLUMNS_OF_ALL, _LAYOUT_OF_ALL) if everything else (_COLUMNS, _LAYOUT)
    output.show_list(records, columns, layout, as_json=as_json)


@group.command("revoke")
@click.argument("ids", metavar="[ID]...", type=Text(), nargs=-1)
@click.option("--user", "name", type=USER, help="Revoke all access keys of this user.")
def revoke(ids: tuple[str, ...], name: str | None) -> None:
    """Revoke the access keys ID, or all access keys of a user.

    Their access tokens are rejected within a second.
    """
    if bool(ids) == (name is not None):
        raise click.UsageError("Give either ids of access keys, or --user.")
    now = datetime.now(UTC)
    if name is not None:
        revoked = access_keys.revoke_all(accounts.find(name).id, "operator", now)
    else:
        unknown = [each for each in ids if access_keys.get(each) is None]
        if unknown:
            raise errors.AccessKeyNotFound(detail="Access key not found: " + ", ".join(unknown) + ".")
        revoked = sum(access_keys.revoke(each, "operator", now) for each in ids)
    click.echo(f"Revoked {output.count(revoked, 'access key')}.")


def _all_keys(now: datetime, user_id: str | None, search: str, *, live: bool) -> Iterator[AccessKeyRecord]:
    """Yield the keys, reading one page at a time."""
    list_page = partial(access_keys.list_keys, now, user_id=user_id, search=search, live=live)
    page = list_page()
    while page:
        for key, username in page:
            values = {name: getattr(key, name) for name in AccessKeyRecord.__struct_fields__ if name != "username"}
            yield AccessKeyRecord(**{**values, "scopes": key.scopes.split()}, username=username)
        page = list_page(after=page[-1][0].id)
