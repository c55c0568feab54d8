"""What operators see of mail: the doctor's findings and the metric."""

from pathlib import Path

import pytest
from flask import Flask

from tests.conftest import Databases
from tests.mail.conftest import LIMITS
from tests.support.app import application
from tests.support.client import Client
from tests.support.commandline import run
from tests.support.concurrency import wait_until
from tests.support.mailbox import Mailbox, deliver
from tests.support.measured import MeasuredServer
from tests.support.server import free_port


def findings(app: Flask) -> str:
    """Return what the doctor prints, whatever its exit code."""
    return str(app.test_cli_runner().invoke(args=["doctor"]).output)


def test_doctor_reports_a_mail_server_that_is_away(databases: Databases) -> None:
    with application(databases("sqlite"), TOKENAPP_SMTP_URL=f"smtp://127.0.0.1:{free_port()}") as app:
        assert "error: TOKENAPP_SMTP_URL: the mail server cannot be used (ConnectionRefusedError)" in findings(app)


def test_doctor_reports_a_server_without_tls(databases: Databases, mailbox: Mailbox) -> None:
    for scheme in ("smtps", "smtp+starttls"):
        with application(databases("sqlite"), TOKENAPP_SMTP_URL=f"{scheme}://127.0.0.1:{mailbox.port}") as app:
            assert "error: TOKENAPP_SMTP_URL" in findings(app)
    assert mailbox.attempts == 0


def test_doctor_accepts_a_mail_server_that_works(databases: Databases, mailbox: Mailbox) -> None:
    settings = {"TOKENAPP_SMTP_URL": mailbox.url, "TOKENAPP_MAIL_FROM": "accounts@example.com"}
    with application(databases("sqlite"), **settings) as app:
        assert "TOKENAPP_SMTP_URL" not in findings(app)
        assert "TOKENAPP_MAIL_FROM" not in findings(app)
    assert mailbox.attempts == 0, "a mail was sent"


def test_doctor_reports_mails_that_were_not_delivered(app: Flask, mailbox: Mailbox) -> None:
    Client(app).send("POST", "/api/register", payload={"email": "alice@example.com"})
    mailbox.behaviour = "5xx"
    deliver(app)
    assert "note: mail: mails of the last week that were not delivered: 1" in findings(app)


@pytest.mark.parametrize("secure", ["smtps", "smtp+starttls"])
def test_nothing_is_sent_without_a_verified_certificate(databases: Databases, mailbox: Mailbox, secure: str) -> None:
    with application(databases("sqlite"), TOKENAPP_SMTP_URL=f"{secure}://127.0.0.1:{mailbox.port}") as app:
        Client(app).send("POST", "/api/register", payload={"email": "alice@example.com"})
        assert deliver(app) == 1
        assert "queued" in run(app, "mail", "list").stdout or "failed" in run(app, "mail", "list").stdout
    assert mailbox.attempts == 0


def test_metric_counts_attempts(databases: Databases, mailbox: Mailbox, tmp_path: Path) -> None:
    settings = {"TOKENAPP_SMTP_URL": mailbox.url, **LIMITS}
    with MeasuredServer(databases("sqlite"), tmp_path / "log", **settings) as server:
        for name in ("alice", "bob"):
            server.client.send("POST", "/api/register", payload={"email": f"{name}@example.com"})
        counts = {"sent": 2.0}
        wait_until(lambda: server.counts("tokenapp_mails_total", "result") == counts, seconds=60, what="the counts")
