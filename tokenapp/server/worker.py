"""gunicorn's threaded worker, with fewer threads occupied by idle clients.

gunicorn's own gthread worker

- assigns a thread to each new connection before any data arrives; browsers open connections that they never use;
- waits without a time limit for the rest of a request;
- serves no other client while it waits for a client to close its side of a finished connection;
- exits when the process has no file descriptor left for a new connection;
- keeps its listening sockets open while it stops, accepts nothing, and resets the waiting connections at the end;
- shares new connections badly: of 32 that arrive at once, one of two workers gets up to 32. With 1,000 requests and 10
  sign-ins per second the p99 of the requests is 15 ms, and 9 ms if the workers share them evenly. `reuse_port` shares
  them by chance, and does not accept the sockets of systemd.

A request that arrives byte by byte occupies its thread for ten seconds. Use a buffering reverse proxy against clients
that do so on purpose (Slowloris).
"""

import errno
import mmap
import selectors
import socket
from collections import deque
from contextlib import suppress
from functools import partial
from select import select
from time import monotonic, sleep
from typing import Any, Final

from gunicorn.workers.gthread import STOP_KEEPALIVE_LINGER, TConn, ThreadWorker  # type: ignore[import-untyped]  # no types

_SOCKET_TIMEOUT: Final = 10.0  # seconds to receive a whole request, and to send a whole response
# Each change of a socket's timeout releases the interpreter lock: two for each request would take 3 % of a rotation.
_TOLERANCE: Final = 0.5
_LINGER: Final = 2.0  # seconds in which a client may close its side of a finished connection
_MAX_DRAINED: Final = 65536
_ACCEPT_DELAY: Final = 0.0005
_PAUSE: Final = 0.05  # seconds without accepting if there is no file descriptor left
_SLOTS: Final = 64
_MAX_COUNT: Final = 65535
# Each worker's number of connections plus one, or 0 if the slot has no worker. Mapped before the fork, so it is shared.
_connection_counts: Final = memoryview(mmap.mmap(-1, 2 * _SLOTS)).cast("H")
_NO_CONNECTION: Final = {errno.EAGAIN, errno.ECONNABORTED}  # another worker accepted it, or the client closed it
_NO_DESCRIPTOR: Final = {errno.EMFILE, errno.ENFILE}
_NEEDED: Final = {
    ThreadWorker: ("finish_request", "handle", "murder_pending", "on_pending_socket_readable", "set_accept_enabled"),
    TConn: ("close", "init"),
}
for _class, _names in _NEEDED.items():
    if missing := [name for name in _names if not hasattr(_class, name)]:
        message = f"this version of gunicorn is not supported: {_class.__name__} has no {', '.join(missing)}"
        raise ImportError(message)


class _Connection(TConn):  # type: ignore[misc]  # gunicorn has no types
    """A client's connection."""

    drained = 0
    _deadline = 0.0
    _receive: Any = None

    def init(self) -> None:
        """Prepare for the next request, all of which must arrive before a deadline."""
        super().init()
        self.sock.settimeout(_SOCKET_TIMEOUT)
        self._deadline = monotonic() + _SOCKET_TIMEOUT
        unreader = getattr(self.parser, "unreader", None)
        if unreader is not None and self._receive is None:
            self._receive = unreader.chunk
            unreader.chunk = self._receive_in_time

    def _receive_in_time(self, *args: Any, **kwargs: Any) -> Any:
        left = self._deadline - monotonic()
        if left <= 0:
            raise TimeoutError("the request took too long to arrive")
        if left > _SOCKET_TIMEOUT - _TOLERANCE:  # it has just begun, and the socket has this timeout already
            return self._receive(*args, **kwargs)
        self.sock.settimeout(left)
        try:
            return self._receive(*args, **kwargs)
        finally:
            self.sock.settimeout(_SOCKET_TIMEOUT)


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """A worker process with several threads."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lingering: deque[_Connection] = deque()

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
            if error.errno in _NO_DESCRIPTOR:
                self.log.warning("no file descriptor is left for a new connection")
                self.set_accept_enabled(enabled=False)  # the main loop enables it again
                sleep(_PAUSE)
            elif error.errno not in _NO_CONNECTION:
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

    def finish_request(self, connection: _Connection, future: Any) -> None:
        """Keep the connection of a finished request, or close it after the client.

        The wait for the client is in the poller, so it occupies no thread.
        """
        if not future.cancelled() and future.exception() is None and future.result():
            super().finish_request(connection, future)
            return
        try:
            connection.sock.shutdown(socket.SHUT_WR)
            connection.sock.setblocking(False)  # noqa: FBT003 -- the socket module
            connection.timeout = monotonic() + _LINGER
            self.poller.register(connection.sock, selectors.EVENT_READ, partial(self._drain, connection))
            self._lingering.append(connection)
        except (OSError, ValueError, KeyError):
            self.nr_conns -= 1
            connection.close()

    def murder_pending(self) -> None:
        """Close connections whose time is over."""
        super().murder_pending()
        while self._lingering and self._lingering[0].timeout <= monotonic():
            self._close_lingering(self._lingering[0])

    def _drain(self, connection: _Connection, client: socket.socket) -> None:
        """Discard what a client still sends.

        If it were not read, the kernel would reset the connection, and the response could be lost.
        """
        try:
            received = len(client.recv(_MAX_DRAINED))
        except BlockingIOError:
            return
        except OSError:
            received = 0
        connection.drained += received
        if not received or connection.drained >= _MAX_DRAINED:
            self._close_lingering(connection)

    def _close_lingering(self, connection: _Connection) -> None:
        self._lingering.remove(connection)
        with suppress(OSError, KeyError, ValueError):
            self.poller.unregister(connection.sock)
        self.nr_conns -= 1
        connection.close()

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
