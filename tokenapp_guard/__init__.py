"""Protect other applications with the access tokens of tokenapp.

    guard = Guard("https://login.example.com", audience="tokenapp-api")

    @app.get("/orders")
    @guard.required
    def orders():
        return {"for": guard.principal.username}

`Guard` is for Flask. The module ``asgi`` is for FastAPI and Starlette, ``django`` for Django, and `Verifier` for other
programs. Each verifies the signature, issuer, audience, type and lifetime of a token with the public keys of the
service, and needs no database. With client credentials it also follows the service's feed of revoked sessions, access
keys and roles, without a call per request; without them it accepts revoked tokens until they expire.

Why a request was rejected is logged by the logger ``tokenapp_guard``: each reason at most once a minute.
"""

from typing import TYPE_CHECKING, Any

from tokenapp_guard.core import Verifier
from tokenapp_guard.errors import AccessError
from tokenapp_guard.principal import Principal, Requirement

if TYPE_CHECKING:
    from tokenapp_guard.flask import Guard

__all__ = ["AccessError", "Guard", "Principal", "Requirement", "Verifier"]


def __getattr__(name: str) -> Any:
    """Import Flask only for applications that use it."""
    if name == "Guard":
        from tokenapp_guard.flask import Guard  # noqa: PLC0415 -- for the reason above

        return Guard
    raise AttributeError(name)
