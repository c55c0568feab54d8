"""Wait for conditions, and run calls at the same time."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

_Result = TypeVar("_Result")


def wait_until(condition: Callable[[], bool], *, seconds: float = 60, what: str = "the condition") -> None:
    """Wait until `condition` holds; fail if it does not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"timed out after {seconds} s waiting for {what}"
        time.sleep(0.02)


def at_once(*calls: Callable[[], _Result]) -> list[_Result]:
    """Make all calls at the same time, each in its own thread; return the results.

    The results are in the order of the calls.
    """
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], _Result]) -> _Result:
        barrier.wait(60)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


@contextmanager
def repeating(*calls: Callable[[], object]) -> Iterator[None]:
    """Repeat each call in its own thread until the block ends; raise their errors."""
    over = threading.Event()

    def run(call: Callable[[], object]) -> None:
        while not over.is_set():
            call()

    with ThreadPoolExecutor(len(calls)) as pool:
        threads = [pool.submit(run, call) for call in calls]
        try:
            yield
        finally:
            over.set()
            for thread in threads:  # its error may be why the block failed
                thread.result()
