"""A PostgreSQL cluster for tests."""

import os
import shutil
import signal
import subprocess
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path

import psycopg

from tests.support.server import free_port


class Postgres:
    """A PostgreSQL cluster with settings, in its own folder, on a free loopback port."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self._settings = settings
        self.port = free_port()
        self.user = "postgres" if os.getuid() == 0 else None
        self._programs = self.find_programs()

    @staticmethod
    def find_programs() -> Path | None:
        """Return the folder of initdb and postgres, or None."""
        candidates = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
        on_path = shutil.which("initdb")
        candidates += [Path(on_path).parent] if on_path else []
        return next((folder for folder in candidates if (folder / "postgres").exists()), None)

    def create(self) -> None:
        """Create the cluster and start it."""
        self._make_folder()
        data = str(self.folder / "data")
        self._run("initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
        self.start()

    def follow(self, primary: "Postgres") -> None:
        """Create the cluster as a standby of `primary`, and start it."""
        self._make_folder()
        source = f"host=127.0.0.1 port={primary.port} user=postgres application_name=standby"
        copying = ("-D", str(self.folder / "data"), "-R", "-X", "stream", "-c", "fast", "--no-sync")
        self._run("pg_basebackup", "-d", source, *copying)
        self.start()

    def promote(self) -> None:
        """Make the standby a primary."""
        self._run("pg_ctl", "-D", f"{self.folder}/data", "-w", "promote")

    def start(self) -> None:
        """Start the server."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder}"
        options += " -c max_connections=200" + "".join(f" -c {name}={value}" for name, value in self._settings.items())
        self._run("pg_ctl", "-D", f"{self.folder}/data", "-o", options, "-l", f"{self.folder}/log", "-w", "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop the server; the mode ``immediate`` is like a crash."""
        self._run("pg_ctl", "-D", f"{self.folder}/data", "-m", mode, "-w", "stop")

    def processes(self) -> list[int]:
        """Return the ids of all processes of the server."""
        master = int((self.folder / "data" / "postmaster.pid").read_text().splitlines()[0])
        children = Path(f"/proc/{master}/task/{master}/children").read_text()
        return [master, *(int(pid) for pid in children.split())]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to every process: SIGSTOP hangs the server, SIGCONT resumes it."""
        for pid in self.processes():
            with suppress(ProcessLookupError):  # the first process was resumed and has ended some of the others
                os.kill(pid, number)

    def create_database(self, name: str, template: str = "template1") -> str:
        """Create a database and return its URL."""
        with psycopg.connect(f"postgresql://postgres@127.0.0.1:{self.port}/postgres", autocommit=True) as connection:
            # Half the processor time of writing each page to the log, for thousands of databases.
            strategy = "STRATEGY FILE_COPY" if connection.info.server_version >= 15_00_00 else ""
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" {strategy}')
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    def _make_folder(self) -> None:
        if self.user:
            # Other users have no access to the folders of pytest; each session restores that.
            self.folder = Path(tempfile.mkdtemp(prefix="tokenapp-postgresql-"))
            shutil.chown(self.folder, self.user)
            weakref.finalize(self, _remove, self.folder)

    def _run(self, program: str, *arguments: str) -> None:
        assert self._programs is not None
        subprocess.run(
            [self._programs / program, *arguments],
            user=self.user,
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=60,
            check=True,
        )


def _remove(folder: Path) -> None:
    """Remove a folder in the background.

    With hundreds of databases this can take longer than a test may, and it would count for the last one.
    """
    silent = subprocess.DEVNULL
    subprocess.run(["sh", "-c", 'rm -rf "$0" &', folder], stdin=silent, stdout=silent, stderr=silent, check=True)
