"""Test a failover of replicated PostgreSQL under load from several hosts.

    python -m bench.hosts RESULTS.json [--pooled]

Run it as root. The hosts are network namespaces on a bridge; they are created at the start and removed at the end.
Each host runs the service under gunicorn. It connects to both database servers or, with ``--pooled``, to its own
PgBouncer in transaction mode. Each client refreshes its session, and uses another host for every request. During the
run the primary's host loses its network and the standby is promoted. Then acknowledged rotations that the standby does
not have are counted.
"""

import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import flask_migrate
import psycopg

from tests.support.app import PASSWORD, ROOT, application, create_user, environment
from tests.support.client import claims_of
from tests.support.concurrency import wait_until
from tests.support.postgres import Postgres

NET, BRIDGE = "10.77.0", "tokenapp0"
HOSTS, CLIENTS, SECONDS_BEFORE, MAX_SECONDS = 3, 12, 6.0, 30.0
PORT = 3005


def ip(*arguments: str) -> None:
    """Run the ip command."""
    subprocess.run(["ip", *arguments], check=True)


def open_network(stack: ExitStack) -> None:
    """Create the bridge; this process has its first address."""
    ip("link", "add", BRIDGE, "type", "bridge")
    stack.callback(ip, "link", "del", BRIDGE)
    ip("addr", "add", f"{NET}.1/24", "dev", BRIDGE)
    ip("link", "set", BRIDGE, "up")


def add_host(stack: ExitStack, name: str, number: int) -> str:
    """Create a host on the bridge and return its address."""
    ip("netns", "add", name)
    stack.callback(ip, "netns", "del", name)
    ip("link", "add", f"v-{name}", "type", "veth", "peer", "name", "eth0", "netns", name)
    stack.callback(subprocess.run, ["ip", "link", "del", f"v-{name}"], check=False)
    ip("link", "set", f"v-{name}", "master", BRIDGE, "up")
    for arguments in (("addr", "add", f"{NET}.{number}/24", "dev", "eth0"), ("link", "set", "eth0", "up")):
        ip("-n", name, *arguments)
    ip("-n", name, "link", "set", "lo", "up")
    return f"{NET}.{number}"


class Database(Postgres):
    """A PostgreSQL server on a separate host."""

    def __init__(self, host: str, address: str) -> None:
        super().__init__(Path(tempfile.mkdtemp()))
        self.host, self.address, self.port = host, address, 5432

    def _run(self, program: str, *arguments: str) -> None:
        assert self._programs is not None
        if program == "initdb":
            super()._run(program, *arguments)
            with (self.folder / "data" / "pg_hba.conf").open("a") as file:
                file.write(f"host all,replication all {NET}.0/24 trust\n")
            return
        listening = [word.replace("listen_addresses=127.0.0.1", "listen_addresses=*") for word in arguments]
        listening = [word.replace("host=127.0.0.1", f"host={NET}.11") for word in listening]
        inside = ["ip", "netns", "exec", self.host, "runuser", "-u", "postgres", "--", self._programs / program]
        out = subprocess.DEVNULL
        subprocess.run([*inside, *listening], cwd="/", stdout=out, stderr=out, timeout=60, check=True)


def start(stack: ExitStack, host: str, command: list[str], **more: Any) -> None:
    """Start a program on a host, and stop it at the end."""
    process = subprocess.Popen(["ip", "netns", "exec", host, *command], start_new_session=True, **more)

    def end() -> None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)

    stack.callback(end)


def start_pooler(stack: ExitStack, host: str, databases: str, folder: Path) -> str:
    """Start a PgBouncer on a host and return its URL.

    It has the address of one database server. A failover changes the address and sends RELOAD.
    """
    file = folder / f"{host}.ini"
    file.write_text(
        f"[databases]\ntokenapp = host={databases} port=5432 user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
        "listen_port = 6432\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\nserver_login_retry = 1\n"
        "ignore_startup_parameters = options\nserver_connect_timeout = 2\nadmin_users = postgres\n"
        "tcp_keepalive = 1\ntcp_user_timeout = 3000\nquery_timeout = 4\n"
    )
    start(stack, host, ["pgbouncer", "-q", "-u", "postgres", str(file)], stderr=subprocess.DEVNULL)
    return "postgresql://postgres@127.0.0.1:6432/tokenapp"


@dataclass
class RoamingClient:
    """A client that refreshes its session, at another host each time."""

    addresses: list[str]
    cookie: str = ""
    sent: int = 0
    acknowledged: int = -1
    responses: list[tuple[float, float, int]] = field(default_factory=list)

    def send(self, path: str, body: bytes = b"") -> int:
        """Send a request and return the status, or 0 if there was no response."""
        self.sent += 1
        began = monotonic()
        connection = http.client.HTTPConnection(self.addresses[self.sent % len(self.addresses)], PORT, timeout=10)
        try:
            headers = {"Content-Type": "application/json"} | ({"Cookie": self.cookie} if self.cookie else {})
            connection.request("POST", path, body, headers)
            response = connection.getresponse()
            response.read()
            status = response.status
            if status == http.client.OK:
                self.cookie = (response.getheader("Set-Cookie") or "").split(";")[0]
                self.acknowledged = claims_of(self.cookie.partition("=")[2])["gen"]
        except (OSError, http.client.HTTPException):
            status = 0
        finally:
            connection.close()
        self.responses.append((began, monotonic() - began, status))
        return status

    def run(self, stopped: threading.Event) -> None:
        """Refresh until `stopped` is set."""
        while not stopped.is_set():
            if self.send("/api/token") != http.client.OK:
                sleep(0.1)
            sleep(0.01)

    def recovery_time(self, since: float) -> float | None:
        """Return the seconds from `since` until every host had responded with 200."""
        good = 0
        for began, took, status in self.responses:
            good = good + 1 if status == http.client.OK and began > since else 0
            if good == len(self.addresses):
                return began + took - since
        return None


def run(stack: ExitStack, *, pooled: bool) -> dict[str, Any]:  # noqa: PLR0915 -- one sequence of steps
    """Build the hosts, cut the primary off, and return the results."""
    open_network(stack)
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    pair = [Database(name, add_host(stack, name, number)) for name, number in (("tdb1", 11), ("tdb2", 12))]
    primary, standby = pair
    primary.create()
    stack.callback(primary.stop, "immediate")
    direct = [f"postgresql://postgres@{each.address}/tokenapp" for each in pair]
    with psycopg.connect(f"postgresql://postgres@{primary.address}/postgres", autocommit=True) as connection:
        connection.execute("CREATE DATABASE tokenapp")
        for name, value in (("statement_timeout", 2500), ("lock_timeout", 1000)):
            connection.execute(f"ALTER DATABASE tokenapp SET {name} = {value}".encode())
    with application(direct[0]) as app:
        with app.app_context():
            flask_migrate.upgrade()
        create_user(app)
    standby.follow(primary)
    stack.callback(standby.stop, "immediate")
    with psycopg.connect(direct[0], autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
        connection.execute("SELECT pg_reload_conf()")
        in_step = "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"
        wait_until(lambda: connection.execute(in_step).fetchone() is not None, what="replication")
    url = f"postgresql://postgres@{primary.address},{standby.address}/tokenapp?target_session_attrs=read-write"
    addresses = []
    for number in range(HOSTS):
        host = f"tapp{number}"
        addresses.append(add_host(stack, host, 21 + number))
        database_url = start_pooler(stack, host, primary.address, folder) if pooled else url
        settings = environment(
            DATABASE_URL=database_url, TOKENAPP_REFRESH_GRACE="10s", TOKENAPP_ISSUER="http://one.test"
        )
        settings |= {"PORT": str(PORT), "GUNICORN_CMD_ARGS": f"--bind 0.0.0.0:{PORT}"}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        start(stack, host, [sys.executable, "-m", "gunicorn"], cwd=ROOT, env=settings, **quiet)
    login = json.dumps({"username": "alice", "password": PASSWORD}).encode()
    clients = [RoamingClient(addresses) for _ in range(CLIENTS)]
    signed_out = [RoamingClient(addresses) for _ in range(4)]
    for each in [*clients, *signed_out]:
        wait_until(lambda each=each: each.send("/api/login", login) == http.client.OK, seconds=20, what="a sign-in")
        each.responses.clear()
    stopped = threading.Event()
    threads = [threading.Thread(target=each.run, args=(stopped,)) for each in clients]
    for thread in threads:
        thread.start()
    sleep(SECONDS_BEFORE)
    for each in signed_out:
        assert each.send("/api/logout") == http.client.NO_CONTENT
    cut_at = monotonic()
    ip("link", "set", f"v-{primary.host}", "down")
    standby.promote()
    if pooled:
        for number in range(HOSTS):
            file = folder / f"tapp{number}.ini"
            file.write_text(file.read_text().replace(primary.address, standby.address))
            command = "import psycopg; c = psycopg.connect('postgresql://postgres@127.0.0.1:6432/pgbouncer'"
            command += ", autocommit=True); c.execute('RELOAD')"
            subprocess.run(["ip", "netns", "exec", f"tapp{number}", sys.executable, "-c", command], check=False)
    promoted = monotonic()
    while any(each.recovery_time(promoted) is None for each in clients) and monotonic() - promoted < MAX_SECONDS:
        sleep(0.1)
    stopped.set()
    for thread in threads:
        thread.join(15)
    with psycopg.connect(direct[1]) as connection:
        stored: dict[str, int] = dict(connection.execute("SELECT id, generation FROM sessions").fetchall())
    sid = {id(each): claims_of(each.cookie.partition("=")[2])["sid"] for each in clients}
    waits = [each.recovery_time(promoted) for each in clients]
    during = [response for each in clients for response in each.responses if response[0] + response[1] > cut_at]
    before = sum(1 for each in clients for response in each.responses if response[0] + response[1] <= cut_at)
    return {
        "hosts": HOSTS,
        "clients": CLIENTS,
        "refreshes answered per second before": round(before / SECONDS_BEFORE),
        "acknowledged rotations missing on the new primary": sum(
            stored.get(sid[id(each)], -1) < each.acknowledged for each in clients
        ),
        "sessions lost": sum(response[2] in {401, 403} for each in clients for response in each.responses[-1:]),
        "sign-outs undone": sum(each.send("/api/token") == http.client.OK for each in signed_out),
        "statuses after the cable was pulled": dict(Counter(str(response[2]) for response in during)),
        "longest answer, s": round(max(response[1] for response in during), 1),
        "promotion took, s": round(promoted - cut_at, 1),
        "clients not back": sum(wait is None for wait in waits),
        "service back on every host after promotion, s": round(max((w for w in waits if w is not None), default=0), 1),
    }


def main() -> None:
    """Run the failover and add its results to the file."""
    file, pooled = Path(sys.argv[1]), "--pooled" in sys.argv
    with ExitStack() as stack:
        found = run(stack, pooled=pooled)
    results = json.loads(file.read_text()) if file.exists() else {}
    results.setdefault("hosts", {})["through PgBouncer" if pooled else "directly"] = found
    file.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
