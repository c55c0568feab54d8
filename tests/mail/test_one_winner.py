"""One of many concurrent redemptions succeeds, and no crash uses a link up."""

import time
from datetime import UTC, datetime

import pytest
from flask import Flask
from sqlalchemy.exc import OperationalError

from tests.conftest import Databases, Servers
from tests.mail.conftest import LIMITS, register
from tests.support.app import PASSWORD, application
from tests.support.client import Client, sign_in
from tests.support.commandline import NEW_PASSWORD
from tests.support.concurrency import at_once, repeating, wait_until
from tests.support.guarded import Shop, guard_of
from tests.support.mailbox import Mailbox, deliver
from tokenapp import clients, db, one_time_tokens, password_reset

CLIENTS = 20


def redeem(client: Client, purpose: str, token: str, number: int) -> int:
    """Redeem a token as one of many clients; busy servers are asked again."""
    payload, path = {
        "register": ({"username": f"user{number}", "password": PASSWORD}, "/api/register/complete"),
        "reset": ({"newPassword": f"{NEW_PASSWORD} {number}"}, "/api/password-reset/complete"),
        "email": ({}, "/api/me/email/complete"),
    }[purpose]
    while (status := client.send("POST", path, payload={"token": token, **payload}).status) == 503:
        pass
    return status


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_one_of_many_redemptions_succeeds(databases: Databases, serve: Servers, mailbox: Mailbox, kind: str) -> None:
    url = databases(kind)
    with application(url, TOKENAPP_SMTP_URL=mailbox.url, **LIMITS) as app:
        alice = register(app, mailbox, "alice")
        for path, email in (("register", "new"), ("password-reset", "alice")):
            alice.send("POST", f"/api/{path}", payload={"email": f"{email}@example.com"})
        alice.call("POST", "/api/me/email", payload={"email": "alice@example.org"})
        deliver(app)
        # The change of the address would end the reset, so each database has one of them.
        tokens = [(each, mailbox.token(each)) for each in ("register", "email" if kind == "sqlite" else "reset")]
    server = serve(url, TOKENAPP_SMTP_URL=mailbox.url, WEB_CONCURRENCY="4", **LIMITS)
    for purpose, token in tokens:
        calls = [lambda n=n: redeem(server.client, purpose, token, n) for n in range(CLIENTS)]  # noqa: B023 -- at once
        statuses = sorted(at_once(*calls))
        assert statuses[0] == (200 if purpose == "register" else 204), purpose
        assert {*statuses[1:]} <= {400, 409}, purpose  # 409: the address is that of the account just created


def test_crash_after_the_redemption_leaves_the_link_usable(app: Flask, mailbox: Mailbox, alice: Client) -> None:
    alice.send("POST", "/api/password-reset", payload={"email": "alice@example.com"})
    deliver(app)
    token = mailbox.token("reset")
    now = datetime.now(UTC)

    def crash() -> None:
        with app.app_context(), db.writing() as writer:
            one_time_tokens.redeem(writer, token, "reset", now=now)
            raise OperationalError("", None, Exception())

    with pytest.raises(OperationalError):
        crash()
    with app.app_context():
        password_reset.complete(token, NEW_PASSWORD, now)


def test_reset_ends_running_clients_and_the_tokens_of_other_services(
    databases: Databases, serve: Servers, mailbox: Mailbox
) -> None:
    url = databases("sqlite")
    server = serve(url, TOKENAPP_SMTP_URL=mailbox.url, **LIMITS)
    with application(url, TOKENAPP_SMTP_URL=mailbox.url, **LIMITS) as app:
        register(app, mailbox, "alice")
        with app.app_context():
            client, secret = clients.create("shop", ["feed"], datetime.now(UTC))
    running = [sign_in(server.port) for _ in range(3)]
    shop = Shop(guard_of(server, client_id=client.id, client_secret=secret))
    assert shop.orders(running[0].token).status_code == 200
    server.client.send("POST", "/api/password-reset", payload={"email": "alice@example.com"})
    wait_until(lambda: any("new password" in each["Subject"] for each in mailbox.messages), what="the mail")
    with repeating(*(each.refresh for each in running)):
        assert redeem(server.client, "reset", mailbox.token("reset"), 0) == 204
        ended = time.monotonic()
    for each in running:
        assert each.refresh().status in {401, 403}
    wait_until(lambda: {each.protected().status for each in running} == {403}, seconds=5, what="the service")
    wait_until(lambda: {shop.orders(each.token).status_code for each in running} == {403}, seconds=5, what="the guard")
    assert time.monotonic() - ended < 10
