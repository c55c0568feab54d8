"""A copy of the database holds no usable token, and no text of a mail."""

from typing import Any

import sqlalchemy as sa
from flask import Flask

from tests.mail.conftest import register
from tests.support.app import PASSWORD
from tests.support.client import Client
from tests.support.commandline import NEW_PASSWORD, run
from tests.support.mailbox import Mailbox, deliver, text_of
from tokenapp import db

ROUTES = ("register/complete", "password-reset/complete", "me/email/complete", "email-change/undo")


def values(app: Flask) -> list[Any]:
    """Return every value of every table."""
    with app.app_context():
        tables = db.Base.metadata.sorted_tables
        return [value for table in tables for row in db.execute_now(sa.select(table)) for value in row]


def redeemed(app: Flask, stored: list[Any], tried: set[str]) -> list[str]:
    """Return the routes at which a stored text redeems that was not tried before."""
    texts = {value for value in stored if isinstance(value, str)}
    texts |= {value[start : start + 43] for value in texts for start in range(0, max(0, len(value) - 42), 21)}
    texts -= tried
    tried |= texts
    more = {"username": "thief", "password": PASSWORD, "newPassword": NEW_PASSWORD}
    return [
        path
        for path in ROUTES
        for text in texts
        if len(text) <= 64 and Client(app).send("POST", f"/api/{path}", payload={"token": text, **more}).status < 400
    ]


def check(app: Flask, mailbox: Mailbox, purpose: str, tried: set[str]) -> None:
    """Check a copy that is made while a mail waits, and one after it was sent."""
    copies = [values(app)]
    deliver(app)
    copies.append(values(app))
    token, text = mailbox.token(purpose), text_of(mailbox.messages[-1])
    for copy in copies:
        for value in copy:
            stored = value if isinstance(value, bytes) else str(value).encode()
            assert token.encode() not in stored
            assert text[:40].encode() not in stored
        assert redeemed(app, copy, tried) == []


def test_no_copy_made_during_a_flow_redeems(app: Flask, mailbox: Mailbox) -> None:
    alice, tried = register(app, mailbox, "alice"), set[str]()
    alice.send("POST", "/api/register", payload={"email": "new@example.com"})
    check(app, mailbox, "register", tried)
    run(app, "users", "invite", "guest@example.com")
    check(app, mailbox, "register", tried)
    alice.send("POST", "/api/password-reset", payload={"email": "alice@example.com"})
    check(app, mailbox, "reset", tried)
    alice.call("POST", "/api/me/email", payload={"email": "alice@example.org"})
    check(app, mailbox, "email", tried)
    alice.send("POST", "/api/me/email/complete", payload={"token": mailbox.token("email")})
    check(app, mailbox, "undo", tried)
