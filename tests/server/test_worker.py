"""How connections share a worker's threads: one that is idle, slow or does not hang up takes nothing from others."""

import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests.conftest import Databases, Servers
from tests.support.concurrency import wait_until
from tests.support.server import Server

FEW = {"WEB_CONCURRENCY": "1", "TOKENAPP_THREADS": "2"}


@pytest.fixture
def server(databases: Databases, serve: Servers) -> Server:
    """Give a service of one worker with two threads."""
    return serve(databases("sqlite"), **FEW)


@contextmanager
def connections(server: Server, number: int, beginning: bytes = b"") -> Iterator[list[socket.socket]]:
    """Open that many connections, and send the same on each."""
    with ExitStack() as stack:
        opened = []
        for _ in range(number):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=30))
            connection.sendall(beginning)
            opened.append(connection)
        time.sleep(0.2)
        yield opened


def files(pid: int, kind: str) -> int:
    """Return how many files of that kind a process has open."""
    return sum(str(file.readlink()).startswith(kind) for file in Path(f"/proc/{pid}/fd").iterdir())


def seconds_to_answer(server: Server) -> float:
    reply = server.client.send("GET", "/healthz")
    assert reply.status == 200
    return reply.seconds


def test_connections_on_which_nothing_was_sent_yet_keep_nobody_waiting(server: Server) -> None:
    with connections(server, 20) as opened:
        assert seconds_to_answer(server) < 2, "gunicorn's own worker gives each of them a thread for 5 seconds"
        for connection in opened:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_a_client_that_does_not_hang_up_keeps_nobody_waiting(server: Server) -> None:
    with connections(server, 1, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n") as opened:
        assert opened[0].recv(65536).startswith(b"HTTP/1.1 200 ")
        assert seconds_to_answer(server) < 1.5, "gunicorn's own worker hears nobody for 2 seconds"


def test_a_request_that_does_not_go_on_loses_its_thread(server: Server) -> None:
    with connections(server, 2, b"POST /api/token HTTP/1.1\r\nHost: loc") as opened:
        began = time.monotonic()
        assert seconds_to_answer(server) < 20, "both threads wait for the rest"
        assert [connection.recv(65536) for connection in opened] == [b"", b""]
        assert time.monotonic() - began < 20
    lines = server.log.read_text()
    assert lines.count("a client was too slow") == 2
    assert '"level":"error"' not in lines


def test_connections_that_are_idle_do_not_hold_up_a_stop(server: Server) -> None:
    with connections(server, 3):
        began = time.monotonic()
        os.kill(server.master, signal.SIGTERM)
        assert server.wait() == 0
        assert time.monotonic() - began < 10, "there is no need to wait for all of the 20 seconds that are granted"


def test_without_keep_alive_a_new_connection_has_the_time_to_send(databases: Databases, serve: Servers) -> None:
    server = serve(databases("sqlite"), **FEW, GUNICORN_CMD_ARGS="--keep-alive 0")
    with connections(server, 3) as opened:
        for connection in opened:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_workers_share_the_connections_that_come_at_once(databases: Databases, serve: Servers) -> None:
    server = serve(databases("sqlite"), WEB_CONCURRENCY="2")
    wait_until(lambda: all(files(pid, "anon_inode:[eventpoll]") for pid in server.workers()), what="both workers")
    time.sleep(1)
    before = [files(pid, "socket:") for pid in server.workers()]
    with connections(server, 40):
        shares = [files(pid, "socket:") - had for pid, had in zip(server.workers(), before, strict=True)]
    assert sum(shares) == 40
    assert min(shares) >= 3, "of gunicorn's own workers the first one takes them all"


def test_clients_that_never_hang_up_delay_nobody(server: Server) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with connections(server, 30, request) as opened:
        assert seconds_to_answer(server) < 2, "thirty times two seconds, if each of them occupied a thread"
        for connection in opened:
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_request_that_drips_loses_its_thread(server: Server) -> None:
    stop = threading.Event()

    def drip(connection: socket.socket) -> None:
        with suppress(OSError):
            while not stop.wait(0.2):
                connection.sendall(b"X-Header: drip\r\n")

    with connections(server, 4, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n") as opened:
        drips = [threading.Thread(target=drip, args=(connection,)) for connection in opened]
        for each in drips:
            each.start()
        try:
            wait_until(lambda: server.log.read_text().count("a client was too slow") == 4, seconds=60, what="their end")
            assert server.client.send("GET", "/healthz").status == 200
        finally:
            stop.set()
            for each in drips:
                each.join()


def test_worker_without_file_descriptors_goes_on(databases: Databases, serve: Servers) -> None:
    server = serve(databases("sqlite"), WEB_CONCURRENCY="1", TOKENAPP_THREADS="2")
    (worker,) = server.workers()
    resource.prlimit(worker, resource.RLIMIT_NOFILE, (60, 60))
    with connections(server, 100):
        wait_until(lambda: "no file descriptor is left" in server.log.read_text(), what="the limit")
    assert server.client.send("GET", "/healthz").status == 200
    assert server.workers() == [worker]
