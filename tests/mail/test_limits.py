"""The limits of mail: beyond them the response stays the same."""

import os
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from typing import Any

import pytest
import sqlalchemy as sa
import time_machine
from flask import Flask

from tests.support.app import application
from tests.support.client import Client
from tests.support.mailbox import Mailbox, deliver
from tokenapp import db
from tokenapp.models import AddressCount, Mail, OneTimeToken

# A long campaign, as `make soak` runs it, has ten thousand requests of a thousand clients.
REQUESTS = int(os.environ.get("MAIL_FLOOD", "300"))
START = datetime(2031, 5, 6, tzinfo=UTC)


def ask(app: Flask, email: str, address: str = "192.0.2.1", path: str = "register") -> int:
    environ = {"REMOTE_ADDR": address}
    return Client(app).send("POST", f"/api/{path}", payload={"email": email}, environ=environ).status


def rows(app: Flask, kind: Any) -> int:
    with app.app_context():
        return int(db.execute_now(sa.select(sa.func.count()).select_from(kind))[0][0])


@pytest.mark.parametrize(
    ("seconds", "mailed"),
    [
        ([0, 1, 59], 1),
        ([0, 60, 119, 120], 3),
        (range(0, 3600, 60), 5),
        (range(0, 86400, 60), 10),
    ],
    ids=["minute", "minutes", "hour", "day"],
)
def test_recipient_gets_a_limited_number_of_mails(
    databases: object, app: Flask, mailbox: Mailbox, seconds: list[int], mailed: int
) -> None:
    del databases, mailbox
    for second in seconds if len(seconds) < 100 else range(0, 86400, 800):
        with time_machine.travel(START + timedelta(seconds=second), tick=False):
            assert ask(app, "alice@example.com") == 202
    assert rows(app, Mail) == mailed


def test_spellings_of_an_address_share_its_limit(app: Flask) -> None:
    with time_machine.travel(START, tick=False):
        for email in ("alice@example.com", "ALICE@example.com", "\uff21lice@example.com"):
            assert ask(app, email) == 202
    assert rows(app, Mail) == 1


def test_client_gets_a_limited_number_of_mails(database_url: str, mailbox: Mailbox) -> None:
    with (
        time_machine.travel(START, tick=False) as clock,
        application(database_url, TOKENAPP_SMTP_URL=mailbox.url, TOKENAPP_MAIL_CLIENT_LIMIT="3") as app,
    ):
        for number in range(5):
            assert ask(app, f"user{number}@example.com", "2001:db8::1") == 202
        assert ask(app, "other@example.com", "192.0.2.7") == 202
        assert rows(app, Mail) == 4
        clock.shift(timedelta(hours=1))
        ask(app, "later@example.com", "2001:db8::2")
        assert rows(app, Mail) == 5


@pytest.mark.timeout(300 + REQUESTS // 5)
def test_flood_stays_in_the_limits_and_writes_few_rows(database_url: str, mailbox: Mailbox) -> None:
    clients, mails = REQUESTS // 10, 20
    settings = {"TOKENAPP_MAIL_DAILY_LIMIT": str(mails), "TOKENAPP_MAIL_CLIENT_LIMIT": "5"}
    with (
        time_machine.travel(START, tick=False),
        application(database_url, TOKENAPP_SMTP_URL=mailbox.url, **settings) as app,
    ):
        before = sum(rows(app, table) for table in db.Base.metadata.sorted_tables)
        for number in range(REQUESTS):
            path = ("register", "password-reset")[number % 2]
            address = IPv4Address("198.18.0.0") + number % clients
            assert ask(app, f"user{number}@example.com", str(address), path) == 202
        assert rows(app, Mail) == rows(app, OneTimeToken) == mails
        # One for each client, one in all, and three for each recipient of a mail.
        counts = rows(app, AddressCount)
        assert counts <= clients + 1 + 3 * mails
        assert sum(rows(app, table) for table in db.Base.metadata.sorted_tables) - before == counts + 2 * mails
        assert deliver(app) == mails
    assert len(mailbox.messages) == mails / 2, "a reset is mailed to nobody here"


def test_requests_of_strangers_do_not_suppress_a_reset(app: Flask, mailbox: Mailbox) -> None:
    with time_machine.travel(START, tick=False):
        assert [ask(app, "alice@example.com", path=path) for path in ("register", "password-reset")] == [202, 202]
    assert rows(app, Mail) == 2
    del mailbox
