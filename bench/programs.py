"""Start the four programs as servers, and prepare requests for every load."""

import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bench import ours
from bench.load import Feed, Request
from bench.process import Tree, pin
from tests.support.app import ROOT, environment
from tests.support.client import Client
from tests.support.concurrency import wait_until
from tests.support.postgres import Postgres
from tests.support.server import free_port

PASSWORD = "correct horse battery staple"
USERS = 64
LIVE = 1000  # tokens in the Express program's array, by default
TOKENS = 256  # access tokens in use at once
EXPRESS = Path(__file__).with_name("rivals") / "express"
# Prepared single-use requests per second: more than the program has ever handled on one core.
PER_SECOND = {"ours": 3500, "textbook": 1500, "simplejwt": 900}


@dataclass
class Program:
    """A running program, and the requests for it."""

    title: str
    database: str
    tree: Tree
    port: int
    feeds: dict[str, Feed]
    before: dict[str, Callable[[], None]] = field(default_factory=dict)


@dataclass
class Place:
    """The folder and databases of the programs.

    `seconds` is the total duration of each load, for which requests are prepared.
    """

    stack: ExitStack
    folder: Path
    seconds: int
    postgres: Postgres | None = None

    def database(self, kind: str, name: str) -> str:
        """Create an empty database and return its URL."""
        if kind == "sqlite":
            return f"sqlite:///{self.folder}/{name}.db"
        if self.postgres is None:
            folder = self.folder / "postgresql"
            folder.mkdir()
            self.postgres = Postgres(folder)
            self.postgres.create()
            self.stack.callback(self.postgres.stop, "immediate")
            # On the core of the load generator. The programs have the other core.
            pin(self.postgres.processes()[0], {1})
        return self.postgres.create_database(name)

    def feed(self, name: str, load: str, requests: list[Request], *, once: bool = False) -> Feed:
        """Write requests to a file."""
        return Feed(self.folder / f"{name}-{load}.txt", requests, once=once)

    def run(self, name: str, command: list[str], env: dict[str, str], port: int) -> Tree:
        """Start a program on the first core and wait until it responds."""
        log = self.folder / f"{name}.log"
        tree = self.stack.enter_context(Tree(command, env=env, log=log, folder=self.folder))
        wait_until(lambda: responds(tree, port), seconds=120, what=name)
        return tree


def responds(tree: Tree, port: int) -> bool:
    """Return whether the program responds."""
    assert not tree.has_exited(), tree.log.read_text()[-2000:]
    try:
        return Client(port, timeout=5).send("GET", "/healthz").status == 200
    except OSError:
        return False


def start_ours(place: Place, name: str, kind: str, *, granian: bool = False, **more: str) -> Program:
    """Start this service with one worker, under gunicorn or granian."""
    url = place.database(kind, name.replace("-", "_"))
    ours.prepare(url, USERS, PASSWORD)
    count = PER_SECOND["ours"] * place.seconds
    minted = list(ours.open_sessions(url, 2 * count, under=more))
    feeds = {
        "protected": place.feed(name, "protected", [bearer(each.access_token) for each in minted[:TOKENS]]),
        "rotation": place.feed(
            name, "rotation", [ours.refresh(each.refresh_token) for each in minted[:count]], once=True
        ),
        "logout": place.feed(name, "logout", [ours.logout(each.refresh_token) for each in minted[count:]], once=True),
        "login": place.feed(name, "login", logins()),
    }
    port = free_port()
    env = ours.settings(url, PORT=str(port), WEB_CONCURRENCY="1", **more)
    tree = place.run(name, ours.under_granian(port) if granian else ours.command(), env, port)
    program = Program("tokenapp under granian" if granian else "tokenapp", kind, tree, port, feeds)
    program.before["damped"] = lambda: rotate_some(place, name, program, url, more)
    return program


def rotate_some(place: Place, name: str, program: Program, url: str, more: dict[str, str]) -> None:
    """Rotate some sessions; refreshes of the new tokens are damped for a while."""
    client = Client(program.port)
    fresh = [str(client.refresh(each.refresh_token).cookie) for each in ours.open_sessions(url, USERS, under=more)]
    program.feeds["damped"] = place.feed(name, "damped", [ours.refresh(each) for each in fresh])


def start_rival(place: Place, rival: str, kind: str, *, wal: bool = False) -> Program:
    """Start another Python program under gunicorn, with one worker and four threads.

    With `wal` it uses the SQLite settings of this service instead of its libraries' defaults.
    """
    name = f"{rival}-{'wal' if wal else kind}"
    url = place.database(kind, name.replace("-", "_"))
    env = environment(DATABASE_URL=url, **({"WAL": "1"} if wal else {}))
    count = PER_SECOND[rival] * place.seconds
    file = place.folder / f"{name}.tokens"
    arguments = [rival, PASSWORD, str(USERS), str(2 * count), str(file)]
    subprocess.run([sys.executable, "-m", "bench.rivals.prepare", *arguments], cwd=ROOT, env=env, check=True)
    pairs = [line.split() for line in file.read_text().splitlines()]
    refresh, logout = (cookie_requests if rival == "textbook" else body_requests)()
    feeds = {
        "protected": place.feed(name, "protected", [bearer(access) for access, _ in pairs[:TOKENS]]),
        "rotation": place.feed(name, "rotation", [refresh(token) for _, token in pairs[:count]], once=True),
        "logout": place.feed(name, "logout", [logout(token) for _, token in pairs[count:]], once=True),
        "login": place.feed(name, "login", logins()),
    }
    port = free_port()
    target = "bench.rivals.textbook:make_app()" if rival == "textbook" else "bench.rivals.simplejwt:application"
    command = [sys.executable, "-m", "gunicorn", "-k", "gthread", "-w", "1", "--threads", "4", "--keep-alive", "75"]
    command += ["--no-control-socket", "--worker-tmp-dir", "/dev/shm", "-b", f"127.0.0.1:{port}", target]  # noqa: S108 -- gunicorn's heartbeat, as in this service
    title = "flask-jwt-extended" if rival == "textbook" else "DRF simplejwt"
    return Program(title, kind, place.run(name, command, env, port), port, feeds)


def start_express(place: Place, name: str = "express", *, live: int = LIVE) -> Program:
    """Start the Express program with `live` refresh tokens in its array."""
    port, file = free_port(), place.folder / f"{name}.tokens"
    env = environment(
        PORT=str(port),
        NODE_ENV="production",
        PASSWORD=PASSWORD,
        USERS=str(USERS),
        TOKENS=str(live),
        SAMPLE=str(LIVE),
        SAMPLE_FILE=str(file),
    )
    tree = place.run(name, ["node", str(EXPRESS / "server.js")], env, port)
    pairs = [line.split() for line in file.read_text().splitlines()]
    secrets.SystemRandom().shuffle(pairs)
    feeds = {
        "protected": place.feed(name, "protected", [bearer(access) for access, _ in pairs[:TOKENS]]),
        "damped": place.feed(name, "damped", [ours.refresh(token) for _, token in pairs]),
        # Tokens that are not in the array: the program searches all of it, and its length does not change.
        "logout": place.feed(name, "logout", [ours.logout(f"{token}x") for _, token in pairs]),
        "login": place.feed(name, "login", logins()),
    }
    return Program("Express", "memory", tree, port, feeds)


def start_all(place: Place) -> dict[str, Program]:
    """Start all programs of the comparison."""
    return dict(_start_all(place))


def _start_all(place: Place) -> Iterator[tuple[str, Program]]:
    for kind in ("sqlite", "postgresql"):
        yield f"ours-{kind}", start_ours(place, f"ours-{kind}", kind)
        yield f"granian-{kind}", start_ours(place, f"granian-{kind}", kind, granian=True)
        yield f"textbook-{kind}", start_rival(place, "textbook", kind)
        yield f"simplejwt-{kind}", start_rival(place, "simplejwt", kind)
    for rival in ("textbook", "simplejwt"):
        program = start_rival(place, rival, "sqlite", wal=True)
        program.feeds = {"rotation": program.feeds["rotation"]}
        yield f"{rival}-wal", program
    # For a fair comparison: the other programs sign access tokens with HS256.
    hs256 = start_ours(place, "ours-hs256", "sqlite", ACCESS_TOKEN_SECRET=secrets.token_urlsafe(48))
    hs256.feeds = {load: hs256.feeds[load] for load in ("protected", "rotation")}
    hs256.before.clear()
    yield "ours-hs256", hs256
    yield "express", start_express(place)


def bearer(token: str) -> Request:
    """Return a request for the protected route."""
    return Request("GET", "/api/protected", {"Authorization": f"Bearer {token}"})


def logins() -> list[Request]:
    """Return a sign-in request for each user."""
    bodies = [{"username": ours.name_of(index), "password": PASSWORD} for index in range(USERS)]
    return [Request("POST", "/api/login", payload=body) for body in bodies]


def cookie_requests() -> tuple[Callable[[str], Request], Callable[[str], Request]]:
    """Return functions that make the refresh and sign-out requests, with a cookie."""

    def present(path: str, token: str) -> Request:
        return Request("POST", path, {"Cookie": f"refresh_token_cookie={token}"})

    return lambda token: present("/api/token", token), lambda token: present("/api/logout", token)


def body_requests() -> tuple[Callable[[str], Request], Callable[[str], Request]]:
    """Return functions that make the refresh and sign-out requests, with a body."""

    def present(path: str, token: str) -> Request:
        return Request("POST", path, payload={"refresh": token})

    return lambda token: present("/api/token", token), lambda token: present("/api/logout", token)
