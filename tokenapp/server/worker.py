"""gunicorn's threaded worker, which lets idle, slow and silent clients take less from others.

Left to itself it gives a thread to each new connection before anything is sent on it (browsers open some that they do
not need), waits without end for the rest of a request, hears nobody while a client that was answered does not hang up,
and when it is told to stop keeps the door open, lets in nobody, and hangs up on all who stand there.

It is no shelter from those who mean it: a request that comes letter by letter keeps its thread. A proxy is.
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

_PATIENCE: Final = 10.0  # seconds for the next part of a request, and for the whole of an answer to be taken
_GIVING_WAY: Final = 0.0005
_CROWDS: Final = 64
_MOST_COUNTED: Final = 65535
# How many connections each worker has, and one more; 0 where there is no worker. Made before the fork, for all of them.
_crowds: Final = memoryview(mmap.mmap(-1, 2 * _CROWDS)).cast("H")
_NOBODY_THERE: Final = {errno.EAGAIN, errno.ECONNABORTED}  # another worker was quicker, or the client changed its mind


class _Connection(TConn):  # type: ignore[misc]  # gunicorn has no types
    """One client's connection."""

    closed = False

    def init(self) -> None:
        """Be ready for the next request."""
        super().init()
        self.sock.settimeout(_PATIENCE)

    def close(self, graceful: bool = False) -> None:  # noqa: FBT001, FBT002 -- gunicorn's signature
        """Close it; gracefully is: once the client has hung up too, or after two seconds."""
        if not self.closed:
            self.closed = True
            super().close(graceful)


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """A process that serves with several threads."""

    def accept(self, listener: socket.socket) -> None:
        """Let somebody in, who gets a thread once there is something to read.

        All workers are called to the door at once. The one that has most to do is awake, and would be there first each
        time, and have them all: it gives way where another has less.
        """
        if self._count() > min(filter(None, _crowds)) + 1:
            sleep(_GIVING_WAY)
        try:
            client, address = listener.accept()
        except OSError as fault:
            if fault.errno not in _NOBODY_THERE:
                raise
            return
        connection = _Connection(self.cfg, client, address, listener.getsockname())
        patience = max(self.cfg.keepalive, _PATIENCE) if self.alive else STOP_KEEPALIVE_LINGER
        connection.timeout = monotonic() + patience
        self.nr_conns += 1
        self.pending_conns.append(connection)
        self.poller.register(client, selectors.EVENT_READ, partial(self.on_pending_socket_readable, connection))

    def init_process(self) -> None:
        """Serve, and be counted among the workers."""
        self._count()
        super().init_process()

    def leave(self) -> None:
        """Be counted no more; for the master, when the process has ended."""
        _crowds[self.age % _CROWDS] = 0

    def _count(self) -> int:
        """Tell the others how many connections this worker has, and one more."""
        crowd = min(int(self.nr_conns) + 1, _MOST_COUNTED)
        _crowds[self.age % _CROWDS] = crowd
        return crowd

    def handle(self, connection: _Connection) -> Any:
        """Answer a request; if it was the last one, take leave here, where the other threads need not wait for it."""
        kept = super().handle(connection)
        if not kept:
            connection.close(graceful=True)
        return kept

    def set_accept_enabled(self, enabled: bool) -> None:  # noqa: FBT001 -- gunicorn's signature
        """Take new connections, or no more; at the end, those that wait already are the last, and have to be quick."""
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
