"""Prometheus metrics of all workers, served by gunicorn's master.

This is prometheus_client's recipe for gunicorn, except for workers that have exited. The recipe (`mark_process_dead`)
removes their gauges and keeps a file of counts for each worker that ever ran. Here their counts are added up in one
file of each kind, and a scrape never sees a worker that is only half added.
"""

import atexit
import errno
import fcntl
import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Final
from wsgiref.simple_server import WSGIServer

_PREFIX: Final = "tokenapp-metrics-"
_LEFTOVER_AGE: Final = 60  # seconds; a server that starts now may not have locked its directory yet
_DEAD_WORKERS: Final = 0  # their process id in the name of a file
_RETRY_INTERVAL: Final = 0.5  # seconds
log = logging.getLogger(__name__)
_listeners: Final[list[WSGIServer]] = []
_files_lock = threading.Lock()


@cache
def prepare() -> Path:
    """Create the directory that the workers share, and return it.

    Call this before prometheus_client is imported. The directory is created once,
    although gunicorn executes its configuration again at each reload.
    """
    parent = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else Path(tempfile.gettempdir())  # noqa: S108 -- in memory
    _remove_leftovers(parent)
    directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    fcntl.flock(os.open(directory, os.O_RDONLY), fcntl.LOCK_EX)  # until this process and all workers have exited
    atexit.register(_remove, directory, os.getpid())
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
    return directory


def serve(bind: tuple[str, int], owner: tuple[int, int]) -> None:
    """Serve the metrics from this process, gunicorn's master.

    The workers, which run as the user `owner`, add their counts. After SIGUSR2 the new master gets the
    address when the old one exits.

    Raises:
        OSError: the address cannot be bound.
    """
    if os.geteuid() == 0:
        os.chown(prepare(), *owner)
    try:
        _listen(bind)
    except OSError as error:
        if error.errno != errno.EADDRINUSE or "GUNICORN_PID" not in os.environ:
            raise
        threading.Thread(target=_listen_later, args=(bind,), daemon=True).start()


def close_in_worker() -> None:
    """Close a worker's copy, so that the address is free when the master exits."""
    for listener in _listeners:
        listener.socket.close()


def merge_dead_worker(pid: int) -> None:
    """Add up the counts of a worker that has exited, and remove its files."""
    try:
        with _files_lock:
            for file in prepare().glob(f"*_{pid}.db"):
                if not file.name.startswith("gauge_") and not _is_empty(file):
                    _add_counts(file, file.with_name(f"{file.name.split('_')[0]}_{_DEAD_WORKERS}.db"))
                file.unlink()
    except Exception:  # an error here would end gunicorn's master
        log.exception("the metrics of a worker that has exited were lost")


class _AllWorkers:
    """The sums over all workers, as a collector of prometheus_client."""

    def collect(self) -> Iterable[Any]:
        """Return the metrics."""
        from prometheus_client.multiprocess import MultiProcessCollector  # noqa: PLC0415 -- after prepare()

        merge: Any = MultiProcessCollector.merge
        with _files_lock:
            return list(merge([str(file) for file in prepare().glob("*.db") if not _is_empty(file)]))


def _add_counts(file: Path, total: Path) -> None:
    from prometheus_client.mmap_dict import MmapedDict  # noqa: PLC0415 -- after prepare()

    counts: Any = MmapedDict
    sums = counts(str(total))
    for key, value, *_ in counts.read_all_values_from_file(str(file)):
        sums.write_value(key, sums.read_value(key)[0] + value, 0.0)
    sums.close()


def _is_empty(file: Path) -> bool:
    """Return whether a worker has created `file` but not yet written to it."""
    return file.stat().st_size == 0


def _listen(bind: tuple[str, int]) -> None:
    from prometheus_client import CollectorRegistry, start_http_server  # noqa: PLC0415 -- after prepare()

    registry = CollectorRegistry()
    registry.register(_AllWorkers())
    listener, _ = start_http_server(bind[1], bind[0], registry)
    listener.handle_error = _log_error  # type: ignore[method-assign,assignment]  # the original prints a traceback
    _listeners.append(listener)


def _listen_later(bind: tuple[str, int]) -> None:
    while True:
        time.sleep(_RETRY_INTERVAL)
        try:
            return _listen(bind)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                log.exception("metrics cannot be served")
                return None


def _log_error(*_: object) -> None:
    log.warning("a scrape failed", exc_info=True)  # noqa: LOG014 -- called while the exception is handled


def _remove_leftovers(parent: Path) -> None:
    """Remove the directories of killed servers, which no process locks."""
    for directory in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if time.time() - directory.stat().st_mtime < _LEFTOVER_AGE:
                continue
            handle = os.open(directory, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(directory, ignore_errors=True)
            finally:
                os.close(handle)


def _remove(directory: Path, master: int) -> None:
    if os.getpid() == master:  # workers run the functions that the master registered, too
        shutil.rmtree(directory, ignore_errors=True)
