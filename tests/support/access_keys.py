"""Create and use access keys."""

from typing import Any

from flask import Flask
from sqlalchemy import event

from tests.support.client import Client, until_available
from tokenapp import db


def create_key(client: Client, **fields: Any) -> dict[str, Any]:
    """Create an access key with the token of a client; return the response."""
    response = client.call("POST", "/api/me/access-keys", payload={"name": "CI", **fields})
    assert response.status == 200, response.text
    created: dict[str, Any] = response.json
    return created


def exchange(target: Flask | int, key: str) -> str:
    """Return an access token for a key."""
    response = until_available(lambda: Client(target).send("POST", "/api/token", bearer=key))
    assert response.status == 200, response.text
    return str(response.json["accessToken"])


def statements_of(app: Flask) -> list[str]:
    """Return a list to which each later SQL statement of the application is added."""
    statements: list[str] = []
    with app.app_context():
        engine = db.db.engine

    @event.listens_for(engine, "before_cursor_execute")
    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    return statements
