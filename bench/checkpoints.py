"""What a checkpoint in the way of a SQLite transaction costs the slowest ones, by how many pages the log may hold.

    python -m bench.checkpoints DATABASE_FILE

Each write is a rotation's UPDATE and is synced to the disk; the file should be a copy of a large database. The last row
is the log left alone by writers, with somebody else checkpointing once a second.
"""

import random
import sqlite3
import statistics
import sys
import threading
import time

WRITES = 4000
UPDATE = "UPDATE sessions SET current_jti = ?, generation = generation + 1 WHERE id = ?"


def opened(path: str, pages: int) -> sqlite3.Connection:
    """Open the file as the service does."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=2.5)
    for pragma in ("journal_mode=WAL", "synchronous=FULL", f"wal_autocheckpoint={pages}"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def measure(path: str, pages: int) -> list[float]:
    """Write one row after another; return milliseconds."""
    connection = opened(path, pages)
    low, high = (int(row[:12], 16) for row in connection.execute("SELECT min(id), max(id) FROM sessions").fetchone())
    found = "SELECT id FROM sessions WHERE id > ? ORDER BY id LIMIT 1"
    sids = [connection.execute(found, (f"{random.randint(low, high - 1):012x}",)).fetchone() for _ in range(WRITES)]
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    over = threading.Event()

    def look_after() -> None:
        other = opened(path, 0)
        while not over.wait(1):
            other.execute("PRAGMA wal_checkpoint(PASSIVE)")
        other.close()

    thread = threading.Thread(target=look_after)
    if not pages:
        thread.start()
    walls = []
    for number, (sid,) in enumerate(sids):
        began = time.perf_counter()
        connection.execute(UPDATE, (f"x{number:021d}", sid))
        walls.append((time.perf_counter() - began) * 1000)
    over.set()
    if not pages:
        thread.join()
    connection.close()
    return walls


def main() -> None:
    """Print a table."""
    print("| pages | p50 ms | p99 ms | p99.9 ms | longest ms |\n| --- | --- | --- | --- | --- |")
    for pages in (1000, 250, 4000, 0):
        walls = measure(sys.argv[1], pages)
        cuts = statistics.quantiles(walls, n=1000)
        name = pages or "another's work"
        print(f"| {name} | {cuts[499]:.2f} | {cuts[989]:.2f} | {cuts[998]:.1f} | {max(walls):.1f} |", flush=True)


if __name__ == "__main__":
    main()
