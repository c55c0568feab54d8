"""A registered address cannot be told from an unregistered one."""

import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
import time_machine
from flask import Flask
from sqlalchemy import event

from tests.conftest import Databases, Servers
from tests.mail.conftest import LIMITS, register
from tests.support.app import application
from tests.support.client import Client, Response
from tests.support.mailbox import Mailbox
from tokenapp import db

ROUTES: Final = ("/api/register", "/api/password-reset", "/api/me/email")
KNOWN, UNKNOWN = "bob@example.com", "nobody@example.com"
SAMPLES = 60


@contextmanager
def statements(app: Flask) -> Iterator[list[str]]:
    """Collect the statements of the block, without their values."""
    seen: list[str] = []
    with app.app_context():
        engine = db.db.engine

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "clock" not in statement and "FROM sessions" not in statement:  # the revocation list, read once a second
            seen.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", note)


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


@pytest.mark.parametrize("path", ROUTES[:2])
def test_times_are_the_same_while_the_mail_server_sleeps(
    databases: Databases, serve: Servers, mailbox: Mailbox, path: str
) -> None:
    url = databases("sqlite")
    with application(url, TOKENAPP_SMTP_URL=mailbox.url, **LIMITS) as app:
        for number in range(3):
            register(app, mailbox, f"user{number}")
    mailbox.behaviour = "slow"
    server = serve(url, TOKENAPP_SMTP_URL=mailbox.url, WEB_CONCURRENCY="1", **LIMITS)
    client = server.client
    times: dict[bool, list[float]] = {True: [], False: []}
    for number in range(SAMPLES):
        for known in (True, False) if number % 2 else (False, True):
            email = f"{'user' if known else 'none'}{number % 3}@example.com"
            reply = client.send("POST", path, payload={"email": email})
            assert reply.status == 202
            times[known].append(reply.seconds)
    medians = {known: statistics.median(each) for known, each in times.items()}
    # The spread of single samples bounds what a difference of the medians can mean.
    quartiles = statistics.quantiles(times[True] + times[False], n=4)
    assert abs(medians[True] - medians[False]) < max(0.003, quartiles[2] - quartiles[0]), medians
    assert max(medians.values()) < 1, "requests wait for the mail server"
