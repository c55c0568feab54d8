"""Other services, which authenticate with client credentials."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlencode

from flask import Flask

from tests.support.client import Client, Response
from tokenapp import clients
from tokenapp.models import Right

INACTIVE = b'{"active":false}'


def basic(client_id: str, secret: str) -> dict[str, str]:
    """Return the `Authorization` header with these credentials."""
    return {"Authorization": "Basic " + b64encode(f"{client_id}:{secret}".encode()).decode()}


@dataclass(frozen=True)
class ServiceClient:
    """The calls of another service."""

    http: Client
    id: str
    secret: str

    @property
    def credentials(self) -> dict[str, str]:
        """The `Authorization` header."""
        return basic(self.id, self.secret)

    def post(self, path: str, **form: str) -> Response:
        """Send a form."""
        return self.http.send("POST", path, form=form, headers=self.credentials)

    def is_active(self, token: str | None) -> bool:
        """Introspect a token and return whether it is active."""
        assert token is not None
        response = self.post("/api/introspect", token=token)
        assert response.status == 200
        return response.body != INACTIVE

    def feed(self, **query: str) -> Response:
        """Request a page of the revocation feed."""
        return self.http.send("GET", f"/api/revocations?{urlencode(query)}", headers=self.credentials)


def register(app: Flask, name: str = "shop", rights: Sequence[Right] = clients.RIGHTS) -> ServiceClient:
    """Create client credentials, by default with all rights."""
    with app.app_context():
        client, secret = clients.create(name, rights, datetime.now(UTC))
    return ServiceClient(Client(app), client.id, secret)
