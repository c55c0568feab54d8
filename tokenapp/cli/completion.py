"""Parameters that a shell completes: the names of users and clients."""

from collections.abc import Callable, Iterable
from typing import Final

import click
from click.shell_completion import CompletionItem
from flask.cli import ScriptInfo

from tokenapp import accounts, clients
from tokenapp.cli.input import Text

_SHOWN: Final = 100


class _Name(Text):
    """A name or an id, whose completions are names."""

    def __init__(self, names: Callable[[str], Iterable[str]]) -> None:
        self._names = names

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the names that begin with `incomplete`; none if there is an error."""
        del param
        try:
            with ctx.ensure_object(ScriptInfo).load_app().app_context():
                names = [name for name in self._names(incomplete) if name.startswith(incomplete)]
        except Exception:  # noqa: BLE001 -- a message would end up in the line that the operator is typing
            names = []
        return [CompletionItem(name) for name in names[:_SHOWN]]


def _usernames(incomplete: str) -> Iterable[str]:
    return (user.username for user in accounts.list_users(search=incomplete))


def _client_names(_incomplete: str) -> Iterable[str]:
    return dict.fromkeys(client.name for client in clients.list_clients())


USER: Final = _Name(_usernames)
CLIENT: Final = _Name(_client_names)
