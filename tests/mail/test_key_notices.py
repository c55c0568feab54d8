"""Mails about access keys."""

from datetime import UTC, datetime, timedelta

from flask import Flask

from tests.support.access_keys import create_key
from tests.support.client import Client
from tests.support.concurrency import at_once
from tests.support.mailbox import Mailbox, deliver, text_of
from tokenapp import notices

DAY = 86400


def subjects(app: Flask, mailbox: Mailbox, days: float = 0) -> list[str]:
    """Deliver what is due in some days; return the subjects of all mails about keys."""
    deliver(app, datetime.now(UTC) + timedelta(days=days))
    return [str(mail["Subject"]) for mail in mailbox.messages if "key" in str(mail["Subject"])]


def remind(app: Flask, days: float) -> int:
    with app.app_context():
        return notices.remind(datetime.now(UTC) + timedelta(days=days))


def test_owner_is_told_of_a_new_and_of_a_revoked_key(app: Flask, alice: Client, mailbox: Mailbox) -> None:
    created = create_key(alice, name="deploy")
    alice.call("DELETE", f"/api/me/access-keys/{created['id']}")
    assert [subject.split(" at ")[0] for subject in subjects(app, mailbox)] == ["New access key", "An access key"]
    assert all("“deploy”" in text_of(mail) for mail in mailbox.messages[-2:])
    assert created["key"] not in text_of(mailbox.messages[-2])


def test_owner_is_reminded_once_seven_days_before_a_key_expires(app: Flask, alice: Client, mailbox: Mailbox) -> None:
    create_key(alice, name="deploy", expiresIn=30 * DAY)
    subjects(app, mailbox)
    mailbox.clear()
    assert remind(app, 22.9) == 0
    assert sum(at_once(*[lambda: remind(app, 23.1)] * 4)) == 1
    assert remind(app, 24) == 0
    (subject,) = subjects(app, mailbox, 24)
    assert "expires soon" in subject
    assert "“deploy” of alice" in text_of(mailbox.messages[-1])


def test_keys_that_are_short_lived_revoked_or_expired_cause_no_reminder(
    app: Flask, alice: Client, mailbox: Mailbox
) -> None:
    create_key(alice, expiresIn=7 * DAY)
    revoked = create_key(alice, expiresIn=30 * DAY)
    alice.call("DELETE", f"/api/me/access-keys/{revoked['id']}")
    create_key(alice, expiresIn=30 * DAY)
    subjects(app, mailbox)
    mailbox.clear()
    remind(app, 31)
    assert subjects(app, mailbox, 31) == []
