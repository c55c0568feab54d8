"""The thread that sends mail: one per worker process, started after the fork.

It sleeps until a mail is written in this process. Mails of other processes are found within a few seconds.
"""

import logging
import threading
from collections.abc import Callable
from contextvars import Context
from datetime import UTC, datetime
from typing import Any, Final

from tokenapp import config, db

POLL: Final = 4.0  # seconds
log = logging.getLogger(__name__)


class _Sender:
    """One process's thread for one application."""

    def __init__(self) -> None:
        self.due = threading.Event()
        self.thread: threading.Thread | None = None


def start(deliver: Callable[[datetime], bool]) -> None:
    """Start the thread for the current application in this process.

    Args:
        deliver: sends one mail, and returns whether there was one.
    """
    sender, settings, database = db.per_process(_Sender), config.current(), db.current()

    def run() -> None:
        config.context.set(settings)
        db.context.set(database)
        _work(sender, deliver)

    # In a new context: the current one belongs to a request or to the start of the worker.
    sender.thread = threading.Thread(target=Context().run, args=(run,), name="mail", daemon=True)
    sender.thread.start()


def wake(_session: Any = None) -> None:
    """Wake the thread, because a mail was committed."""
    db.per_process(_Sender).due.set()


def _work(sender: _Sender, deliver: Callable[[datetime], bool]) -> None:
    while True:
        try:
            while deliver(datetime.now(UTC)):
                pass
        except Exception as error:
            if not db.is_fault(error):
                log.exception("a mail could not be processed")
        sender.due.wait(POLL)
        sender.due.clear()
