"""The service in several processes, for tests of races."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import uuid4

import sqlalchemy as sa
from flask import Flask

from tests.support import client
from tests.support.app import create_user
from tests.support.client import Client, Response, claims_of
from tests.support.server import Server
from tokenapp import db
from tokenapp.models import Session

GRACE_PERIOD = 30
REVOCATION_DELAY = 0.2


@dataclass(frozen=True)
class Service:
    """A server with three workers; `app` uses the same database in this process."""

    app: Flask
    server: Server

    @property
    def client(self) -> Client:
        """A client that is not signed in."""
        return self.server.client

    def new_user(self) -> str:
        """Create a user and return the name."""
        name = f"user-{uuid4().hex[:8]}"
        create_user(self.app, name)
        return name

    def sign_in(self, username: str | None = None) -> str:
        """Sign in, by default as a new user, and return the refresh token."""
        return client.sign_in(self.server.port, username or self.new_user()).cookie or ""

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


def sole_successor(responses: Sequence[Response]) -> str:
    """Return the refresh token that all responses contain, or fail."""
    assert Counter(response.status for response in responses) == {200: len(responses)}
    tokens = {claims_of(response.cookie or "")["jti"]: response.cookie or "" for response in responses}
    assert len(tokens) == 1, "S1: one refresh token got two successors"
    return next(iter(tokens.values()))
