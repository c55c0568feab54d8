"""Where metrics are kept and served: a folder that the workers share, and a listener in gunicorn's master.

The files of workers that have ended are added up, so that no count is lost or goes back and no files pile up.
"""

import atexit
import errno
import fcntl
import logging
import os
import shutil
import socket
import socketserver
import tempfile
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Final, cast

_PREFIX: Final = "tokenapp-metrics-"
_SETTLED: Final = 60
_OF_THE_DEAD: Final = 0  # a number that no process has
_RETRY: Final = 0.5
log = logging.getLogger(__name__)
_here: dict[str, Any] = {"folder": None, "listener": None, "master": 0}
_files = threading.Lock()


class Listener(socketserver.ThreadingTCPServer):
    """Serves what all workers have counted, together."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, bind: tuple[str, int]) -> None:
        self.address_family = socket.AF_INET6 if ":" in bind[0] else socket.AF_INET
        super().__init__(bind, _Scrape)

    def handle_error(self, _request: Any, _client_address: Any) -> None:
        """Note it in one line; a scraper that went away is no fault."""
        log.warning("metrics were not served", exc_info=True)  # noqa: LOG014 -- the server calls this from its handler


class _Scrape(BaseHTTPRequestHandler):
    timeout = 5

    def do_GET(self) -> None:
        """Answer with the metrics, in the format that the caller prefers."""
        from prometheus_client.exposition import choose_encoder  # noqa: PLC0415 -- only once it is set up

        if self.path.partition("?")[0] not in {"/", "/metrics"}:
            self.send_error(404)
            return
        encode, kind = choose_encoder(self.headers.get("Accept", ""))
        body = encode(cast("Any", _AllWorkers()))
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def version_string(self) -> str:
        """Tell nobody what runs here."""
        return "tokenapp"

    def log_message(self, *_words: Any) -> None:
        """Say nothing of scrapes."""


def prepared() -> bool:
    """Whether there is a folder to count into."""
    return _here["folder"] is not None


def prepare() -> None:
    """Make the folder that the workers share, anew at each start and gone at the end; before anything is counted."""
    if prepared():  # gunicorn reads its configuration again when it is told to reload
        return
    parent = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else Path(tempfile.gettempdir())  # noqa: S108 -- memory
    _sweep(parent)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    _lock(folder)
    _here.update(folder=folder, master=os.getpid())
    atexit.register(_remove, folder, os.getpid())
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)


def serve(bind: tuple[str, int], owner: tuple[int, int]) -> None:
    """Start the listener in this process, which is the master; let the workers, who run as `owner`, write their files.

    A master that takes over from another one gets the address when that one ends.

    Raises:
        OSError: the address cannot be had.
    """
    if os.geteuid() == 0:
        os.chown(_here["folder"], *owner)
    try:
        _listen(bind)
    except OSError as fault:
        if fault.errno != errno.EADDRINUSE or "GUNICORN_PID" not in os.environ:
            raise
        threading.Thread(target=_listen_later, args=(bind,), name="metrics-later", daemon=True).start()


def leave() -> None:
    """Close a worker's copy of the master's listening socket."""
    listener: Listener | None = _here["listener"]
    if listener is not None:
        listener.socket.close()


def bury(pid: int) -> None:
    """Add the counts of a worker that has ended to those of all that ended before; forget its gauges."""
    try:
        with _files:
            for file in _here["folder"].glob(f"*_{pid}.db"):
                if _has_counts(file) and not file.name.startswith("gauge_"):
                    _add_to_the_dead(file)
                file.unlink()
    except Exception:  # gunicorn's master must not fall with its workers
        log.exception("the counts of a worker were not added up")


def _add_to_the_dead(file: Path) -> None:
    from prometheus_client import mmap_dict  # noqa: PLC0415 -- only once it is set up

    counts: Any = mmap_dict.MmapedDict
    total = counts(str(file.with_name(f"{file.name.split('_')[0]}_{_OF_THE_DEAD}.db")))
    for key, value, *_ in counts.read_all_values_from_file(str(file)):
        total.write_value(key, total.read_value(key)[0] + value, 0.0)
    total.close()


def _has_counts(file: Path) -> bool:
    """Whether there is something in `file`: for a moment, a worker has made it and written nothing."""
    return file.stat().st_size > 0


class _AllWorkers:
    """What the files say at this moment, none of them half buried; to prometheus_client, a collector."""

    def collect(self) -> Iterable[Any]:
        """Add up the workers' counts."""
        from prometheus_client import multiprocess  # noqa: PLC0415 -- only once it is set up

        merge: Any = multiprocess.MultiProcessCollector.merge
        with _files:
            return list(merge([str(file) for file in _here["folder"].glob("*.db") if _has_counts(file)]))


def _listen(bind: tuple[str, int]) -> None:
    listener = _here["listener"] = Listener(bind)
    threading.Thread(target=listener.serve_forever, name="metrics", daemon=True).start()


def _listen_later(bind: tuple[str, int]) -> None:
    while True:
        time.sleep(_RETRY)
        try:
            return _listen(bind)
        except OSError as fault:
            if fault.errno != errno.EADDRINUSE:
                log.exception("metrics cannot be served")
                return None


def _lock(folder: Path) -> bool:
    """Hold `folder` for as long as this process or a child of it lives; tell whether nobody else does."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return False
    return True


def _sweep(parent: Path) -> None:
    """Remove the folders of servers that were killed before they could."""
    for folder in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            old = folder.stat().st_uid == os.geteuid() and time.time() - folder.stat().st_mtime > _SETTLED
            if old and _lock(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _remove(folder: Path, master: int) -> None:
    if os.getpid() == master:
        shutil.rmtree(folder, ignore_errors=True)
