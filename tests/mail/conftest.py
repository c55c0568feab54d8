"""An application that mails to a mailbox of the tests."""

from collections.abc import Iterator

import pytest
from flask import Flask

from tests.support.app import PASSWORD, application
from tests.support.client import Client
from tests.support.mailbox import Mailbox, deliver

LIMITS = {"TOKENAPP_MAIL_CLIENT_LIMIT": "1000000", "TOKENAPP_MAIL_DAILY_LIMIT": "1000000"}


@pytest.fixture(scope="session")
def mail_server() -> Iterator[Mailbox]:
    """Return the mailbox that all tests share."""
    with Mailbox() as mailbox:
        yield mailbox


@pytest.fixture
def mailbox(mail_server: Mailbox) -> Mailbox:
    """Return an empty mailbox."""
    mail_server.clear()
    return mail_server


@pytest.fixture
def app(database_url: str, mailbox: Mailbox) -> Iterator[Flask]:
    """Return the application with mail, open registration and high limits."""
    with application(database_url, TOKENAPP_SMTP_URL=mailbox.url, **LIMITS) as app:
        yield app


@pytest.fixture
def alice(app: Flask, mailbox: Mailbox) -> Client:
    """Return a client of alice, who registered with alice@example.com."""
    return register(app, mailbox, "alice")


def register(app: Flask, mailbox: Mailbox, name: str) -> Client:
    """Register a user by mail; return a client that is signed in."""
    client = Client(app)
    assert client.send("POST", "/api/register", payload={"email": f"{name}@example.com"}).status == 202
    deliver(app)
    payload = {"token": mailbox.token("register"), "username": name, "password": PASSWORD}
    assert client.call("POST", "/api/register/complete", payload=payload).status == 200
    return client
