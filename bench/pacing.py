"""Requests at a steady pace, whatever the answers take: how long each took from the moment it was due."""

import select
import socket
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from bench.load import JSON, Request


@dataclass
class Lane:
    """One kind of request, so many a second, over a few connections that are kept."""

    requests: Sequence[Request]
    per_second: int
    connections: int
    late: list[float] = field(default_factory=list)
    refused: int = 0


@dataclass
class _Line:
    """A connection, and when the request that it waits for was due."""

    lane: Lane
    socket: socket.socket
    due: float = 0.0
    answer: bytes = b""


def pace(lanes: Sequence[Lane], port: int, seconds: float) -> None:
    """Send all lanes' requests at their pace; note in each how many seconds every answer came after it was due.

    A request that finds all connections of its lane busy waits, and its time counts from when it was due: a server
    that stalls cannot hide it by being asked less. All connections are opened at the start, and most of them wait then.
    """
    free: dict[int, deque[_Line]] = {}
    lines: dict[int, _Line] = {}
    for number, lane in enumerate(lanes):
        free[number] = deque(_Line(lane, _connect(port)) for _ in range(lane.connections))
        lines |= {line.socket.fileno(): line for line in free[number]}
    busy: set[int] = set()
    start = time.perf_counter() + 0.1
    schedules = [_schedule(lane, start, seconds) for lane in lanes]
    upcoming = [next(schedule, None) for schedule in schedules]
    while busy or any(upcoming):
        now = time.perf_counter()
        waits = [10.0]
        for number, coming in enumerate(upcoming):
            if coming and coming[0] <= now and free[number]:
                line = free[number].popleft()
                line.due, line.answer = coming[0], b""
                line.socket.sendall(coming[1])
                busy.add(line.socket.fileno())
                upcoming[number] = next(schedules[number], None)
                waits.append(0.0)
            elif coming and free[number]:
                waits.append(coming[0] - now)
        readable, _, _ = select.select([*busy], [], [], max(0.0, min(waits)))
        for each in readable:
            line = lines[each]
            if _receive(line):
                line.lane.late.append(time.perf_counter() - line.due)
                busy.discard(each)
                free[lanes.index(line.lane)].append(line)
    for line in lines.values():
        line.socket.close()


def _schedule(lane: Lane, start: float, seconds: float) -> Iterator[tuple[float, bytes]]:
    raw = [_bytes(request) for request in lane.requests]
    for number in range(int(lane.per_second * seconds)):
        yield start + number / lane.per_second, raw[number % len(raw)]


def _connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _bytes(request: Request) -> bytes:
    _, _, _, body = request.line().split("\t")
    headers = {**request.headers, **(JSON if body else {}), "Host": "bench", "Content-Length": str(len(body))}
    fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{request.method} {request.path} HTTP/1.1\r\n{fields}\r\n{body}".encode()


def _receive(line: _Line) -> bool:
    """Take what came; tell whether the answer is whole."""
    received = line.socket.recv(65536)
    assert received, "the connection was closed"
    line.answer += received
    head, found, body = line.answer.partition(b"\r\n\r\n")
    if not found:
        return False
    length = next(value for name, _, value in _fields(head) if name.lower() == b"content-length")
    whole = len(body) >= int(length)
    if whole and not head.startswith(b"HTTP/1.1 200 "):
        assert head.startswith(b"HTTP/1.1 503 "), line.answer  # it may have too much to do; all else is wrong
        line.lane.refused += 1
    return whole


def _fields(head: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    return (each.partition(b":") for each in head.split(b"\r\n")[1:])
