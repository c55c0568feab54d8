"""The service and other sites behind one nginx with TLS."""

import http.client
import os
import secrets
import socket
import ssl
import subprocess
from base64 import b64encode
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID

from tests.support.app import ROOT
from tests.support.client import Client
from tests.support.concurrency import wait_until
from tests.support.programs import find_program
from tests.support.server import free_port

LOGIN: Final = "login.tokenapp.test"  # the service
APP: Final = "app.tokenapp.test"  # an application on the same site
SIBLING: Final = "forum.tokenapp.test"  # an untrusted host on the same site
OTHER_SITE: Final = "elsewhere.test"
_GUIDE: Final = ROOT / "docs/deploy/nginx.conf"
_NAME_IN_GUIDE: Final = "login.example.com"


def production_settings(host: str) -> dict[str, str]:
    """Return the settings of a service in production behind a proxy of this machine."""
    return {
        "TOKENAPP_ENV": "production",
        "SECRET_KEY": secrets.token_urlsafe(48),
        "TOKENAPP_ISSUER": f"https://{host}",
        "TOKENAPP_TRUSTED_PROXIES": "127.0.0.1",
        "TOKENAPP_PASSWORD_MEMORY": "19456",
        "TOKENAPP_PASSWORD_PASSES": "2",
    }


def adapted(text: str, replacements: Mapping[str, str]) -> str:
    """Return a file of the guide with the test's paths and ports."""
    for old, new in replacements.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


def certify(folder: Path, *hosts: str) -> str:
    """Create an authority, ``ca.pem``, and a certificate; return its key's pin."""
    now = datetime.now(UTC)
    authority, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    issuer, subject = (
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in ("A certificate authority", hosts[0])
    )
    ca = x509.BasicConstraints(ca=True, path_length=0)
    names = x509.SubjectAlternativeName([x509.DNSName(name) for name in hosts])
    identifier = x509.SubjectKeyIdentifier.from_public_key(authority.public_key())
    for file, holder, public, extension in (
        ("ca.pem", issuer, authority.public_key(), ca),
        ("fullchain.pem", subject, key.public_key(), names),
    ):
        builder = x509.CertificateBuilder(issuer, holder, public, x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        builder = builder.add_extension(extension, critical=extension is ca)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False
        )
        (folder / file).write_bytes(builder.sign(authority, hashes.SHA256()).public_bytes(Encoding.PEM))
    (folder / "privkey.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public_key = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return b64encode(sha256(public_key).digest()).decode()


class Sites:
    """The service at the host `login`, and static files at other hosts.

    The nginx configuration of `login` is that of the guide, with a log of requests in `access.log`. Browsers that are
    started with `browser_arguments` reach all hosts at their HTTPS URLs.
    """

    def __init__(self, folder: Path, upstream: int, login: str, static: Mapping[str, Path]) -> None:
        self.folder, self.upstream, self.login, self.static = folder, upstream, login, static
        self.port, self.plain_port = free_port(), free_port()

    def __enter__(self) -> Self:
        self._pin = certify(self.folder, self.login, *self.static)
        self._context = ssl.create_default_context(cafile=str(self.folder / "ca.pem"))
        (self.folder / "login.conf").write_text(self._login_site())
        (self.folder / "main.conf").write_text(self._main())
        command = [find_program("nginx"), "-e", f"{self.folder}/error.log", "-c", f"{self.folder}/main.conf"]
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            wait_until(self._answers, what="nginx")
        except BaseException:
            self._process.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(30)

    @property
    def browser_arguments(self) -> tuple[str, ...]:
        """The arguments with which Chromium reaches and trusts the sites."""
        rules = f"MAP *:443 127.0.0.1:{self.port}, MAP * 127.0.0.1"
        return f"--host-resolver-rules={rules}", f"--ignore-certificate-errors-spki-list={self._pin}"

    def connect(self, address: str = "127.0.0.1") -> ssl.SSLSocket:
        """Open a connection to the service from a loopback address."""
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=20, source_address=(address, 0))
        return self._context.wrap_socket(plain, server_hostname=self.login)

    def _main(self) -> str:
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = "".join(f"{kind}_temp_path {self.folder}/{kind};\n" for kind in kinds)
        tls = f"ssl_certificate {self.folder}/fullchain.pem; ssl_certificate_key {self.folder}/privkey.pem;"
        sites = "".join(
            f"server {{ listen 127.0.0.1:{self.port} ssl; server_name {name}; {tls} root {root}; }}\n"
            for name, root in self.static.items()
        )
        types = "types { text/html html; text/javascript js; }"
        user = "user root;\n" if os.getuid() == 0 else ""
        log = "log_format all '$request $http_referer $http_user_agent $status';"
        return (
            f"{user}daemon off;\nworker_processes 1;\npid {self.folder}/pid;\nerror_log {self.folder}/error.log;\n"
            f"events {{ worker_connections 512; }}\n"
            f"http {{\n{temporary}{types}\n{log}\naccess_log off;\ninclude {self.folder}/login.conf;\n{sites}}}\n"
        )

    def _login_site(self) -> str:
        replacements = {
            "    listen [::]:80;\n": "",
            "    listen [::]:443 ssl;\n": "",
            "listen 80;": f"listen 127.0.0.1:{self.plain_port};",
            "listen 443 ssl;": f"listen 127.0.0.1:{self.port} ssl;",
            "/etc/tokenapp/tls/": f"{self.folder}/",
            "127.0.0.1:3005": f"127.0.0.1:{self.upstream}",
            _NAME_IN_GUIDE: self.login,
            "access_log off;": f"access_log {self.folder}/access.log all;",
        }
        return adapted(_GUIDE.read_text(), replacements)

    def _answers(self) -> bool:
        assert self._process.poll() is None, (self.folder / "error.log").read_text()
        try:
            self.connect().close()
        except OSError:
            return False
        return True


class TlsClient(Client):
    """A client of the service over TLS, at a loopback address of its own."""

    def __init__(self, sites: Sites, address: str = "127.0.0.1") -> None:
        super().__init__(sites.port, cookie_name="__Host-refreshToken")
        self.sites, self.address = sites, address

    def connect(self) -> http.client.HTTPConnection:
        """Return a connection for one request."""
        connection = http.client.HTTPConnection(self.sites.login, timeout=self.timeout)
        connection.sock = self.sites.connect(self.address)
        return connection
