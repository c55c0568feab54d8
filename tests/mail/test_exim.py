"""Mail through Exim, a server that people run."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from flask import Flask

from tests.conftest import Databases
from tests.mail.conftest import LIMITS
from tests.support.app import PASSWORD, application
from tests.support.client import Client
from tests.support.exim import Exim
from tests.support.mailbox import TOKEN, deliver, html_of, text_of
from tokenapp import accounts, db
from tokenapp.mail import texts
from tokenapp.models import Mail

SENDER = "B\u00fccher & S\u00f6hne <accounts@example.com>"


@pytest.fixture(scope="module")
def exim() -> Iterator[Exim]:
    with Exim() as exim:
        yield exim


@pytest.fixture
def app(databases: Databases, exim: Exim) -> Iterator[Flask]:
    """Return an application that mails through Exim."""
    url, settings = databases("sqlite"), {"TOKENAPP_SMTP_URL": exim.url("none"), "TOKENAPP_MAIL_FROM": SENDER}
    with application(url, **settings, **LIMITS) as app:
        yield app


def ask(app: Flask, email: str, path: str = "register") -> None:
    assert Client(app).send("POST", f"/api/{path}", payload={"email": email}).status == 202


def states(app: Flask) -> list[tuple[str, str | None, str]]:
    with app.app_context():
        columns = (Mail.state, Mail.result, Mail.message_id)
        return [tuple(row) for row in db.execute_now(sa.select(*columns).order_by(Mail.id))]


@pytest.mark.parametrize(
    ("kind", "security", "protocol"),
    [("sqlite", "none", "esmtp"), ("postgresql", "starttls", "esmtpsa"), ("sqlite", "tls", "esmtpsa")],
)
def test_link_that_exim_delivered_creates_an_account(
    databases: Databases, exim: Exim, monkeypatch: pytest.MonkeyPatch, kind: str, security: str, protocol: str
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(exim.folder / "ca.pem"))
    to = f"{security}@example.com"
    with application(databases(kind), TOKENAPP_SMTP_URL=exim.url(security), **LIMITS) as app:
        ask(app, to)
        assert [deliver(app), deliver(app)] == [1, 0]
        message = exim.wait_for(to)
        found = re.search(rf"/account#register=({TOKEN})", text_of(message))
        assert found
        payload = {"token": found[1], "username": "alice", "password": PASSWORD}
        assert Client(app).call("POST", "/api/register/complete", payload=payload).status == 200
        assert states(app) == [("sent", "sent", message["Message-ID"])]
    assert [name.lower() for name in message].count("message-id") == 1
    assert f" with {protocol} " in message["Received"]


def test_characters_and_long_lines_arrive_unchanged(app: Flask, exim: Exim) -> None:
    to, name = "j\u00f6rg@example.com", "\u00fc\u00e9\u0151 " * 63 + "x"
    with app.app_context():
        new = accounts.NewUser(name, PASSWORD, email=to, email_verified=True, locale="de")
        accounts.create(new, datetime.now(UTC))
    ask(app, to, "password-reset")
    deliver(app)
    message = exim.wait_for(to)
    found = re.search(rf"/account#(reset={TOKEN})", text_of(message))
    assert found
    with app.app_context():
        sent = texts.render("reset", to, "de", link=found[1], name=name)
    assert max(len(line) for line in sent.html.splitlines()) > 998, "longer than a line of SMTP"
    assert text_of(message).splitlines() == sent.text.splitlines()
    assert html_of(message).strip() == sent.html
    assert (message["Subject"], message["From"], message["To"]) == (sent.subject, SENDER, to)
    assert message["Return-path"] == "<accounts@example.com>"


def test_mail_that_exim_rejects_is_given_up(app: Flask, exim: Exim) -> None:
    ask(app, "refused@example.com")
    deliver(app)
    deliver(app, datetime.now(UTC) + timedelta(hours=3))
    assert [row[:2] for row in states(app)] == [("failed", "SMTP 550")]
    assert exim.delivered("refused@example.com") == []


def test_mail_that_exim_defers_is_tried_again(app: Flask, exim: Exim) -> None:
    busy, to = exim.folder / "busy", "busy@example.com"
    ask(app, to)
    busy.touch()
    deliver(app)
    assert [row[:2] for row in states(app)] == [("queued", "SMTP 451")]
    busy.unlink()
    assert deliver(app, datetime.now(UTC) + timedelta(minutes=2)) == 1
    assert states(app) == [("sent", "sent", exim.wait_for(to)["Message-ID"])]
