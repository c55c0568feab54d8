"""The rate limit of wrong passwords per client address, with its headers."""

from collections.abc import Callable
from typing import Any

from flask import Response, after_this_request

from tokenapp import errors, passwords
from tokenapp.http import requests
from tokenapp.throttle import rate_limit

HEADERS = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")


def limited(view: Callable[..., Response], *, hashes: bool = True) -> Callable[..., Response]:
    """Reject requests from addresses with too many wrong passwords.

    The limit is per minute and is checked before `view` runs. Only a password that was checked and found wrong counts.
    Attempts that the lockout of the account rejects do not: otherwise one program that tries a locked account would
    block everyone at its address. Concurrent attempts can exceed the limit by less than the number of threads.

    Args:
        hashes: whether `view` checks a password, for which there is a limited number of places.
    """

    def enforced(**values: Any) -> Response:
        with passwords.place():
            return checked(**values)

    def checked(**values: Any) -> Response:
        client = client_network()
        status = rate_limit.status(client)
        remaining = status.remaining

        @after_this_request
        def add_headers(response: Response) -> Response:
            numbers = (status.limit, remaining, status.reset)
            response.headers.update({name: str(number) for name, number in zip(HEADERS, numbers, strict=True)})
            return response

        if not remaining:
            raise errors.TooManyAttempts(reason="address", retry_after=status.reset)
        try:
            return view(**values)
        except (errors.InvalidCredentials, passwords.VerificationUnfinished):
            rate_limit.count_failure(client)
            remaining -= 1
            raise

    return enforced if hashes else checked


def client_network() -> str:
    """Return the network of the client, which counts as one client."""
    return rate_limit.network_of(requests.client_address() or "")
