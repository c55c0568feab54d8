"""The time that one request may spend waiting for the database."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import monotonic
from typing import Final

REQUEST_BUDGET: Final = 3.0  # seconds
SERVER_TIMEOUT_MS: Final = 2500
LONG_WAIT: Final = 1.0

# The monotonic time at which the current request must stop waiting. None outside of requests.
deadline: Final[ContextVar[float | None]] = ContextVar("deadline", default=None)


class DatabaseUnavailableError(Exception):
    """The database did not answer in time, or a moment ago and is not asked again."""


def start_budget() -> None:
    """Start the time budget of the current request."""
    deadline.set(monotonic() + REQUEST_BUDGET)


def extend_budget(seconds: float) -> None:
    """Give the current request more time."""
    ends_at = deadline.get()
    if ends_at is not None:
        deadline.set(ends_at + seconds)


def end_budget() -> None:
    """Remove the time limit from this thread."""
    deadline.set(None)


def time_left() -> float | None:
    """Return the seconds left to the current request, or None outside of requests."""
    ends_at = deadline.get()
    return None if ends_at is None else ends_at - monotonic()


@contextmanager
def at_most(seconds: float | None) -> Iterator[float]:
    """Shorten the current request's time to `seconds`; yield what is left of it.

    Outside of requests there is no limit to shorten.
    """
    left = time_left()
    if left is None:
        yield math.inf
    elif seconds is None or left <= seconds:
        yield left
    else:
        shortened = deadline.set(monotonic() + seconds)
        try:
            yield seconds
        finally:
            deadline.reset(shortened)
