"""The service in several processes, for tests of races."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

import sqlalchemy as sa
from flask import Flask

from tests.support import client
from tests.support.app import create_user
from tests.support.bound_device import Browser
from tests.support.client import OWN, Client, Response, claims_of
from tests.support.server import Server
from tokenapp import db
from tokenapp.models import Session

GRACE_PERIOD = 30
REVOCATION_DELAY = 0.2


class BoundClient(Client):
    """A client that sends the bound cookie of each session beside its token."""

    def __init__(self, port: int, cookies: Mapping[str, str]) -> None:
        super().__init__(port)
        self.cookies = cookies

    def refresh(self, cookie: str | None = OWN, **more: Any) -> Response:
        """Refresh."""
        cookie = self.cookie if cookie is OWN else cookie
        headers = {"Cookie": cookies_with(cookie or "", self.cookies)}
        return self._keep(self.send("POST", "/api/token", headers=headers, **more))


@dataclass(frozen=True)
class Service:
    """A server with three workers; `app` uses the same database in this process.

    If it binds sessions to devices, `cookies` has the bound cookie of each session.
    """

    app: Flask
    server: Server
    cookies: dict[str, str] | None = None

    @property
    def client(self) -> Client:
        """A client that is not signed in."""
        return self.server.client if self.cookies is None else BoundClient(self.server.port, self.cookies)

    def new_user(self) -> str:
        """Create a user and return the name."""
        name = f"user-{uuid4().hex[:8]}"
        create_user(self.app, name)
        return name

    def sign_in(self, username: str | None = None) -> str:
        """Sign in, by default as a new user, and return the refresh token."""
        name = username or self.new_user()
        if self.cookies is None:
            return client.sign_in(self.server.port, name).cookie or ""
        browser = Browser(self.server.port)
        browser.sign_in(name)
        assert (browser.register().status, browser.prove().status) == (200, 200)
        self.cookies[browser.sid] = browser.bound or ""
        return browser.cookie or ""

    def row(self, token: str) -> Session:
        """Return the row of a token's session."""
        with self.app.app_context(), db.reading() as reader:
            return reader.get_one(Session, claims_of(token)["sid"])

    def end_grace_period(self, token: str) -> None:
        """Set the last rotation of a token's session to before the grace period."""
        row = self.row(token)
        assert row.rotated_at is not None
        earlier = row.rotated_at - timedelta(seconds=GRACE_PERIOD + 5)
        with self.app.app_context():
            db.execute_now(sa.update(Session).where(Session.id == row.id).values(rotated_at=earlier))


def cookies_with(token: str, cookies: Mapping[str, str] | None) -> str:
    """Return the ``Cookie`` header of a refresh."""
    bound = (cookies or {}).get(claims_of(token)["sid"])
    return f"refreshToken={token}" + ("" if bound is None else f"; __Host-bound={bound}")


def sole_successor(responses: Sequence[Response]) -> str:
    """Return the refresh token that all responses contain, or fail."""
    assert Counter(response.status for response in responses) == {200: len(responses)}
    tokens = {claims_of(response.cookie or "")["jti"]: response.cookie or "" for response in responses}
    assert len(tokens) == 1, "S1: one refresh token got two successors"
    return next(iter(tokens.values()))
