"""One of many concurrent redemptions succeeds, and no crash uses a link up."""

import os
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import uuid4

import pytest
import sqlalchemy as sa
from flask import Flask
from sqlalchemy.exc import OperationalError

from tests.conftest import Databases, Servers
from tests.mail.conftest import LIMITS, register
from tests.support.app import PASSWORD, application, create_user
from tests.support.client import Client, sign_in
from tests.support.commandline import NEW_PASSWORD
from tests.support.concurrency import repeating, wait_until
from tests.support.forked import Processes, Task
from tests.support.guarded import Shop, guard_of
from tests.support.mailbox import Mailbox, deliver
from tokenapp import clients, db, one_time_tokens, password_reset
from tokenapp.models import AuditEvent

CLIENTS = 20
ROUNDS = int(os.environ.get("MAIL_ROUNDS", "1"))
ASK = {"register": "/api/register", "reset": "/api/password-reset", "email": "/api/me/email"}
COMPLETE = {purpose: f"{path}/complete" for purpose, path in ASK.items()}

EVENTS = {"register": "user_created", "reset": "password_changed", "email": "address_changed"}


def events(app: Flask, kind: str) -> int:
    """Return the number of audit events of a kind."""
    with app.app_context():
        return len(db.execute_now(sa.select(AuditEvent.id).where(AuditEvent.kind == kind)))


def completion(token: str, name: str) -> dict[str, str]:
    """Return the body of a redemption, with a name and a password of its own."""
    return {"token": token, "username": name, "password": PASSWORD, "newPassword": f"{NEW_PASSWORD} {name}"}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def service(
    request: pytest.FixtureRequest, databases: Databases, mail_server: Mailbox
) -> Iterator[tuple[Flask, Processes]]:
    """Return the application in this process, and others with the same database."""
    url, settings = databases(request.param), {"TOKENAPP_SMTP_URL": mail_server.url, **LIMITS}
    with application(url, **settings) as app, Processes(url, **settings) as processes:
        yield app, processes


@pytest.mark.timeout(300 + 30 * ROUNDS)
@pytest.mark.parametrize("purpose", COMPLETE)
def test_one_of_many_processes_redeems_a_link(service: tuple[Flask, Processes], mailbox: Mailbox, purpose: str) -> None:
    app, processes = service
    for _ in range(ROUNDS):
        name = uuid4().hex
        client = Client(app)
        if purpose != "register":
            create_user(app, name, email=f"{name}@example.com")
            client.login(name)
        payload = {"email": f"{name}@example.{'org' if purpose == 'email' else 'com'}"}
        assert client.call("POST", ASK[purpose], payload=payload).status == 202
        deliver(app)
        token = mailbox.token(purpose)
        before = events(app, EVENTS[purpose])
        processes.start(*(Task(COMPLETE[purpose], completion(token, f"{name}.{n}")) for n in range(CLIENTS)))
        statuses = Counter(processes.results())
        assert events(app, EVENTS[purpose]) == before + 1
        # On a busy machine the time of a request can end between its effect and its response, which is then a 503.
        assert statuses[204] + statuses[200] <= 1
        # 409: the address is that of the account just created.
        assert set(statuses) <= {200, 204, 400, 409}


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
    wait_until(lambda: any("new password" in each["Subject"] for each in mailbox.messages), seconds=60, what="the mail")
    with repeating(*(each.refresh for each in running)):
        payload = {"token": mailbox.token("reset"), "newPassword": NEW_PASSWORD}
        while (status := server.client.send("POST", COMPLETE["reset"], payload=payload).status) == 503:
            pass
        assert status == 204
    for each in running:
        while (status := each.refresh().status) == 503:  # a busy machine
            pass
        assert status in {401, 403}
    wait_until(lambda: {each.protected().status for each in running} == {403}, seconds=60, what="the service")
    wait_until(lambda: {shop.orders(each.token).status_code for each in running} == {403}, seconds=60, what="the guard")
