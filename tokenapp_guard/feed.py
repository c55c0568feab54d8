"""Follow the service's feed of revocations in a thread."""

import base64
import os
import threading
import time
from collections.abc import Callable
from urllib.parse import quote

from tokenapp_guard.cache import FetchNeededError
from tokenapp_guard.fetching import FetchError, fetch_json
from tokenapp_guard.locking import Locking


class Feed(Locking):
    """The ids of sessions, access keys and sets of roles that were recently revoked.

    An id is kept for `keep` seconds: its last token has then expired. While that time cannot be determined, all ids
    are kept.
    """

    def __init__(
        self,
        issuer: str,
        client_id: str,
        client_secret: str,
        *,
        interval: float,
        patience: float,
        keep: Callable[[], float],
    ) -> None:
        super().__init__()
        credentials = base64.b64encode(f"{client_id}:{client_secret}".encode()).decode()
        self._headers = {"Authorization": f"Basic {credentials}"}
        self._url = f"{issuer}/api/revocations"
        self._interval, self._patience, self._keep = interval, patience, keep
        self._seen_at: dict[str, float] = {}
        self._fault: Exception | None = None
        self._cursor: str | None = None
        self._read_at: float | None = None
        self._thread: threading.Thread | None = None
        self._pid = 0

    def is_revoked(self, *ids: str | None, fetch: bool = True) -> bool:
        """Return whether one of `ids` was revoked.

        Raises:
            FetchError: the feed was not read within `patience` seconds.
            FetchNeededError: the first read has not begun, and `fetch` is false.
        """
        if not fetch and not self._is_followed():
            raise FetchNeededError
        self._ensure_thread()
        if self._read_at is None or time.monotonic() - self._read_at > self._patience:
            raise FetchError("Revoked sessions cannot be fetched at the moment.") from self._fault
        return any(each in self._seen_at for each in ids)

    def _ensure_thread(self) -> None:
        """Start the thread in this process, and again if it ended."""
        if self._is_followed():
            return
        with self._lock:
            if not self._is_followed():
                self._read()
                self._thread = threading.Thread(target=self._follow, name="tokenapp-feed", daemon=True)
                self._thread.start()
                self._pid = os.getpid()

    def _is_followed(self) -> bool:
        return self._pid == os.getpid() and self._thread is not None and self._thread.is_alive()

    def _follow(self) -> None:
        while True:
            time.sleep(self._interval)
            self._read()

    def _read(self) -> None:
        """Read the feed to its end.

        After a failure, the next call continues from the same cursor.
        """
        began = time.monotonic()
        try:
            while self._read_page():
                pass
            self._read_at = began
            oldest = began - self._keep()
        except (FetchError, KeyError, TypeError) as fault:
            self._fault = fault
            return
        self._seen_at = {sid: seen for sid, seen in self._seen_at.items() if seen > oldest}

    def _read_page(self) -> bool:
        """Read the next page; return whether there are more."""
        query = f"?since={quote(self._cursor)}" if self._cursor else ""
        page = fetch_json(self._url + query, self._headers).document
        ids, cursor, more = [item["sid"] for item in page["items"]], page["cursor"], page["more"]
        typed = isinstance(cursor, str) and cursor.isascii() and isinstance(more, bool)
        if not typed or not all(isinstance(each, str) for each in ids) or (more and cursor == self._cursor):
            raise TypeError("the feed is malformed")
        now = time.monotonic()
        for each in ids:
            self._seen_at.setdefault(each, now)
        self._cursor = cursor
        return bool(more)
