"""HTTP routes, one module per resource."""

from typing import Final

from tokenapp.api import account, account_page, auth, docs, forward_auth, health, oauth, pages, sessions

BLUEPRINTS: Final = tuple(
    module.bp for module in (auth, account, sessions, oauth, forward_auth, health, pages, account_page, docs)
)
