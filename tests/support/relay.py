"""A TCP relay that can hold traffic back, like a broken network."""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self


class Relay:
    """A TCP relay to the loopback port `target`."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._requests, self._responses = threading.Event(), threading.Event()
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

    def hold(self, *, responses_only: bool = False) -> None:
        """Hold all traffic back; connections are still accepted and stay open."""
        self._responses.clear()
        if not responses_only:
            self._requests.clear()

    def release(self) -> None:
        """Forward the traffic that was held back, and all later traffic."""
        self._requests.set()
        self._responses.set()

    @property
    def connections(self) -> int:
        """The number of connections so far, successful or not."""
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
                try:
                    server = socket.create_connection(("127.0.0.1", self._target))
                except OSError:  # also a connection that is reset while the target starts or stops
                    client.close()
                    continue
                self._sockets.append(server)
                self._start(self._pump, client, server, self._requests)
                self._start(self._pump, server, client, self._responses)

    def _pump(self, source: socket.socket, sink: socket.socket, gate: threading.Event) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                gate.wait()
                sink.sendall(data)
        gate.wait()
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
