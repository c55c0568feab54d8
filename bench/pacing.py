"""Send requests at a constant rate, and measure from when each one was due."""

import select
import socket
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from bench.load import JSON, Request


@dataclass
class Lane:
    """Requests of one kind, at a constant rate over keep-alive connections."""

    requests: Sequence[Request]
    per_second: int
    connections: int
    delays: list[float] = field(default_factory=list)
    refused: int = 0


@dataclass
class _Line:
    """A connection, and the time at which its request was due."""

    lane: Lane
    socket: socket.socket
    due: float = 0.0
    response: bytes = b""


def pace(lanes: Sequence[Lane], port: int, seconds: float) -> None:
    """Send the requests of all lanes at their rates; record the response times.

    If all connections of a lane are busy, a request waits for one. Its time starts when it was due, so a server that
    stalls is measured correctly. All connections are opened at the start, and most of them are idle then.
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
                line.due, line.response = coming[0], b""
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
                line.lane.delays.append(time.perf_counter() - line.due)
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
    """Receive data; return whether the response is complete."""
    received = line.socket.recv(65536)
    assert received, "the connection was closed"
    line.response += received
    head, found, body = line.response.partition(b"\r\n\r\n")
    if not found:
        return False
    length = next(value for name, _, value in _fields(head) if name.lower() == b"content-length")
    complete = len(body) >= int(length)
    if complete and not head.startswith(b"HTTP/1.1 200 "):
        assert head.startswith(b"HTTP/1.1 503 "), line.response  # 503: the server is overloaded
        line.lane.refused += 1
    return complete


def _fields(head: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    return (each.partition(b":") for each in head.split(b"\r\n")[1:])
