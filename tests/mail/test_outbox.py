"""The outbox: at least once, one Message-ID, never after the expiry."""

import secrets
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from flask import Flask

from tests.conftest import Databases
from tests.mail.conftest import LIMITS
from tests.support.app import application
from tests.support.client import Client
from tests.support.concurrency import at_once
from tests.support.mailbox import Behaviour, Mailbox, deliver
from tokenapp import db
from tokenapp.mail import outbox
from tokenapp.models import Mail

MINUTE = timedelta(minutes=1)
RETRIES = (1, 6, 36, 156)  # minutes after the first attempt


def ask(app: Flask, email: str = "alice@example.com", path: str = "register") -> None:
    assert Client(app).send("POST", f"/api/{path}", payload={"email": email}).status == 202


def states(app: Flask) -> list[tuple[str, str | None]]:
    with app.app_context():
        return [tuple(row) for row in db.execute_now(sa.select(Mail.state, Mail.result).order_by(Mail.id))]


def test_mail_is_sent_once_and_its_text_erased(app: Flask, mailbox: Mailbox) -> None:
    ask(app)
    assert [deliver(app), deliver(app)] == [1, 0]
    assert mailbox.recipients() == ["alice@example.com"]
    assert states(app) == [("sent", "sent")]
    with app.app_context():
        assert db.execute_now(sa.select(Mail.encrypted))[0][0] is None


def test_nothing_is_mailed_if_the_transaction_is_rolled_back(app: Flask, mailbox: Mailbox) -> None:
    def fail() -> None:
        with app.app_context(), db.writing() as writer:
            content = outbox.Content("a@example.com", "s", "t", "h", "en")
            outbox.enqueue(writer, "test", content, datetime.now(UTC))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert deliver(app) == 0
    assert mailbox.attempts == 0


@pytest.mark.parametrize("behaviour", ["4xx", "drop after data"])
def test_mail_is_tried_again_with_the_same_message_id(app: Flask, mailbox: Mailbox, behaviour: Behaviour) -> None:
    ask(app)
    now = datetime.now(UTC)
    mailbox.behaviour = behaviour
    for attempt, minutes in enumerate((0, *RETRIES[:3])):
        moment = now + minutes * MINUTE
        assert deliver(app, moment) == 1
        assert deliver(app, moment + 0.9 * MINUTE) == 0
        assert mailbox.attempts == attempt + 1
    mailbox.behaviour = "accept"
    assert deliver(app, now + RETRIES[3] * MINUTE) == 1
    assert states(app) == [("sent", "sent")]
    assert len({message["Message-ID"] for message in mailbox.messages}) == 1
    assert len({message["Date"] for message in mailbox.messages}) == 1


def test_mail_is_given_up_after_the_last_attempt(app: Flask, mailbox: Mailbox) -> None:
    ask(app)
    now = datetime.now(UTC)
    mailbox.behaviour = "4xx"
    for minutes in (0, *RETRIES, 1000):
        deliver(app, now + minutes * MINUTE)
    assert mailbox.attempts == 5
    assert states(app) == [("failed", "SMTP 451")]


def test_mail_is_given_up_at_once_if_the_server_rejects_it(app: Flask, mailbox: Mailbox) -> None:
    ask(app)
    mailbox.behaviour = "5xx"
    deliver(app)
    assert states(app) == [("failed", "SMTP 550")]
    deliver(app, datetime.now(UTC) + timedelta(hours=3))
    assert mailbox.attempts == 1


def test_mail_waits_while_the_server_is_away(app: Flask, mailbox: Mailbox) -> None:
    ask(app)
    now = datetime.now(UTC)
    mailbox.behaviour = "away"
    assert deliver(app, now + timedelta(seconds=1)) == 1
    mailbox.behaviour = "accept"
    assert states(app) == [("queued", "ConnectionRefusedError")]
    assert deliver(app, now + 2 * MINUTE) == 1
    assert mailbox.recipients() == ["alice@example.com"]


def test_server_that_hangs_is_given_up_within_seconds(databases: Databases, mailbox: Mailbox) -> None:
    mailbox.behaviour = "hang"
    with application(databases("sqlite"), TOKENAPP_SMTP_URL=mailbox.url, **LIMITS) as app:
        ask(app)
        deliver(app)
        assert states(app) == [("queued", "SMTPServerDisconnected")]


def test_error_after_the_mail_was_accepted_does_not_send_it_again(app: Flask, mailbox: Mailbox) -> None:
    ask(app)
    mailbox.behaviour = "rude"
    deliver(app)
    assert states(app) == [("sent", "sent")]
    assert mailbox.attempts == 1


def test_nothing_is_sent_that_could_arrive_after_its_expiry(app: Flask, mailbox: Mailbox) -> None:
    ask(app)
    deliver(app, datetime.now(UTC) + timedelta(hours=24) - outbox.LEASE / 2)
    assert mailbox.attempts == 0
    assert states(app) == [("expired", "expired")]


def test_nothing_is_mailed_after_the_link_has_expired(app: Flask, mailbox: Mailbox) -> None:
    ask(app)
    deliver(app, datetime.now(UTC) + timedelta(hours=24, minutes=1))
    assert mailbox.attempts == 0
    assert states(app) == [("expired", "expired")]


def test_no_attempt_is_planned_after_the_expiry(app: Flask, mailbox: Mailbox) -> None:
    now = datetime.now(UTC)
    with app.app_context(), db.writing() as writer:
        content = outbox.Content("a@example.com", "s", "t", "h", "en")
        outbox.enqueue(writer, "test", content, now, expires_at=now + 5 * MINUTE)
    mailbox.behaviour = "4xx"
    for minutes in (0, 1, 6):
        deliver(app, now + minutes * MINUTE)
    assert mailbox.attempts == 2
    assert states(app) == [("expired", "SMTP 451")]


def test_claim_of_a_dead_process_ends_with_its_lease(app: Flask, mailbox: Mailbox) -> None:
    ask(app)
    now = datetime.now(UTC)
    for crash in range(20):  # more often than there are attempts
        with app.app_context():
            assert outbox.claim(now + crash * 1.1 * outbox.LEASE) is not None
    assert deliver(app, now + 19 * 1.1 * outbox.LEASE + 0.9 * outbox.LEASE) == 0
    assert deliver(app, now + 21 * 1.1 * outbox.LEASE) == 1
    assert mailbox.recipients() == ["alice@example.com"]


def test_concurrent_senders_claim_each_mail_once(app: Flask, mailbox: Mailbox) -> None:
    for number in range(12):
        ask(app, f"user{number}@example.com")
    now = datetime.now(UTC)

    def claim_all() -> list[str]:
        with app.app_context():
            claims = [outbox.claim(now) for _ in range(12)]
        return [mail.id for mail in claims if mail is not None]

    found = [mail_id for claimed in at_once(*[claim_all] * 4) for mail_id in claimed]
    assert len(found) == len(set(found)) == 12
    assert mailbox.attempts == 0


def test_late_result_does_not_undo_that_of_another_process(app: Flask) -> None:
    ask(app)
    now = datetime.now(UTC)
    with app.app_context():
        slow = outbox.claim(now)
        other = outbox.claim(now + 2 * MINUTE)
        assert slow is not None
        assert other is not None
        outbox.finish(other, "sent", "sent")
        outbox.postpone(slow, now + 3 * MINUTE, "TimeoutError")
    assert states(app) == [("sent", "sent")]


def test_mail_under_an_unknown_secret_key_fails_without_stopping_others(
    app: Flask, database_url: str, mailbox: Mailbox
) -> None:
    ask(app)
    settings = {"TOKENAPP_SMTP_URL": mailbox.url, "SECRET_KEY": secrets.token_urlsafe(48), **LIMITS}
    with application(database_url, **settings) as other:
        ask(other, "bob@example.com")
        assert deliver(other) == 2
    assert sorted(states(app)) == [("failed", "undecryptable"), ("sent", "sent")]
    assert mailbox.recipients() == ["bob@example.com"]


def test_sent_mails_are_deleted_after_a_week(app: Flask, mailbox: Mailbox) -> None:
    ask(app)
    deliver(app)
    assert mailbox.attempts == 1
    with app.app_context():
        assert outbox.prune(datetime.now(UTC) + timedelta(days=6)) == 0
        assert outbox.prune(datetime.now(UTC) + timedelta(days=8)) == 1
