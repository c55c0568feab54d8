"""No GET and no HEAD uses up a link, as the scanners of mail servers send them."""

from collections.abc import Iterator

import pytest
from flask import Flask

from tests.conftest import Databases
from tests.mail.conftest import LIMITS, register
from tests.support.app import PASSWORD, application
from tests.support.client import Client
from tests.support.commandline import NEW_PASSWORD, run
from tests.support.mailbox import Mailbox, deliver

SCANS = 50
# The purpose in the link of each mail, and the route that its button calls.
LINKS = {
    "registration": ("register", "/api/register/complete"),
    "invitation": ("register", "/api/register/complete"),
    "reset": ("reset", "/api/password-reset/complete"),
    "change": ("email", "/api/me/email/complete"),
    "undo": ("undo", "/api/email-change/undo"),
}


@pytest.fixture
def app(databases: Databases, mailbox: Mailbox) -> Iterator[Flask]:
    """Return an application on SQLite, because no database is asked."""
    with application(databases("sqlite"), TOKENAPP_SMTP_URL=mailbox.url, **LIMITS) as app:
        yield app


def mail(app: Flask, mailbox: Mailbox, kind: str) -> None:
    """Deliver a mail with a link of a kind."""
    if kind == "registration":
        Client(app).send("POST", "/api/register", payload={"email": "new@example.com"})
    elif kind == "invitation":
        run(app, "users", "invite", "new@example.com")
    else:
        alice = register(app, mailbox, "alice")
        path, domain = ("password-reset", "com") if kind == "reset" else ("me/email", "org")
        alice.call("POST", f"/api/{path}", payload={"email": f"alice@example.{domain}"})
    deliver(app)
    if kind == "undo":
        Client(app).send("POST", "/api/me/email/complete", payload={"token": mailbox.token("email")})
        deliver(app)


@pytest.mark.parametrize("kind", LINKS)
def test_link_works_after_it_was_read_many_times(app: Flask, mailbox: Mailbox, kind: str) -> None:
    mail(app, mailbox, kind)
    purpose, path = LINKS[kind]
    token, client = mailbox.token(purpose), Client(app)
    for url, status in (
        ("/account", 200),
        (f"/account?{purpose}={token}", 200),
        (f"{path}?token={token}", 405),
        (f"{path}/{token}", 404),
    ):
        assert {client.send(method, url).status for method in ("GET", "HEAD") * SCANS} == {status}
    payload = {"token": token, "username": "newcomer", "password": PASSWORD, "newPassword": NEW_PASSWORD}
    assert client.send("POST", path, payload=payload).status in {200, 204}
