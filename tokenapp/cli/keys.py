"""``flask keys``: the keys that sign tokens, rotated without anybody noticing."""

from datetime import UTC, datetime
from typing import BinaryIO

import click
import msgspec

from tokenapp import config, keys
from tokenapp.cli import output
from tokenapp.cli.failures import Group
from tokenapp.cli.input import Text, confirm
from tokenapp.keys import lifecycle

_COLUMNS = ("use", "kid", "algorithm", "state", "created_at", "activates_at", "verifies_until")
_USE = click.option(
    "--use", type=click.Choice(keys.USES), default="access", show_default=True, help="For which tokens."
)

group = Group("keys", help="Keys that sign tokens: list, rotate, import, retire.")


class KeyRecord(msgspec.Struct, rename="camel"):
    """A key as the operator may see it: never its private part."""

    kid: str
    use: str
    algorithm: str
    state: str
    created_at: datetime
    activates_at: datetime
    verifies_until: datetime | None


@group.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def list_keys(*, as_json: bool) -> None:
    """List the stored keys and what each is at this moment: pending, active, retiring or retired."""
    output.show_list(map(_record, lifecycle.list_keys(datetime.now(UTC))), _COLUMNS, as_json=as_json)


@group.command("rotate")
@_USE
@click.option("--algorithm", type=click.Choice(keys.ALGORITHMS), help="Default: ES256 for access, HS256 for refresh.")
def rotate(use: keys.Use, algorithm: keys.Alg | None) -> None:
    """Publish a new key now and sign with it once everybody can know it; nobody is signed out."""
    _announce(lifecycle.rotate(use, datetime.now(UTC), alg=algorithm))


@group.command("import")
@_USE
@click.argument("file", type=click.File("rb"))
def import_key(use: keys.Use, file: BinaryIO) -> None:
    """Rotate to the private key in FILE (PEM, unencrypted: P-256, RSA of 3072 bits and more, or Ed25519)."""
    alg, material = keys.read_pem(file.read(1 << 20))
    _announce(lifecycle.rotate(use, datetime.now(UTC), alg=alg, material=material))


@group.command("retire", context_settings={"ignore_unknown_options": True})  # a KID may begin with a hyphen
@click.argument("kid", type=Text())
@click.option("--now", "at_once", is_flag=True, help="Drop it although live tokens die with it, as after a theft.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def retire(kid: str, *, at_once: bool, yes: bool) -> None:
    """Drop the key KID: what it signed is refused everywhere within the revocation delay.

    A key that still verifies live tokens is dropped only with --now. If it signs, a new key takes over at this moment.
    """
    now = datetime.now(UTC)
    if at_once:
        confirm(
            f"Live tokens of {output.count(lifecycle.count_affected_sessions(kid, now), 'session')} die. Drop the key?",
            yes=yes,
        )
    lost = lifecycle.retire(kid, now, at_once=at_once)
    click.echo(f"Retired {kid}; it cost {output.count(lost, 'session')} their tokens.")


def _announce(info: lifecycle.KeyInfo) -> None:
    settings = config.current()
    secret = settings.access_token_secret if info.use == "access" else settings.refresh_token_secret
    if secret:
        click.echo(f"As long as {info.use.upper()}_TOKEN_SECRET is set, that one signs instead.", err=True)
    begins = info.activates_at.isoformat(timespec="seconds").replace("+00:00", "Z")
    click.echo(f"Published {info.kid} ({info.algorithm}); it signs {info.use} tokens from {begins}.")


def _record(info: lifecycle.KeyInfo) -> KeyRecord:
    return KeyRecord(
        info.kid, info.use, info.algorithm, info.state, info.created_at, info.activates_at, info.verifies_until
    )
