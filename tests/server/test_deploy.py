"""The files of docs/deploy that are not nginx's: settings, wrapper and systemd units."""

import configparser
import os
import re
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.server.conftest import PRODUCTION
from tests.support.app import ROOT
from tests.support.tls import adapted
from tokenapp import config

FILES = ROOT / "docs/deploy"
UNITS = sorted(path.name for kind in ("service", "socket", "timer") for path in FILES.glob(f"*.{kind}"))


def program(name: str) -> str:
    """Return where the program is, or skip the test where it is not (and fail where it must be)."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    if found is None:
        (pytest.fail if os.environ.get("REQUIRE_SERVERS") else pytest.skip)(f"{name} is not installed")
    return str(found)


def replaced(text: str, pairs: dict[str, Any]) -> str:
    """Put the test's own in place of what the guide's file says; each of these must be in it."""
    for old, new in pairs.items():
        assert old in text, old
        text = text.replace(old, str(new))
    return text


def make_certificates(folder: Path) -> None:
    """Make an authority, ``ca.pem``, and a certificate from it for our name."""
    now = datetime.now(UTC)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in ("An authority", NAME)]

    def certificate(number: int, extension: x509.ExtensionType, *, critical: bool) -> bytes:
        identifier = x509.SubjectKeyIdentifier.from_public_key(keys[0].public_key())
        return (
            x509.CertificateBuilder(names[0], names[number], keys[number].public_key(), x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(extension, critical=critical)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
            .sign(keys[0], hashes.SHA256())
            .public_bytes(serialization.Encoding.PEM)
        )

    (folder / "ca.pem").write_bytes(certificate(0, x509.BasicConstraints(ca=True, path_length=0), critical=True))
    (folder / "fullchain.pem").write_bytes(
        certificate(1, x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
    )
    (folder / "privkey.pem").write_bytes(
        keys[1].private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )


@dataclass
class Nginx:
    """nginx with the site file of the guide: only ports, the certificate's paths and the upstream's port are ours."""

    folder: Path
    upstream: int
    plain: int = field(default_factory=free_port)
    port: int = field(default_factory=free_port)

    def __enter__(self) -> Self:
        make_certificates(self.folder)
        pairs = {
            "    listen [::]:80;\n": "",
            "    listen [::]:443 ssl;\n": "",
            "listen 80;": f"listen 127.0.0.1:{self.plain};",
            "listen 443 ssl;": f"listen 127.0.0.1:{self.port} ssl;",
            "/etc/tokenapp/tls/": f"{self.folder}/",
            "127.0.0.1:3005": f"127.0.0.1:{self.upstream}",
        }
        (self.folder / "site.conf").write_text(replaced((FILES / "nginx.conf").read_text(), pairs))
        temporary = "".join(
            f"{kind}_temp_path {self.folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        user = "user root;\n" if os.getuid() == 0 else ""
        main = f"{user}daemon off;\nworker_processes 1;\npid {self.folder}/pid;\nerror_log {self.folder}/error.log;\n"
        main += f"events {{ worker_connections 256; }}\nhttp {{\n{temporary}include {self.folder}/site.conf;\n}}\n"
        (self.folder / "main.conf").write_text(main)
        command = [program("nginx"), "-e", f"{self.folder}/error.log", "-c", f"{self.folder}/main.conf"]
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        self.context = ssl.create_default_context(cafile=str(self.folder / "ca.pem"))
        try:
            wait_until(self._listens, what="nginx")
        except BaseException:
            self._process.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(5)

    def connect(self, address: str = "127.0.0.1") -> ssl.SSLSocket:
        """Open a connection to our name from that address of this machine."""
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=20, source_address=(address, 0))
        return self.context.wrap_socket(plain, server_hostname=NAME)

    def _listens(self) -> bool:
        assert self._process.poll() is None, (self.folder / "error.log").read_text()
        try:
            self.connect().close()
        except OSError:
            return False
        return True


class Browser(Client):
    """A client that speaks TLS with nginx, from an address of its own."""

    def __init__(self, nginx: Nginx, address: str = "127.0.0.1") -> None:
        super().__init__(nginx.port, cookie_name=COOKIE)
        self.nginx, self.address = nginx, address

    def send(self, method: str, path: str, **more: Any) -> Response:
        """Send one request on a connection of its own."""
        headers = {"Host": NAME, **(more.get("headers") or {})}
        body = more.get("body")
        if more.get("payload") is not None:
            body = json.dumps(more["payload"])
            headers["Content-Type"] = "application/json"
        if more.get("cookie") is not None:
            headers["Cookie"] = f"{COOKIE}={more['cookie']}"
        if more.get("bearer") is not None:
            headers["Authorization"] = f"Bearer {more['bearer']}"
        connection = http.client.HTTPConnection(NAME)
        began = time.monotonic()
        with self.nginx.connect(self.address) as connection.sock:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return Response(answer.status, answer.getheaders(), answer.read(), time.monotonic() - began)


@dataclass(frozen=True)
class Site:
    """Everything as the guide sets it up."""

    server: Server
    nginx: Nginx

    def browser(self, address: str = "127.0.0.1") -> Browser:
        return Browser(self.nginx, address)


@pytest.fixture(scope="module")
def database(databases: Databases) -> str:
    """Give a database with a user."""
    url = databases("sqlite")
    with application(url, **SETTINGS) as app:
        create_user(app)
    return url


@pytest.fixture(scope="module")
def site(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Give the service in production behind nginx."""
    program("nginx")
    folder = tmp_path_factory.mktemp("site")
    with Server(database, SETTINGS, log=folder / "server.log") as server, Nginx(folder, server.port) as nginx:
        yield Site(server, nginx)


def follow(browser: Browser, token: str, seen: list[int]) -> Callable[[], None]:
    """Return what refreshes and calls the protected route with one session, and notes the statuses."""
    cookie = token

    def once() -> None:
        nonlocal cookie
        refreshed = browser.refresh(cookie)
        seen.append(refreshed.status)
        if refreshed.status == 200:
            cookie = refreshed.cookie or cookie
            seen.append(browser.protected(refreshed.json["accessToken"]).status)

    return once


def problem_of(refusal: type[errors.TokenappError]) -> dict[str, Any]:
    return {
        "type": f"urn:tokenapp:error:{refusal.code}",
        "title": refusal.title,
        "status": refusal.status,
        "detail": refusal.message,
        "code": refusal.code,
        "message": refusal.message,
    }


def assert_is_a_refusal_like_ours(reply: Response, refusal: type[errors.TokenappError]) -> None:
    """Check that an answer of nginx's own is, byte for byte but for the request's id, that of the service."""
    problem = reply.json
    assert problem.pop("requestId") == reply.header("X-Request-ID")
    assert (reply.status, problem) == (refusal.status, problem_of(refusal))
    assert reply.header("Content-Type") == "application/problem+json"
    assert reply.header("Cache-Control") == "no-store"
    assert reply.header("Strict-Transport-Security") == "max-age=31536000"
    assert reply.header("X-Content-Type-Options") == "nosniff"
    assert reply.all("Set-Cookie") == []


def test_a_session_lives_and_ends_through_tls(site: Site) -> None:
    browser = site.browser()
    opened = browser.login(headers={"Origin": f"https://{NAME}"})
    assert (opened.status, opened.header("Strict-Transport-Security")) == (200, "max-age=31536000")
    name, *attributes = str(opened.header("Set-Cookie")).split("; ")
    assert name.startswith(f"{COOKIE}=")
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=Strict"} <= set(attributes)
    refreshed = browser.refresh(opened.cookie)
    assert (refreshed.status, refreshed.cookie == opened.cookie) == (200, False)
    assert browser.protected(refreshed.json["accessToken"]).json["message"].startswith("Welcome, alice!")
    assert browser.logout(refreshed.cookie).status == 204
    assert browser.refresh(refreshed.cookie).status == 403


@pytest.mark.parametrize("forged", [{}, {"X-Forwarded-For": "203.0.113.9"}, {"X-Forwarded-For": "127.0.0.1, 1.2.3.4"}])
def test_the_address_recorded_is_the_callers_whatever_they_say(site: Site, forged: dict[str, str]) -> None:
    browser = site.browser("127.0.0.7")
    token = browser.login(headers=forged).json["accessToken"]
    items = browser.send("GET", "/api/sessions", bearer=token).json["items"]
    assert [item["ipAddress"] for item in items if item["current"]] == ["127.0.0.7"]


def test_plain_http_is_sent_to_https(site: Site) -> None:
    reply = Client(site.nginx.plain).send("GET", "/docs?x=1", headers={"Host": "evil.example"})
    assert (reply.status, reply.header("Location")) == (301, f"https://{NAME}/docs?x=1")


def test_the_largest_body_is_let_through(site: Site) -> None:
    body = json.dumps({"username": "alice", "password": PASSWORD}).encode().ljust(16 * 1024)
    reply = site.browser().send("POST", "/api/login", body=body, headers={"Content-Type": "application/json"})
    assert reply.status == 200


@pytest.mark.parametrize("chunked", [False, True])
def test_a_larger_body_is_refused_by_nginx_in_our_words(site: Site, *, chunked: bool) -> None:
    large = b" " * (16 * 1024 + 1)
    body = iter([large]) if chunked else large
    reply = site.browser().send("POST", "/api/login", body=body, headers={"Content-Type": "application/json"})
    assert_is_a_refusal_like_ours(reply, errors.RequestTooLarge)


def test_while_the_service_is_away_nginx_says_so_in_our_words(tmp_path: Path) -> None:
    with Nginx(tmp_path, free_port()) as nginx:
        reply = Browser(nginx).refresh("any")
    assert_is_a_refusal_like_ours(reply, errors.ServiceUnavailable)
    assert reply.header("Retry-After") == str(RETRY_SECONDS)


@pytest.mark.parametrize(
    "rest",
    ["X-Slow: ", 'Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"username": '],
    ids=["half a header", "half a body"],
)
def test_slow_clients_do_not_stop_others(site: Site, rest: str) -> None:
    part = f"POST /api/login HTTP/1.1\r\nHost: {NAME}\r\n{rest}"
    with ExitStack() as stack:
        for number in range(30):
            slow = stack.enter_context(site.nginx.connect(f"127.0.1.{number + 1}"))
            slow.sendall(part.encode())
        browser = site.browser()
        opened = browser.login()
        replies = [opened, *(browser.protected(opened.json["accessToken"]) for _ in range(8))]
        assert {reply.status for reply in replies} == {200}
        assert max(reply.seconds for reply in replies) < 3


def test_what_is_not_http_is_answered_before_it_reaches_the_service(site: Site) -> None:
    with site.nginx.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: login.example.com\r\nContent-Length: x\r\n\r\n")
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"nginx" in answer


def test_a_reload_fails_no_request(site: Site) -> None:
    browser, seen = site.browser(), list[int]()
    loops = [follow(browser, str(browser.login().cookie), seen) for _ in range(3)]
    before = set(site.server.workers())
    with repeating(*loops):
        os.kill(site.server.master, signal.SIGHUP)
        wait_until(lambda: not before & set(site.server.workers()), seconds=20, what="new workers")
        enough = len(seen) + 20
        wait_until(lambda: len(seen) > enough, what="requests after the reload")
    assert set(seen) == {200}


@contextmanager
def activated(listener: socket.socket, database: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start gunicorn as systemd does for a socket unit: file 3 is the listener."""
    command = f'exec 3<&{listener.fileno()}; LISTEN_PID=$$ LISTEN_FDS=1 exec "{sys.executable}" -m gunicorn'
    with log.open("ab") as output:
        process = subprocess.Popen(
            [program("bash"), "-c", command],
            cwd=ROOT,
            env=environment(DATABASE_URL=database, PORT=str(free_port()), **SETTINGS),
            pass_fds=[listener.fileno()],
            stdout=output,
            stderr=output,
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(25)


def test_a_restart_under_the_socket_unit_fails_no_request(database: str, tmp_path: Path) -> None:
    log, seen = tmp_path / "server.log", list[int]()
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        nginx = stack.enter_context(Nginx(tmp_path, listener.getsockname()[1]))
        first = stack.enter_context(ExitStack())
        first.enter_context(activated(listener, database, log))
        browser = Browser(nginx)
        loops = [follow(browser, str(browser.login().cookie), seen) for _ in range(3)]
        with repeating(*loops):
            wait_until(lambda: len(seen) > 20, what="requests before the restart")
            first.close()
            stack.enter_context(activated(listener, database, log))
            enough = len(seen) + 20
            wait_until(lambda: len(seen) > enough, what="requests after the restart")
    assert set(seen) == {200}


def test_the_port_is_the_same_in_every_file() -> None:
    default = next(setting.default for setting in config.SETTINGS if setting.name == "PORT")
    for name in ("nginx.conf", "tokenapp.socket"):
        assert set(re.findall(r"127\.0\.0\.1:(\d+)", (FILES / name).read_text())) == {default}, name


def test_settings_file_is_valid_and_contains_no_secret(tmp_path: Path) -> None:
    secret = tmp_path / "secret_key"
    secret.write_text(secrets.token_urlsafe(48))
    text = adapted((FILES / "tokenapp.env.example").read_text(), {"/etc/tokenapp/secret_key": str(secret)})
    values = dict(line.split("=", 1) for line in text.splitlines() if line and not line.startswith("#"))
    assert config.load(values, tmp_path).production
    secret_names = {setting.name for setting in config.SETTINGS if setting.secret} - {"DATABASE_URL"}
    assert not secret_names & values.keys()
    assert not re.search(r"[\s'\"$`\\]", "".join(values.values()))


def test_flask_wrapper_uses_the_settings_of_the_service(database: str, tmp_path: Path) -> None:
    programs, settings = tmp_path / "opt/.venv/bin", tmp_path / "tokenapp.env"
    programs.mkdir(parents=True)
    (programs / "flask").write_text(f'#!/bin/sh\ncd {ROOT}\nexec "{sys.executable}" -m flask "$@"\n')
    (programs / "flask").chmod(0o755)
    settings.write_text(
        "".join(f"{name}={value}\n" for name, value in {**PRODUCTION, "DATABASE_URL": database}.items())
    )
    pairs = {
        "user=tokenapp": 'user="$(id -un)"',
        "/etc/tokenapp/tokenapp.env": str(settings),
        "cd /opt/tokenapp": f"cd {tmp_path}/opt",
    }
    script = adapted((FILES / "tokenapp-flask").read_text(), pairs)
    clean = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["sh", "-c", script, "sh", "users", "list"], env=clean, capture_output=True, text=True, check=False
    )
    assert (done.returncode, "alice" in done.stdout) == (0, True), done.stderr


@pytest.mark.parametrize("name", UNITS)
def test_unit_is_well_formed_and_runs_commands_of_the_service(name: str) -> None:
    unit = configparser.RawConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[method-assign,assignment]  # documented; it keeps the case of names
    unit.read_string((FILES / name).read_text())
    kind = {"service": "Service", "socket": "Socket", "timer": "Timer"}[name.rpartition(".")[2]]
    assert set(unit.sections()) <= {"Unit", kind, "Install"}
    assert (kind in unit, unit["Unit"]["Description"] != "") == (True, True)
    if kind == "Service":
        assert re.fullmatch(r"/opt/tokenapp/\.venv/bin/(gunicorn|flask [a-z]+ prune)", unit[kind]["ExecStart"])
        assert (unit[kind]["User"], unit[kind]["WorkingDirectory"]) == ("tokenapp", "/opt/tokenapp")


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    for name in UNITS:
        text = (FILES / name).read_text()
        text = re.sub(r"/opt/tokenapp/\.venv/bin/(gunicorn|flask)", sys.executable, text)
        (tmp_path / name).write_text(text.replace("/opt/tokenapp", str(ROOT)))
    done = subprocess.run(
        [analyze, "verify", *(tmp_path / name for name in UNITS)],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert [line for line in done.stderr.splitlines() if str(tmp_path) in line or "tokenapp" in line] == []


def test_systemd_stops_later_than_gunicorn() -> None:
    graceful = re.search(r"^graceful_timeout = (\d+)$", (ROOT / "gunicorn.conf.py").read_text(), re.MULTILINE)
    limit = re.search(r"^TimeoutStopSec=(\d+)$", (FILES / "tokenapp.service").read_text(), re.MULTILINE)
    assert graceful
    assert limit
    assert int(limit[1]) > int(graceful[1])
