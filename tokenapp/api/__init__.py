"""HTTP routes, one module per resource."""

from typing import Final

from tokenapp.api import (
    access_keys,
    account,
    account_page,
    auth,
    docs,
    factors,
    forward_auth,
    health,
    oauth,
    pages,
    second_step,
    sessions,
)

BLUEPRINTS: Final = tuple(
    module.bp
    for module in (
        auth,
        second_step,
        account,
        access_keys,
        factors,
        sessions,
        oauth,
        forward_auth,
        health,
        pages,
        account_page,
        docs,
    )
)
