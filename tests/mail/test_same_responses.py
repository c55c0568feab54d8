"""A registered address is treated exactly as an unregistered one."""

import os
import statistics
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import uuid4

import pytest
import sqlalchemy as sa
import time_machine
from flask import Flask

from tests.conftest import Databases, Servers
from tests.mail.conftest import LIMITS, register
from tests.support.app import application, create_user
from tests.support.client import Client, Response, sign_in
from tests.support.mailbox import Mailbox
from tests.support.server import Server
from tests.support.statements import statements
from tokenapp import db
from tokenapp.models import AddressCount

ROUTES: Final = ("/api/register", "/api/password-reset", "/api/me/email")
KNOWN, UNKNOWN = "bob@example.com", "nobody@example.com"
# A long campaign, as `make soak` runs it, has more rounds, on both databases.
ROUNDS = int(os.environ.get("MAIL_SAMPLES", "3"))
KINDS = ["sqlite", "postgresql"] if "MAIL_SAMPLES" in os.environ else ["sqlite"]

Pairs = list[tuple[float, float]]


def comparable(reply: Response) -> tuple[Any, ...]:
    varying = {"x-request-id", "date"}
    return reply.status, reply.body, sorted((k, v) for k, v in reply.headers if k.lower() not in varying)


@pytest.mark.parametrize("path", ROUTES)
def test_responses_and_statements_are_the_same(app: Flask, mailbox: Mailbox, alice: Client, path: str) -> None:
    register(app, mailbox, "bob")
    now = datetime.now(UTC) + timedelta(days=1, hours=1)  # earlier mails no longer count
    seen: dict[str, list[tuple[Any, list[str]]]] = {KNOWN: [], UNKNOWN: []}
    # The 2nd request comes within a minute, the 6th within an hour, the 11th within a day.
    moments = [0, 30, 90, 180, 270, 360, 450, 3700, 3800, 3900, 4000, 4100, 7400, 7500]
    for seconds in moments:
        for email, results in seen.items():
            with time_machine.travel(now + timedelta(seconds=seconds), tick=False), statements(app) as ran:
                if path.startswith("/api/me"):
                    alice.login()  # a recent sign-in
                    ran.clear()
                reply = alice.call("POST", path, payload={"email": email})
            results.append((comparable(reply), ran[:]))
    assert {result[0][0] for result in seen[KNOWN]} == {202}
    for number, pair in enumerate(zip(seen[KNOWN], seen[UNKNOWN], strict=True)):
        assert pair[0] == pair[1], f"request {number + 1}"


def test_address_without_mail_takes_the_same_statements(app: Flask, mailbox: Mailbox) -> None:
    del mailbox
    ran = []
    for email in ("new@example.com", "\u212aelvin@example.com", "a@\u24d6mail.com"):
        with statements(app) as seen:
            assert Client(app).send("POST", "/api/register", payload={"email": email}).status == 202
        ran.append(seen[:])
    assert ran[0] == ran[1] == ran[2]


@pytest.mark.timeout(300 + 60 * ROUNDS)
@pytest.mark.parametrize("kind", KINDS)
def test_times_are_the_same_while_the_mail_server_sleeps(
    databases: Databases, serve: Servers, mailbox: Mailbox, kind: str
) -> None:
    url, settings = databases(kind), {"TOKENAPP_SMTP_URL": mailbox.url, **LIMITS}
    mailbox.behaviour = "slow"
    server = serve(url, **settings, WEB_CONCURRENCY="1")
    with application(url, **settings) as app:
        create_user(app)
        for path in ROUTES:
            mailed, limited = zip(*(samples(app, server, path) for _ in range(ROUNDS)), strict=True)
            check_times([pair for pairs in mailed for pair in pairs], path)
            check_times([pair for pairs in limited for pair in pairs], path)
    assert mailbox.attempts > 0


def samples(app: Flask, server: Server, path: str) -> tuple[Pairs, Pairs]:
    """Return the seconds of requests for a known and an unknown address, in pairs.

    The second result is of requests beyond the limits of a minute, an hour and a day.
    """
    name = uuid4().hex
    create_user(app, name, email=f"{name}@example.com")
    alice = sign_in(server.port)
    mailed: Pairs = []
    limited: Pairs = []
    for number in range(1, 14):
        if number != 2:
            expire_counts(app, timedelta(hours=1) if number == 8 else timedelta(minutes=1))
        pair = [0.0, 0.0]
        for which in (0, 1) if number % 2 else (1, 0):
            payload = {"email": f"{name}@example.{('com', 'org')[which]}"}
            while (reply := alice.call("POST", path, payload=payload)).status == 503:  # a busy machine
                pass
            assert reply.status == 202
            pair[which] = reply.seconds
        (limited if number in {2, 7, 13} else mailed).append((pair[0], pair[1]))
    return mailed, limited


def expire_counts(app: Flask, window: timedelta) -> None:
    """End the limits of a window, as if that time had passed."""
    with app.app_context():
        db.execute_now(sa.delete(AddressCount).where(AddressCount.expires_at <= datetime.now(UTC) + window))


def check_times(pairs: Pairs, path: str) -> None:
    """Check that no request waited for the mail server, and that times tell nothing.

    They tell the addresses apart if the same one is slower in nearly all pairs, and by more than a tenth. Load delays
    both alike.
    """
    usual = statistics.median(known + unknown for known, unknown in pairs) / 2
    assert usual < 2, f"{path}: requests wait for the mail server"
    differences = [known - unknown for known, unknown in pairs]
    slower = sum(difference > 0 for difference in differences)
    deviations = abs(2 * slower - len(pairs)) / len(pairs) ** 0.5
    assert deviations < 5 or abs(statistics.median(differences)) < usual / 10, f"{path}: {pairs}"
