"""Run programs on given cores, and measure the CPU and memory of process trees."""

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

TICKS = os.sysconf("SC_CLK_TCK")


class Tree:
    """A program and its child processes, pinned to some cores."""

    def __init__(
        self, command: Sequence[str], *, env: Mapping[str, str], log: Path, cores: str = "0", folder: Path | None = None
    ) -> None:
        self.command, self.env, self.log, self.cores, self.folder = [*command], env, log, cores, folder
        self.began = 0.0

    def __enter__(self) -> Self:
        command = ["taskset", "-c", self.cores, *self.command]
        with self.log.open("ab") as log:
            self.began = time.perf_counter()
            self._process = subprocess.Popen(
                command, env=dict(self.env), cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(25)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(5)

    @property
    def pid(self) -> int:
        """The id of the first process."""
        return self._process.pid

    def has_exited(self) -> bool:
        """Return whether the program has exited."""
        return self._process.poll() is not None

    def cpu(self) -> float:
        """Return the CPU time of the tree in seconds."""
        return cpu_of(self.pid)

    def pss(self) -> float:
        """Return the memory of the tree in MB; shared pages are counted once."""
        return sum(pss_of(pid) for pid in tree_of(self.pid)) / 1e6


def tree_of(pid: int) -> list[int]:
    """Return the ids of a process and its descendants."""
    found = [pid]
    with suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += tree_of(int(child))
    return found


def cpu_of(pid: int) -> float:
    """Return the CPU time of a process tree in seconds, with exited processes."""
    ticks = 0
    for each in tree_of(pid):
        with suppress(FileNotFoundError, ProcessLookupError):
            # The name may contain any character, so split after it. Fields 14 to 17: utime, stime, cutime, cstime.
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(int(field) for field in fields[11:15])
    return ticks / TICKS


def pss_of(pid: int) -> int:
    """Return the proportional set size (PSS) of a process in bytes."""
    with suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def pin(pid: int, cores: set[int]) -> None:
    """Pin a process tree with all its threads, and its future children, to `cores`."""
    for each in tree_of(pid):
        for task in Path(f"/proc/{each}/task").iterdir():
            with suppress(ProcessLookupError):
                os.sched_setaffinity(int(task.name), cores)
