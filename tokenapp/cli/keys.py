"""``flask keys``: list, rotate, import and retire keys; encrypt values again."""

from datetime import UTC, datetime
from typing import BinaryIO

import click
import msgspec

from tokenapp import config, keys
from tokenapp.cli import output
from tokenapp.cli.command import Group
from tokenapp.cli.input import Text, confirm
from tokenapp.factors import totp_secrets
from tokenapp.keys import lifecycle

_COLUMNS = ("use", "kid", "algorithm", "state", "created_at", "activates_at", "verifies_until")
_LAYOUT = (("use", "algorithm"), ("kid",), ("state",), ("activates_at", "verifies_until"))
_USE = click.option(
    "--use", type=click.Choice(keys.USES), default="access", show_default=True, help="The tokens that the key signs."
)

group = Group("keys", help="Signing keys: list, rotate, import, retire. SECRET_KEY: encrypt again.")


class KeyRecord(msgspec.Struct, rename="camel"):
    """A signing key without its private part."""

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
    """List the stored keys with their states: pending, active, retiring or retired."""
    output.show_list(map(_record, lifecycle.list_keys(datetime.now(UTC))), _COLUMNS, _LAYOUT, as_json=as_json)


@group.command("rotate")
@_USE
@click.option("--algorithm", type=click.Choice(keys.ALGORITHMS), help="Default: ES256 for access, HS256 for refresh.")
def rotate(use: keys.Use, algorithm: keys.Alg | None) -> None:
    """Publish a new key, which becomes active when all caches have it.

    No user is signed out.
    """
    _announce(lifecycle.rotate(use, datetime.now(UTC), alg=algorithm))


@group.command("import")
@_USE
@click.argument("file", type=click.File("rb"))
def import_key(use: keys.Use, file: BinaryIO) -> None:
    """Rotate to the private key in FILE.

    It must be an unencrypted PEM file with a P-256, Ed25519 or RSA key (at least 3072 bits).
    """
    alg, material = keys.read_pem(file.read(1 << 20))
    _announce(lifecycle.rotate(use, datetime.now(UTC), alg=alg, material=material))


@group.command("retire", context_settings={"ignore_unknown_options": True})  # a KID may begin with a hyphen
@click.argument("kid", type=Text())
@click.option("--now", "at_once", is_flag=True, help="Drop it even if this invalidates valid tokens, as after a theft.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def retire(kid: str, *, at_once: bool, yes: bool) -> None:
    """Drop the key KID. Tokens signed by it are rejected within the revocation delay.

    A key that still verifies valid tokens is dropped only with --now. If it is active, its successor becomes active.
    """
    now = datetime.now(UTC)
    if at_once:
        affected = output.count(lifecycle.count_affected_sessions(kid, now), "session")
        confirm(f"This invalidates the tokens of {affected}. Continue?", yes=yes)
    affected = output.count(lifecycle.retire(kid, now, at_once=at_once), "session")
    click.echo(f"Retired {kid}. This invalidated the tokens of {affected}.")


@group.command("reencrypt")
def reencrypt() -> None:
    """Encrypt the secrets of authenticator apps under the current SECRET_KEY.

    Run it after a change of SECRET_KEY, once all hosts have the new value, and while the former one is in
    SECRET_KEY_FALLBACKS. Signing keys are encrypted again when they are used.
    """
    replaced = unreadable = 0
    with output.progress("Encrypting the secrets again") as advance:
        for batch in totp_secrets.encrypt_again():
            replaced, unreadable = replaced + batch.former, unreadable + batch.unreadable
            advance(batch.former)
    click.echo(f"Encrypted {output.count(replaced, 'secret')} under the current SECRET_KEY.")
    if unreadable:
        message = f"No known SECRET_KEY decrypts {output.count(unreadable, 'other secret')}."
        raise click.ClickException(message)


def _announce(info: lifecycle.KeyInfo) -> None:
    settings = config.current()
    secret = settings.access_token_secret if info.use == "access" else settings.refresh_token_secret
    if secret:
        click.echo(f"While {info.use.upper()}_TOKEN_SECRET is set, it signs instead of this key.", err=True)
    activates_at = info.activates_at.isoformat(timespec="seconds").replace("+00:00", "Z")
    click.echo(f"Published {info.kid} ({info.algorithm}). It signs {info.use} tokens from {activates_at}.")


def _record(info: lifecycle.KeyInfo) -> KeyRecord:
    return KeyRecord(
        info.kid, info.use, info.algorithm, info.state, info.created_at, info.activates_at, info.verifies_until
    )
