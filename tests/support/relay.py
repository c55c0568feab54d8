"""A TCP relay that can hold back traffic, as a broken network does."""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self


class Relay:
    """A TCP relay before a server on this machine, which can hold back what is sent as a broken network does."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._requests, self._replies = threading.Event(), threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self.release()
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
        for each in (self._listener, *self._sockets):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        for each in (self._listener, *self._sockets):
            each.close()

    def hold(self, *, replies_only: bool = False) -> None:
        """From now on pass nothing on; connections stay open, and new ones are taken."""
        self._replies.clear()
        if not replies_only:
            self._requests.clear()

    def release(self) -> None:
        """Pass on what was held back, and all that comes."""
        self._requests.set()
        self._replies.set()

    @property
    def connections(self) -> int:
        """How many connections were made through it so far, or tried."""
        return len(self._sockets) // 2

    def _start(self, work: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._sockets.append(client)
                with suppress(ConnectionRefusedError):
                    server = socket.create_connection(("127.0.0.1", self._target))
                    self._sockets.append(server)
                    self._start(self._pump, client, server, self._requests)
                    self._start(self._pump, server, client, self._replies)
                    continue
                client.close()

    def _pump(self, source: socket.socket, sink: socket.socket, gate: threading.Event) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                gate.wait()
                sink.sendall(data)
        gate.wait()
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
