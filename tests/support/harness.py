"""What tests stand on: a PostgreSQL of their own, the service under gunicorn, an HTTP client, the flask command."""

import base64
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, TypeVar
from weakref import WeakSet

import psycopg
from flask import Flask

from tokenapp import accounts, create_app
from tokenapp.db import db

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "correct horse battery staple"
_Result = TypeVar("_Result")
SETTINGS = {
    "TOKENAPP_ENV": "development",
    "SECRET_KEY": "a key for tests that is long enough to be taken",
    "TOKENAPP_PASSWORD_MEMORY": "8",
    "TOKENAPP_PASSWORD_PASSES": "1",
    "WEB_CONCURRENCY": "2",
    "TOKENAPP_ADDRESS_FAILURES": "100000",
}


def environment(**settings: str) -> dict[str, str]:
    """Return this process's environment without any setting of ours, and then `settings` over the tests' own."""
    ours = (
        "TOKENAPP_",
        "SECRET_KEY",
        "DATABASE_URL",
        "ACCESS_TOKEN_",
        "REFRESH_TOKEN_",
        "PORT",
        "WEB_CONCURRENCY",
        "RATELIMIT_",
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**clean, "PYTHONPATH": str(ROOT), **SETTINGS, **settings}


_new_apps: list[Flask] = []
_old_apps: WeakSet[Flask] = WeakSet()


def make_app(database_url: str, **settings: str) -> Flask:
    """Make the application in this process, on that database."""
    app = create_app({**SETTINGS, "DATABASE_URL": database_url, **settings})
    _new_apps.append(app)
    return app


def dispose_engines() -> None:
    """Close the connections of all applications made here: nobody else knows when a test is done with them."""
    _old_apps.update(_new_apps)
    _new_apps.clear()
    for app in list(_old_apps):
        with app.app_context():
            db.engine.dispose()


@contextmanager
def application(database_url: str, **settings: str) -> Iterator[Flask]:
    """Give the application in this process, and close its connections at the end."""
    app = make_app(database_url, **settings)
    try:
        yield app
    finally:
        with app.app_context():
            db.engine.dispose()


def create_user(app: Flask, username: str = "alice", password: str = PASSWORD) -> str:
    """Create a user and return the id."""
    with app.app_context():
        return accounts.create(accounts.NewUser(username, password), datetime.now(UTC)).id


def run_flask(database_url: str, *arguments: str, stdin: str = "", **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the flask command as an operator would, and wait for its end."""
    return subprocess.run(
        [sys.executable, "-m", "flask", *arguments],
        cwd=ROOT,
        env=environment(DATABASE_URL=database_url, **settings),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def free_port() -> int:
    """Return a port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], bool], *, seconds: float = 10, what: str = "the condition") -> None:
    """Wait until `condition` holds; fail when it does not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come about in {seconds} s"
        time.sleep(0.02)


def at_once(*calls: Callable[[], _Result]) -> list[_Result]:
    """Make all calls at the same moment, each in a thread of its own; return what they gave, in their order."""
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], _Result]) -> _Result:
        barrier.wait(10)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


@contextmanager
def meanwhile(*loops: Callable[[], object]) -> Iterator[None]:
    """Call each of `loops` again and again, in a thread of its own, until the block ends; pass on what they raise."""
    over = threading.Event()

    def run(call: Callable[[], object]) -> None:
        while not over.is_set():
            call()

    with ThreadPoolExecutor(len(loops)) as pool:
        threads = [pool.submit(run, call) for call in loops]
        try:
            yield
        finally:
            over.set()
        for thread in threads:
            thread.result()


def claims_of(token: str) -> dict[str, Any]:
    """Return what a token says, without any check."""
    payload = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims


@dataclass(frozen=True)
class Reply:
    """An HTTP answer; `headers` in their order, repeated ones repeated."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    seconds: float = 0.0

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    def all(self, name: str) -> list[str]:
        """All values of the header `name`."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def header(self, name: str) -> str | None:
        """The value of the header `name`."""
        return next(iter(self.all(name)), None)

    @property
    def cookie(self) -> str | None:
        """The refresh token that the answer sets, if it sets one."""
        for line in self.all("Set-Cookie"):
            name, _, value = line.split(";")[0].partition("=")
            if name.endswith("refreshToken"):
                return value
        return None


@dataclass(frozen=True)
class Client:
    """A caller that is no browser: it keeps no cookies, and sends what it is told to send."""

    port: int
    timeout: float = 20

    def send(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        payload: Any = None,
        cookie: str | None = None,
        bearer: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send one request on a connection of its own."""
        sent = dict(headers or {})
        if payload is not None:
            body = json.dumps(payload).encode()
            sent.setdefault("Content-Type", "application/json")
        if cookie is not None:
            sent["Cookie"] = f"refreshToken={cookie}"
        if bearer is not None:
            sent["Authorization"] = f"Bearer {bearer}"
        began = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.timeout)
        try:
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            return Reply(answer.status, answer.getheaders(), answer.read(), time.monotonic() - began)
        finally:
            connection.close()

    def login(self, username: str = "alice", password: str = PASSWORD, **more: Any) -> Reply:
        """Sign in."""
        return self.send("POST", "/api/login", payload={"username": username, "password": password}, **more)

    def refresh(self, cookie: str | None, **more: Any) -> Reply:
        """Present a refresh token."""
        return self.send("POST", "/api/token", cookie=cookie, **more)

    def logout(self, cookie: str | None = None, **more: Any) -> Reply:
        """Sign out."""
        return self.send("POST", "/api/logout", cookie=cookie, **more)

    def protected(self, bearer: str | None, **more: Any) -> Reply:
        """Call the protected route."""
        return self.send("GET", "/api/protected", bearer=bearer, **more)


@dataclass
class Server:
    """The service under gunicorn, on a port of its own; `log` is what it wrote to stderr."""

    database_url: str
    settings: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    log: Path = Path(os.devnull)
    command: Sequence[str] = (sys.executable, "-m", "gunicorn")

    def __enter__(self) -> Self:
        env = environment(DATABASE_URL=self.database_url, PORT=str(self.port), **self.settings)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command, cwd=ROOT, env=env, stdout=log, stderr=log, start_new_session=True
            )
        workers = int(env["WEB_CONCURRENCY"])
        wait_until(lambda: self._answers() and len(self.workers()) == workers, seconds=20, what="the server")
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is not None:
            return
        self.signal(signal.SIGCONT)
        self._process.terminate()
        try:
            # A worker that was forked in this very moment may miss the signal: gunicorn ends it after 30 seconds.
            self._process.wait(40)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End the master and the workers at once, as a power cut does."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(5)

    def wait(self, seconds: float = 25) -> int:
        """Wait for the master's end; return its exit status."""
        return self._process.wait(seconds)

    @property
    def client(self) -> Client:
        """A client of this server."""
        return Client(self.port)

    @property
    def master(self) -> int:
        """The process id of the server's first process, the parent of the workers."""
        return self._process.pid

    def workers(self) -> list[int]:
        """Return the process ids of the workers."""
        children = Path(f"/proc/{self.master}/task/{self.master}/children").read_text()
        return [int(pid) for pid in children.split()]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to every worker."""
        for pid in self.workers():
            os.kill(pid, number)

    def _answers(self) -> bool:
        assert self._process.poll() is None, f"it ended: {self.log.read_text() if self.log.is_file() else ''}"
        try:
            return Client(self.port, timeout=2).send("GET", "/healthz").status == http.client.OK
        except OSError:
            return False


class Postgres:
    """A PostgreSQL cluster in a folder of its own, on a free loopback port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.user = "postgres" if os.getuid() == 0 else None
        self._programs = self.find_programs()

    @staticmethod
    def find_programs() -> Path | None:
        """Return the folder with initdb and postgres, where there is one."""
        candidates = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
        on_path = shutil.which("initdb")
        candidates += [Path(on_path).parent] if on_path else []
        return next((folder for folder in candidates if (folder / "postgres").exists()), None)

    def create(self) -> None:
        """Make the cluster and start it."""
        self._make_folder()
        data = str(self.folder / "data")
        self._run("initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
        self.start()

    def follow(self, primary: "Postgres") -> None:
        """Make the cluster a copy of `primary`, which it follows from now on, and start it."""
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
        options += " -c max_connections=200"
        self._run("pg_ctl", "-D", f"{self.folder}/data", "-o", options, "-l", f"{self.folder}/log", "-w", "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop the server: ``fast``, or ``immediate`` as in a crash."""
        self._run("pg_ctl", "-D", f"{self.folder}/data", "-m", mode, "-w", "stop")

    def processes(self) -> list[int]:
        """Return the ids of all processes of the server."""
        master = int((self.folder / "data" / "postmaster.pid").read_text().splitlines()[0])
        children = Path(f"/proc/{master}/task/{master}/children").read_text()
        return [master, *(int(pid) for pid in children.split())]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to every process: SIGSTOP makes the server hang, SIGCONT lets it go on."""
        for pid in self.processes():
            os.kill(pid, number)

    def create_database(self, name: str, template: str = "template1") -> str:
        """Create a database and return its URL."""
        with psycopg.connect(f"postgresql://postgres@127.0.0.1:{self.port}/postgres", autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    def _make_folder(self) -> None:
        if self.user:
            # Only we may enter pytest's folders: each of its sessions, even one beside this, sees to that.
            self.folder = Path(tempfile.mkdtemp(prefix="tokenapp-postgresql-"))
            shutil.chown(self.folder, self.user)
            weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)

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


class Relay:
    """A TCP relay before a server on this machine, which can hold back what is sent as a broken network does."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._requests, self._replies = threading.Event(), threading.Event()
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

    def hold(self, *, replies_only: bool = False) -> None:
        """From now on pass nothing on; connections stay open, and new ones are taken."""
        self._replies.clear()
        if not replies_only:
            self._requests.clear()

    def release(self) -> None:
        """Pass on what was held back, and all that comes."""
        self._requests.set()
        self._replies.set()

    @property
    def connections(self) -> int:
        """How many connections were made through it so far, or tried."""
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
                with suppress(ConnectionRefusedError):
                    server = socket.create_connection(("127.0.0.1", self._target))
                    self._sockets.append(server)
                    self._start(self._pump, client, server, self._requests)
                    self._start(self._pump, server, client, self._replies)
                    continue
                client.close()

    def _pump(self, source: socket.socket, sink: socket.socket, gate: threading.Event) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                gate.wait()
                sink.sendall(data)
        gate.wait()
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
