"""How connections share the threads of a worker, and the workers of a server."""

import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import Databases, Servers
from tests.support.client import Client
from tests.support.concurrency import wait_until
from tests.support.server import Server

TWO_THREADS: Final = {"WEB_CONCURRENCY": "1", "TOKENAPP_THREADS": "2"}
REQUEST: Final = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
LAST_REQUEST: Final = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.fixture
def server(databases: Databases, serve: Servers) -> Server:
    """Provide a service with one worker of two threads."""
    return serve(databases("sqlite"), **TWO_THREADS)


@contextmanager
def connections(server: Server, number: int, data: bytes = b"") -> Iterator[list[socket.socket]]:
    """Open connections, send `data` on each, and wait for the workers."""
    with ExitStack() as stack:
        opened = []
        for _ in range(number):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=60))
            connection.sendall(data)
            opened.append(connection)
        time.sleep(0.2)
        yield opened


def assert_responds(server: Server, seconds: float = 20) -> None:
    assert Client(server.port, timeout=seconds).send("GET", "/healthz").status == 200


def assert_served(connection: socket.socket) -> None:
    connection.sendall(REQUEST)
    assert_answered(connection)


def assert_answered(connection: socket.socket) -> None:
    """Read the response whole: its body may arrive after its head."""
    response = b""
    while not response.endswith(b'{"status":"ok"}'):
        received = connection.recv(65536)
        assert received
        response += received
    assert response.startswith(b"HTTP/1.1 200 ")


def open_files(pid: int, kind: str) -> int:
    """Return the number of open files of a kind."""
    number = 0
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed in this moment
            number += str(file.readlink()).startswith(kind)
    return number


def test_silent_connections_occupy_no_thread(server: Server) -> None:
    # gunicorn's own worker assigns a thread to each of them for 5 seconds: a request would wait for 50 seconds.
    with connections(server, 20) as opened:
        assert_responds(server)
        for connection in opened:
            assert_served(connection)


def test_client_that_does_not_close_its_connection_delays_no_other(server: Server) -> None:
    # The server waits 2 seconds for the client. gunicorn's own worker serves no other connection during this time.
    (worker,) = server.workers()

    def responds_before_it_closes() -> bool:
        with connections(server, 1) as (other,):
            assert_served(other)
            before = open_files(worker, "socket:")
            with connections(server, 1, LAST_REQUEST) as (connection,):
                assert_answered(connection)
                assert_served(other)
                return open_files(worker, "socket:") > before

    wait_until(responds_before_it_closes, seconds=30, what="a response while a connection is being closed")


def test_stalled_request_loses_its_thread(server: Server) -> None:
    with connections(server, 2, b"POST /api/token HTTP/1.1\r\nHost: loc") as opened:
        assert_responds(server, seconds=60)
        assert [connection.recv(65536) for connection in opened] == [b"", b""]
    wait_until(lambda: server.log.read_text().count("a client was too slow") == 2, what="the lines in the log")
    assert '"level":"error"' not in server.log.read_text()


def test_idle_connections_do_not_delay_a_stop(databases: Databases, serve: Servers) -> None:
    server = serve(databases("sqlite"), **TWO_THREADS, GUNICORN_CMD_ARGS="--graceful-timeout 100")
    with connections(server, 3):
        os.kill(server.master, signal.SIGTERM)
        assert server.wait(50) == 0


def test_connections_without_keep_alive_get_time_to_send(databases: Databases, serve: Servers) -> None:
    server = serve(databases("sqlite"), **TWO_THREADS, GUNICORN_CMD_ARGS="--keep-alive 0")
    with connections(server, 3) as opened:
        for connection in opened:
            assert_served(connection)


def test_workers_share_simultaneous_connections(databases: Databases, serve: Servers) -> None:
    server = serve(databases("sqlite"), WEB_CONCURRENCY="2")
    workers = server.workers()
    wait_until(lambda: all(open_files(pid, "anon_inode:[eventpoll]") for pid in workers), what="both workers")
    # gunicorn's own workers differ by 12 to 32 of 32 connections. On a busy machine a worker may wake up too late.
    differences = []
    for _ in range(8):
        before = [open_files(pid, "socket:") for pid in workers]
        with connections(server, 40):
            first, second = (open_files(pid, "socket:") - number for pid, number in zip(workers, before, strict=True))
        differences.append(abs(first - second))
        time.sleep(0.2)  # until the connections are closed
    assert min(differences) <= 6, differences


def test_many_clients_that_do_not_close_delay_no_other(server: Server) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with connections(server, 30, request) as opened:
        assert_responds(server, seconds=20)  # 30 seconds if each of them occupied a thread for 2
        for connection in opened:
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_request_that_arrives_slowly_loses_its_thread(server: Server) -> None:
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


def test_worker_without_file_descriptors_keeps_running(databases: Databases, serve: Servers) -> None:
    server = serve(databases("sqlite"), WEB_CONCURRENCY="1", TOKENAPP_THREADS="2")
    (worker,) = server.workers()
    resource.prlimit(worker, resource.RLIMIT_NOFILE, (60, 60))
    with connections(server, 100):
        wait_until(lambda: "no file descriptor is left" in server.log.read_text(), what="the limit")
    assert server.client.send("GET", "/healthz").status == 200
    assert server.workers() == [worker]
