"""Follows the service's feed of ended sessions in a thread of its own."""

import base64
import os
import threading
import time
from urllib.parse import quote

from tokenapp_guard.fetching import FetchError, fetch_json


class FeedStale(Exception):  # noqa: N818 -- a state
    """The feed has not been read for longer than allowed."""


class Feed:
    """The sessions that ended lately, at most `interval` seconds behind the service.

    Sessions are forgotten after `keep` seconds, when no token of theirs can be alive.
    """

    def __init__(
        self, issuer: str, client_id: str, client_secret: str, *, interval: float, patience: float, keep: float
    ) -> None:
        credentials = base64.b64encode(f"{client_id}:{client_secret}".encode()).decode()
        self._headers = {"Authorization": f"Basic {credentials}"}
        self._url = f"{issuer}/api/revocations"
        self._interval, self._patience, self._keep = interval, patience, keep
        self._ended: dict[str, float] = {}
        self._cursor: str | None = None
        self._read_at: float | None = None
        self._thread: threading.Thread | None = None
        self._pid = 0
        self._lock = threading.Lock()

    def has_ended(self, sid: str) -> bool:
        """Whether the session `sid` is known to have ended.

        Raises:
            FeedStale: that cannot be told.
        """
        self._ensure_follower()
        if self._read_at is None or time.monotonic() - self._read_at > self._patience:
            raise FeedStale
        return sid in self._ended

    def _ensure_follower(self) -> None:
        """Start the thread in this very process: one that was started before a fork does not run in the child."""
        if self._pid == os.getpid():
            return
        with self._lock:
            if self._pid != os.getpid():
                self._read_all()
                self._thread = threading.Thread(target=self._follow, name="tokenapp-feed", daemon=True)
                self._thread.start()
                self._pid = os.getpid()

    def _follow(self) -> None:
        while True:
            time.sleep(self._interval)
            self._read_all()

    def _read_all(self) -> None:
        """Read the feed to its end; after a failure, go on from the same place the next time."""
        began = time.monotonic()
        try:
            while self._read_page():
                pass
        except (FetchError, KeyError, TypeError):
            return
        self._read_at = began
        self._ended = {sid: until for sid, until in self._ended.items() if until > began}

    def _read_page(self) -> bool:
        query = f"?since={quote(self._cursor)}" if self._cursor else ""
        page = fetch_json(self._url + query, self._headers).document
        until = time.monotonic() + self._keep
        for item in page["items"]:
            self._ended.setdefault(item["sid"], until)
        self._cursor = page["cursor"]
        return bool(page["more"])
