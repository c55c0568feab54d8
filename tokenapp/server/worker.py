"""gunicorn's threaded worker, with fewer threads occupied by idle clients.

gunicorn's own gthread worker

- assigns a thread to each new connection before any data arrives; browsers open connections that they never use;
- waits without a time limit for the rest of a request;
- serves no other client while it waits for a client to close its side of a finished connection;
- keeps its listening sockets open while it stops, accepts nothing, and resets the waiting connections at the end.

This does not protect against Slowloris: a request that arrives byte by byte occupies its thread. Use a buffering
reverse proxy against that.
"""

import errno
import mmap
import selectors
import socket
from functools import partial
from select import select
from time import monotonic, sleep
from typing import Any, Final

from gunicorn.workers.gthread import STOP_KEEPALIVE_LINGER, TConn, ThreadWorker  # type: ignore[import-untyped]  # no types

_SOCKET_TIMEOUT: Final = 10.0  # seconds to receive the next part of a request, and to send a whole response
_ACCEPT_DELAY: Final = 0.0005
_SLOTS: Final = 64
_MAX_COUNT: Final = 65535
# Each worker's number of connections plus one, or 0 if the slot has no worker. Mapped before the fork, so it is shared.
_connection_counts: Final = memoryview(mmap.mmap(-1, 2 * _SLOTS)).cast("H")
_NO_CONNECTION: Final = {errno.EAGAIN, errno.ECONNABORTED}  # another worker accepted it, or the client closed it


class _Connection(TConn):  # type: ignore[misc]  # gunicorn has no types
    """A client's connection."""

    closed = False

    def init(self) -> None:
        """Prepare for the next request."""
        super().init()
        self.sock.settimeout(_SOCKET_TIMEOUT)

    def close(self, graceful: bool = False) -> None:  # noqa: FBT001, FBT002 -- gunicorn's signature
        """Close the connection.

        If `graceful`, wait until the client has closed its side, for at most two seconds.
        """
        if not self.closed:
            self.closed = True
            super().close(graceful)


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """A worker process with several threads."""

    def accept(self, listener: socket.socket) -> None:
        """Accept a connection; assign a thread when its first bytes arrive.

        The kernel wakes all workers for a new connection. The busiest worker is already running, so it would accept
        nearly all of them. So a worker waits a moment if another one has fewer connections.
        """
        if self._publish_count() > min(filter(None, _connection_counts)) + 1:
            sleep(_ACCEPT_DELAY)
        try:
            client, address = listener.accept()
        except OSError as error:
            if error.errno not in _NO_CONNECTION:
                raise
            return
        connection = _Connection(self.cfg, client, address, listener.getsockname())
        timeout = max(self.cfg.keepalive, _SOCKET_TIMEOUT) if self.alive else STOP_KEEPALIVE_LINGER
        connection.timeout = monotonic() + timeout
        self.nr_conns += 1
        self.pending_conns.append(connection)
        self.poller.register(client, selectors.EVENT_READ, partial(self.on_pending_socket_readable, connection))

    def init_process(self) -> None:
        """Publish the number of connections, then run the worker."""
        self._publish_count()
        super().init_process()

    def clear_count(self) -> None:
        """Clear this worker's slot; for the master, after the process has exited."""
        _connection_counts[self.age % _SLOTS] = 0

    def _publish_count(self) -> int:
        """Publish and return this worker's number of connections plus one."""
        count = min(int(self.nr_conns) + 1, _MAX_COUNT)
        _connection_counts[self.age % _SLOTS] = count
        return count

    def handle(self, connection: _Connection) -> Any:
        """Handle a request; after the last one of a connection, close the connection.

        Closing waits for the client. In this thread the wait does not delay the other connections.
        """
        keep_alive = super().handle(connection)
        if not keep_alive:
            connection.close(graceful=True)
        return keep_alive

    def set_accept_enabled(self, enabled: bool) -> None:  # noqa: FBT001 -- gunicorn's signature
        """Start or stop accepting connections.

        When the worker stops, it accepts the connections in the backlog. These and all idle connections get a short
        timeout.
        """
        super().set_accept_enabled(enabled)
        if not self.alive:
            for connection in self.pending_conns:
                connection.timeout = min(connection.timeout, monotonic() + STOP_KEEPALIVE_LINGER)
            for listener in (each for each in self.sockets if each.fileno() >= 0):
                for _ in range(self.cfg.backlog):
                    if not select([listener], [], [], 0)[0]:
                        break
                    self.accept(listener)
                listener.close()
