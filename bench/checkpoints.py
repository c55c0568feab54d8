"""Measure how checkpoints delay SQLite transactions, by the size of the WAL.

    python -m bench.checkpoints DATABASE_FILE

Each write is the UPDATE of a rotation and is synced to the disk. The file should be a copy of a large database. The
rows of the table are values of `wal_autocheckpoint`. In the last row writers do not run checkpoints; another thread
does, once per second.
"""

import random
import sqlite3
import statistics
import sys
import threading
import time

WRITES = 4000
UPDATE = "UPDATE sessions SET current_jti = ?, generation = generation + 1 WHERE id = ?"


def connect(path: str, pages: int) -> sqlite3.Connection:
    """Open the file with the settings of the service."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=2.5)
    for pragma in ("journal_mode=WAL", "synchronous=FULL", f"wal_autocheckpoint={pages}"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def measure(path: str, pages: int) -> list[float]:
    """Update one row after another; return the milliseconds of each update."""
    connection = connect(path, pages)
    low, high = (int(row[:12], 16) for row in connection.execute("SELECT min(id), max(id) FROM sessions").fetchone())
    query = "SELECT id FROM sessions WHERE id > ? ORDER BY id LIMIT 1"
    sids = [connection.execute(query, (f"{random.randint(low, high - 1):012x}",)).fetchone() for _ in range(WRITES)]
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    stopped = threading.Event()

    def run_checkpoints() -> None:
        other = connect(path, 0)
        while not stopped.wait(1):
            other.execute("PRAGMA wal_checkpoint(PASSIVE)")
        other.close()

    thread = threading.Thread(target=run_checkpoints)
    if not pages:
        thread.start()
    durations = []
    for number, (sid,) in enumerate(sids):
        began = time.perf_counter()
        connection.execute(UPDATE, (f"x{number:021d}", sid))
        durations.append((time.perf_counter() - began) * 1000)
    stopped.set()
    if not pages:
        thread.join()
    connection.close()
    return durations


def main() -> None:
    """Measure each size and print a table."""
    print("| pages | p50 ms | p99 ms | p99.9 ms | longest ms |\n| --- | --- | --- | --- | --- |")
    for pages in (1000, 250, 4000, 0):
        durations = measure(sys.argv[1], pages)
        cuts = statistics.quantiles(durations, n=1000)
        name = pages or "other thread"
        print(f"| {name} | {cuts[499]:.2f} | {cuts[989]:.2f} | {cuts[998]:.1f} | {max(durations):.1f} |", flush=True)


if __name__ == "__main__":
    main()
