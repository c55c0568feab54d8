"""Prepare requests in files, and send them with wrk from a separate core."""

import json
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

SCRIPT = Path(__file__).with_name("requests.lua")
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Request:
    """An HTTP request."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    payload: object = None

    def line(self) -> str:
        """Return the request in the format of requests.lua."""
        headers = {**self.headers, **(JSON if self.payload is not None else {})}
        body = "" if self.payload is None else json.dumps(self.payload)
        fields = "\x1f".join(f"{name}: {value}" for name, value in headers.items())
        return f"{self.method}\t{self.path}\t{fields}\t{body}"


class Feed:
    """Requests in a file; with `once` none of them is sent twice, in any round."""

    def __init__(self, file: Path, requests: Iterable[Request], *, once: bool) -> None:
        self.file, self.once, self.used = file, once, 0
        with file.open("w") as out:
            out.writelines(f"{request.line()}\n" for request in requests)


@dataclass(frozen=True)
class Sample:
    """The figures that wrk reported for one round."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float


def send(feed: Feed, port: int, *, seconds: int, connections: int = 4, core: int = 1) -> Sample:
    """Send the requests of `feed` with wrk for `seconds`.

    Each connection sends one request after another. Every response must have a status below 400.
    """
    command = ["taskset", "-c", str(core), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s"]
    command += ["-s", str(SCRIPT), f"http://127.0.0.1:{port}", "--"]
    command += [str(feed.file), str(feed.used), "once" if feed.once else "again"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=True)
    seen = json.loads(done.stdout.partition("RESULT ")[2])
    assert seen["refused"] == seen["broken"] == 0, f"{feed.file.name}: errors, or too few prepared requests: {seen}"
    assert seen["requests"] > 0, f"{feed.file.name}: no response in {seconds} s: the machine may be busy"
    if feed.once:
        feed.used += seen["sent"]
    return Sample(seen["requests"], seen["microseconds"] / 1e6, seen["p50_us"] / 1e3, seen["p99_us"] / 1e3)
