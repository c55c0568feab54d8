"""Mail is sent with one Message-ID after its process was killed at any point."""

import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import cycle, product
from typing import NamedTuple
from uuid import uuid4

import pytest
import sqlalchemy as sa
from flask import Flask

from tests.conftest import Databases
from tests.mail.conftest import LIMITS
from tests.support.app import application
from tests.support.client import Client
from tests.support.forked import POINTS, Processes, Task
from tests.support.mailbox import Behaviour, Mailbox, deliver
from tests.support.staged_smtp import STAGES, StagedSmtp
from tokenapp import db
from tokenapp.models import Mail

BEFORE_COMMIT, *OWN_POINTS = POINTS
STORED = "after the result is stored"
RECEIVED = {"body", "250", "QUIT", "before the result is stored", STORED}
BEHAVIOURS: list[Behaviour] = ["drop after data", "4xx", "5xx", "away"]
SENDER_POINTS = [*OWN_POINTS, *STAGES]
# A long campaign, as `make soak` runs it, tries every behaviour at every point.
CAMPAIGN = (
    list(product(SENDER_POINTS, [*BEHAVIOURS, "hang"]))
    if "MAIL_KILLS" in os.environ
    else list(zip(SENDER_POINTS, cycle(BEHAVIOURS), strict=False))
)
MINUTE = timedelta(minutes=1)


class Service(NamedTuple):
    """The application in this process, and processes that only send."""

    app: Flask
    processes: Processes
    server: StagedSmtp

    def ask(self, email: str) -> None:
        assert Client(self.app).send("POST", "/api/register", payload={"email": email}).status == 202

    def kill_sender(self, point: str) -> None:
        """Start a process that sends the mail that waits, and kill it at a point."""
        if point in POINTS:
            self.processes.start(Task(killed_at=point))
            assert self.processes.results() == [-signal.SIGKILL]
            return
        with self.server.stopping_at(point) as reached:
            (pid,) = self.processes.start(Task())
            assert reached.wait(60), f"the process did not come to {point}"
            os.kill(pid, signal.SIGKILL)
            assert self.processes.results() == [-signal.SIGKILL]

    def state_of_newest(self) -> tuple[str, str]:
        """Return the state and the Message-ID of the newest mail."""
        newest = sa.select(Mail.state, Mail.message_id).order_by(Mail.id.desc()).limit(1)
        with self.app.app_context():
            (row,) = db.execute_now(newest)
        return str(row.state), str(row.message_id)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def service(request: pytest.FixtureRequest, databases: Databases, mail_server: Mailbox) -> Iterator[Service]:
    url = databases(request.param)
    with (
        application(url, TOKENAPP_SMTP_URL=mail_server.url, **LIMITS) as app,
        StagedSmtp() as server,
        Processes(url, TOKENAPP_SMTP_URL=server.url, **LIMITS) as processes,
    ):
        yield Service(app, processes, server)


@pytest.mark.parametrize(("point", "behaviour"), CAMPAIGN)
def test_mail_is_sent_after_a_kill_and_an_error_of_the_server(
    service: Service, mailbox: Mailbox, point: str, behaviour: Behaviour
) -> None:
    email = f"{uuid4().hex}@example.com"
    service.ask(email)
    service.kill_sender(point)
    mailbox.behaviour = behaviour
    now = datetime.now(UTC)
    deliver(service.app, now + 2 * MINUTE)
    mailbox.behaviour = "accept"
    deliver(service.app, now + 4 * MINUTE)
    before = [each["Message-ID"] for each in service.server.messages if each["To"] == email]
    after = [each["Message-ID"] for each in mailbox.messages]
    state, message_id = service.state_of_newest()
    gives_up = behaviour == "5xx" and point != STORED
    assert state == ("failed" if gives_up else "sent")
    assert bool(before) == (point in RECEIVED)
    assert bool(after) == (point != STORED and not gives_up)
    assert {*before, *after} <= {message_id}


def test_request_that_is_killed_before_its_commit_leaves_nothing(service: Service, mailbox: Mailbox) -> None:
    email = f"{uuid4().hex}@example.com"
    service.processes.start(Task("/api/register", {"email": email}, BEFORE_COMMIT))
    assert service.processes.results() == [-signal.SIGKILL]
    assert deliver(service.app) == 0
    service.ask(email)
    deliver(service.app)
    assert mailbox.recipients() == [email]
