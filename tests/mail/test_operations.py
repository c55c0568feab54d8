"""What operators see of mail: the doctor's findings and the metric."""

import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
import time_machine
from flask import Flask

from tests.conftest import Databases
from tests.mail.conftest import LIMITS
from tests.support.app import PRODUCTION, application
from tests.support.client import Client
from tests.support.commandline import run, run_json
from tests.support.concurrency import wait_until
from tests.support.mailbox import Mailbox, deliver
from tests.support.measured import MeasuredServer
from tests.support.server import free_port
from tests.support.tls import certify
from tokenapp import db
from tokenapp.models import Mail, OneTimeToken


def findings(app: Flask) -> str:
    """Return what the doctor prints, whatever its exit code."""
    return str(app.test_cli_runner().invoke(args=["doctor"]).output)


def test_doctor_reports_a_mail_server_that_is_away(databases: Databases) -> None:
    with application(databases("sqlite"), TOKENAPP_SMTP_URL=f"smtp://127.0.0.1:{free_port()}") as app:
        assert "error: TOKENAPP_SMTP_URL: the mail server cannot be used (ConnectionRefusedError: " in findings(app)


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


def test_doctor_reports_mails_that_nobody_sends(app: Flask) -> None:
    Client(app).send("POST", "/api/register", payload={"email": "alice@example.com"})
    assert "although they are due" not in findings(app)
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=11)):
        assert "warning: mail: mails that wait although they are due: 1" in findings(app)


def test_doctor_reports_that_the_daily_limit_is_reached(databases: Databases, mailbox: Mailbox) -> None:
    settings = {"TOKENAPP_SMTP_URL": mailbox.url, "TOKENAPP_MAIL_DAILY_LIMIT": "2"}
    with application(databases("sqlite"), **settings) as app:
        for name in ("alice", "bob"):
            assert "TOKENAPP_MAIL_DAILY_LIMIT" not in findings(app)
            Client(app).send("POST", "/api/register", payload={"email": f"{name}@example.com"})
        assert "warning: TOKENAPP_MAIL_DAILY_LIMIT: 2 mails were requested within a day" in findings(app)


def test_mail_and_links_are_deleted_after_mail_is_switched_off(databases: Databases, mailbox: Mailbox) -> None:
    url = databases("sqlite")
    with application(url, **PRODUCTION, TOKENAPP_SMTP_URL=mailbox.url, TOKENAPP_REGISTRATION="open") as app:
        Client(app).send("POST", "/api/register", payload={"email": "alice@example.com"})
    with application(url, **PRODUCTION) as app, time_machine.travel(datetime.now(UTC) + timedelta(days=9)):
        run(app, "events", "prune", "--yes")
        with app.app_context():
            assert [db.execute_now(sa.select(table)) for table in (Mail.id, OneTimeToken.email)] == [[], []]


@pytest.mark.parametrize("url", ["smtps://127.0.0.1:{}", "smtp+starttls://127.0.0.1:{}", "smtp://a:b@127.0.0.1:{}"])
def test_mail_waits_for_a_server_that_can_encrypt_and_sign_in(databases: Databases, mailbox: Mailbox, url: str) -> None:
    with application(databases("sqlite"), TOKENAPP_SMTP_URL=url.format(mailbox.port)) as app:
        Client(app).send("POST", "/api/register", payload={"email": "alice@example.com"})
        assert deliver(app) == 1
        assert [mail["state"] for mail in run_json(app, "mail", "list", "--json")] == ["queued"]
    assert mailbox.attempts == 0


def test_mail_waits_for_a_certificate_that_is_valid(databases: Databases, tmp_path: Path) -> None:
    certify(tmp_path, "localhost")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "fullchain.pem", tmp_path / "privkey.pem")
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        url = f"smtps://localhost:{listener.getsockname()[1]}"
        with application(databases("sqlite"), TOKENAPP_SMTP_URL=url) as app:
            Client(app).send("POST", "/api/register", payload={"email": "alice@example.com"})
            rejected = pool.submit(_accept, listener, context)
            assert deliver(app) == 1
            assert rejected.result(60), "the client accepted the certificate"
            (mail,) = run_json(app, "mail", "list", "--json")
    assert (mail["state"], mail["result"]) == ("queued", "SSLCertVerificationError")


def test_metric_counts_attempts(databases: Databases, mailbox: Mailbox, tmp_path: Path) -> None:
    settings = {"TOKENAPP_SMTP_URL": mailbox.url, **LIMITS}
    with MeasuredServer(databases("sqlite"), tmp_path / "log", **settings) as server:
        for name in ("alice", "bob"):
            server.client.send("POST", "/api/register", payload={"email": f"{name}@example.com"})
        counts = {"sent": 2.0}
        wait_until(lambda: server.counts("tokenapp_mails_total", "result") == counts, seconds=60, what="the counts")


def _accept(listener: socket.socket, context: ssl.SSLContext) -> bool:
    """Offer TLS to one client, and return whether it rejects the certificate."""
    connection, _ = listener.accept()
    with connection:
        try:
            context.wrap_socket(connection, server_side=True).close()
        except OSError:
            return True
    return False
