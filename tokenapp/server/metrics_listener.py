"""Share metrics between workers in a folder; serve them from gunicorn's master.

The files of workers that have exited are merged. So counters never decrease, and the number of files stays bounded.
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
_MIN_AGE: Final = 60  # seconds; a younger folder may belong to a server that is starting
_DEAD_PID: Final = 0  # no process has this id
_RETRY: Final = 0.5  # seconds
log = logging.getLogger(__name__)
_state: dict[str, Any] = {"folder": None, "listener": None, "master": 0}
_files = threading.Lock()


class Listener(socketserver.ThreadingTCPServer):
    """An HTTP server for the merged metrics of all workers."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, bind: tuple[str, int]) -> None:
        self.address_family = socket.AF_INET6 if ":" in bind[0] else socket.AF_INET
        super().__init__(bind, _Scrape)

    def handle_error(self, _request: Any, _client_address: Any) -> None:
        """Log a failed scrape in one line; the client may close its connection."""
        log.warning("cannot serve metrics", exc_info=True)  # noqa: LOG014 -- the server calls this from its handler


class _Scrape(BaseHTTPRequestHandler):
    timeout = 5

    def do_GET(self) -> None:
        """Respond with the metrics, in the format that the client prefers."""
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
        """Return a server name without versions."""
        return "tokenapp"

    def log_message(self, *_args: Any) -> None:
        """Do not log scrapes."""


def prepared() -> bool:
    """Return whether the metrics folder exists."""
    return _state["folder"] is not None


def prepare() -> None:
    """Create the metrics folder of this server, and remove it at exit.

    Call it before prometheus_client is imported, because that reads the folder's path at import.
    """
    if prepared():  # gunicorn reads its configuration again on a reload
        return
    parent = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else Path(tempfile.gettempdir())  # noqa: S108 -- memory
    _sweep(parent)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    _lock(folder)
    _state.update(folder=folder, master=os.getpid())
    atexit.register(_remove, folder, os.getpid())
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)


def serve(bind: tuple[str, int], owner: tuple[int, int]) -> None:
    """Start the listener in this process, which is gunicorn's master.

    `owner` is the user and group of the workers. They get the metrics folder, so that they can write in it.
    A master that replaces another one (USR2) retries until the old master has released the address.

    Raises:
        OSError: the address is not available.
    """
    if os.geteuid() == 0:
        os.chown(_state["folder"], *owner)
    try:
        _listen(bind)
    except OSError as error:
        if error.errno != errno.EADDRINUSE or "GUNICORN_PID" not in os.environ:
            raise
        threading.Thread(target=_listen_later, args=(bind,), name="metrics-later", daemon=True).start()


def close_in_worker() -> None:
    """Close a worker's copy of the master's listening socket."""
    listener: Listener | None = _state["listener"]
    if listener is not None:
        listener.socket.close()


def merge_dead_worker(pid: int) -> None:
    """Add the counters of an exited worker to the totals; delete its files."""
    try:
        with _files:
            for file in _state["folder"].glob(f"*_{pid}.db"):
                if _has_counts(file) and not file.name.startswith("gauge_"):
                    _merge_into_totals(file)
                file.unlink()
    except Exception:  # an error here must not stop gunicorn's master
        log.exception("cannot merge the metrics of an exited worker")


def _merge_into_totals(file: Path) -> None:
    from prometheus_client import mmap_dict  # noqa: PLC0415 -- only once it is set up

    counts: Any = mmap_dict.MmapedDict
    total = counts(str(file.with_name(f"{file.name.split('_')[0]}_{_DEAD_PID}.db")))
    for key, value, *_ in counts.read_all_values_from_file(str(file)):
        total.write_value(key, total.read_value(key)[0] + value, 0.0)
    total.close()


def _has_counts(file: Path) -> bool:
    """Return whether `file` has data: it is empty just after its creation."""
    return file.stat().st_size > 0


class _AllWorkers:
    """A prometheus_client collector of all files, read while no merge is in progress."""

    def collect(self) -> Iterable[Any]:
        """Return the merged metrics of all workers."""
        from prometheus_client import multiprocess  # noqa: PLC0415 -- only once it is set up

        merge: Any = multiprocess.MultiProcessCollector.merge
        with _files:
            return list(merge([str(file) for file in _state["folder"].glob("*.db") if _has_counts(file)]))


def _listen(bind: tuple[str, int]) -> None:
    listener = _state["listener"] = Listener(bind)
    threading.Thread(target=listener.serve_forever, name="metrics", daemon=True).start()


def _listen_later(bind: tuple[str, int]) -> None:
    while True:
        time.sleep(_RETRY)
        try:
            return _listen(bind)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                log.exception("cannot listen for metrics")
                return None


def _lock(folder: Path) -> bool:
    """Try to lock `folder`; return whether that succeeded.

    The lock is held until this process and its children have exited.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return False
    return True


def _sweep(parent: Path) -> None:
    """Remove the folders of servers that were killed."""
    for folder in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            old = folder.stat().st_uid == os.geteuid() and time.time() - folder.stat().st_mtime > _MIN_AGE
            if old and _lock(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _remove(folder: Path, master: int) -> None:
    if os.getpid() == master:
        shutil.rmtree(folder, ignore_errors=True)
