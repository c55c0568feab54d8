"""Cache a document of the issuer, and limit how often it is fetched."""

import math
from collections.abc import Callable
from time import monotonic
from typing import Any, Final, Generic, TypeVar

from tokenapp_guard.fetching import FetchError, check_url, fetch_json
from tokenapp_guard.locking import Locking

MAX_AGE: Final = 300
FETCH_INTERVAL: Final = 10.0
RETRY_INTERVAL: Final = 1.0
MAX_STALE: Final = 86400.0  # seconds for which a document is used while the issuer is unavailable
T = TypeVar("T")


class FetchNeededError(Exception):
    """A document must be fetched, and the caller must not wait."""


class Cached(Locking, Generic[T]):
    """What `parse` makes of the JSON object at `url`; `what` names it in errors.

    Args:
        parse: may raise KeyError or TypeError for a document that cannot be used.
    """

    def __init__(self, url: str, what: str, parse: Callable[[Any], T]) -> None:
        super().__init__()
        check_url(url)
        self._url, self._what, self._parse = url, what, parse
        self._value: T | None = None
        self._fresh_until = self._next_fetch = self._fetched_at = -math.inf
        self._fault: Exception | None = None

    def get(self, suffices: Callable[[T], bool], *, fetch: bool = True) -> T | None:
        """Return the value, which is fetched if it is stale or does not suffice.

        Raises:
            FetchError: there is no value that suffices, and the issuer is unavailable.
            FetchNeededError: the value is stale or does not suffice, and `fetch` is false.
        """
        due = self._is_due(suffices)
        if due and not fetch:
            raise FetchNeededError
        # A request for which the value suffices does not wait for another request's fetch; others do.
        if due and self._lock.acquire(blocking=not self._has(suffices)):
            try:
                if self._is_due(suffices):
                    self._fetch()
            finally:
                self._lock.release()
        usable = monotonic() - self._fetched_at < MAX_STALE
        if self._fault is not None and not (usable and self._has(suffices)):
            message = f"{self._what} cannot be fetched at the moment."
            raise FetchError(message) from self._fault
        return self._value if usable else None

    def _has(self, suffices: Callable[[T], bool]) -> bool:
        return self._value is not None and suffices(self._value)

    def _is_due(self, suffices: Callable[[T], bool]) -> bool:
        now = monotonic()
        return now >= self._next_fetch and (now >= self._fresh_until or not self._has(suffices))

    def _fetch(self) -> None:
        """Fetch the document; after a failure, keep the last one for up to a day."""
        began = monotonic()
        try:
            response = fetch_json(self._url)
            self._value = self._parse(response.document)
        except (FetchError, KeyError, TypeError) as fault:
            self._fault, self._next_fetch = fault, monotonic() + RETRY_INTERVAL
            return
        self._fetched_at = began
        self._fresh_until = began + min(MAX_AGE, MAX_AGE if response.max_age is None else response.max_age)
        self._fault, self._next_fetch = None, monotonic() + FETCH_INTERVAL
