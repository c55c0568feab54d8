"""The thread that sends, in real processes that are killed."""

import os
import signal
import statistics
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.conftest import Databases, Servers
from tests.mail.conftest import LIMITS
from tests.support.app import application
from tests.support.client import Client, until_available
from tests.support.concurrency import wait_until
from tests.support.mailbox import Behaviour, Mailbox, deliver
from tests.support.server import Server
from tokenapp import db
from tokenapp.mail import delivery
from tokenapp.models import Mail

KINDS = ["sqlite", "postgresql"]
BEHAVIOURS: list[Behaviour] = ["drop after data", "4xx", "hang", "slow", "away"]
# A long campaign, as `make soak` runs it, tries every behaviour on both databases.
KILLS = int(os.environ.get("MAIL_KILLS", "2"))
CAMPAIGN = (
    list(product(KINDS, BEHAVIOURS)) if "MAIL_KILLS" in os.environ else list(zip(KINDS, BEHAVIOURS, strict=False))
)


def ask(client: Client, email: str) -> int:
    return until_available(lambda: client.send("POST", "/api/register", payload={"email": email})).status


@pytest.mark.parametrize("kind", KINDS)
def test_mail_is_sent_within_seconds_by_a_thread_of_a_worker(
    databases: Databases, serve: Servers, mailbox: Mailbox, kind: str
) -> None:
    server = serve(databases(kind), TOKENAPP_SMTP_URL=mailbox.url, **LIMITS)
    assert ask(server.client, "alice@example.com") == 202
    wait_until(lambda: mailbox.recipients() == ["alice@example.com"], seconds=60, what="the mail")


def test_mail_of_another_process_is_found(databases: Databases, serve: Servers, mailbox: Mailbox) -> None:
    url = databases("sqlite")
    serve(url, TOKENAPP_SMTP_URL=mailbox.url, **LIMITS)
    with application(url, TOKENAPP_SMTP_URL=mailbox.url, **LIMITS) as app:
        assert ask(Client(app), "alice@example.com") == 202
    wait_until(lambda: mailbox.recipients() == ["alice@example.com"], seconds=60, what="the mail")


def test_requests_do_not_wait_for_the_mail_server(databases: Databases, serve: Servers, mailbox: Mailbox) -> None:
    mailbox.behaviour = "hang"
    server = serve(databases("sqlite"), TOKENAPP_SMTP_URL=mailbox.url, WEB_CONCURRENCY="1", **LIMITS)
    replies = [
        server.client.send("POST", "/api/register", payload={"email": f"user{number}@example.com"})
        for number in range(10)
    ]
    assert {reply.status for reply in replies} == {202}
    waited = statistics.median(reply.seconds for reply in replies)
    assert waited < delivery.TIMEOUT, "requests took as long as an attempt to send"


@pytest.mark.timeout(300 + 30 * KILLS)
@pytest.mark.parametrize(("kind", "behaviour"), CAMPAIGN)
def test_no_mail_is_lost_when_the_service_is_killed(
    databases: Databases, mailbox: Mailbox, tmp_path: Path, kind: str, behaviour: Behaviour
) -> None:
    url = databases(kind)
    settings = {"TOKENAPP_SMTP_URL": mailbox.url, "WEB_CONCURRENCY": "1", **LIMITS}
    accepted = []
    for number in range(KILLS):
        mailbox.behaviour = behaviour
        server = Server(url, settings, log=tmp_path / "log")
        with server:
            for part in range(3):
                email = f"user{number}.{part}@example.com"
                if ask(server.client, email) == 202:
                    accepted.append(email)
            time.sleep(0.1 * number)
            server.kill()
    mailbox.behaviour = "accept"
    with application(url, **settings) as app:
        for minutes in (0, 2, 4, 10, 12, 45, 50):
            deliver(app, datetime.now(UTC) + timedelta(minutes=minutes))
    assert set(mailbox.recipients()) == set(accepted)
    assert len(accepted) == 3 * KILLS
    ids = {(message["To"], message["Message-ID"]) for message in mailbox.messages}
    assert len(ids) == len(accepted), "a mail has two Message-IDs"


def test_two_services_on_one_database_send_each_mail_once(
    databases: Databases, mailbox: Mailbox, tmp_path: Path
) -> None:
    url = databases("postgresql")
    with ExitStack() as stack:
        settings = {"TOKENAPP_SMTP_URL": mailbox.url, **LIMITS}
        servers = [stack.enter_context(Server(url, settings, log=tmp_path / "log")) for _ in range(2)]
        emails = [f"user{number}@example.com" for number in range(20)]
        for number, email in enumerate(emails):
            assert ask(servers[number % 2].client, email) == 202
        wait_until(lambda: len(mailbox.recipients()) >= len(emails), seconds=60, what="the mails")
    assert sorted(mailbox.recipients()) == sorted(emails)


def test_stopped_worker_does_not_hold_a_mail_for_ever(databases: Databases, serve: Servers, mailbox: Mailbox) -> None:
    url = databases("postgresql")
    mailbox.behaviour = "hang"
    server = serve(url, TOKENAPP_SMTP_URL=mailbox.url, WEB_CONCURRENCY="1", **LIMITS)
    ask(server.client, "alice@example.com")
    wait_until(lambda: mailbox.attempts == 1, seconds=60, what="the attempt")
    server.signal(signal.SIGSTOP)
    mailbox.behaviour = "accept"
    with application(url, TOKENAPP_SMTP_URL=mailbox.url, **LIMITS) as app:
        assert deliver(app) == 0, "another process took a mail that is being sent"
        assert deliver(app, datetime.now(UTC) + timedelta(minutes=2)) == 1
        with app.app_context():
            assert db.execute_now(sa.select(Mail.state))[0][0] == "sent"
    assert mailbox.recipients() == ["alice@example.com"]
