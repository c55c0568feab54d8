"""Exim, a mail server that people run, which delivers to a maildir of the tests."""

import os
import shutil
import socket
import subprocess
import tempfile
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Final, Self

from tests.support.concurrency import wait_until
from tests.support.programs import find_program
from tests.support.server import free_port
from tests.support.tls import certify

_CONFIGURATION: Final = """
primary_hostname = mta.example.com
spool_directory = {folder}/spool
log_file_path = {folder}/%slog
pid_file_path = {folder}/pid
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port} : {tls_port}
tls_on_connect_ports = {tls_port}
tls_certificate = {folder}/fullchain.pem
tls_privatekey = {folder}/privkey.pem
keep_environment =
host_lookup =
acl_smtp_rcpt = recipients
begin acl
recipients:
  deny local_parts = refused
  defer local_parts = busy
        condition = ${{if exists{{{folder}/busy}}}}
  accept domains = example.com
  deny
begin routers
inbox:
  driver = accept
  transport = inbox
begin transports
inbox:
  driver = appendfile
  directory = {folder}/inbox
  maildir_format
  envelope_to_add
  return_path_add
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${{if and{{{{eq{{$auth2}}{{tokenapp}}}}{{eq{{$auth3}}{{secret}}}}}}}}
"""


class Exim:
    """An Exim without privileges, which accepts mail to example.com.

    It rejects ``refused@example.com``, and defers ``busy@example.com`` while the file ``busy`` exists.
    """

    def __init__(self) -> None:
        self._program = find_program("exim4")
        self._user = "Debian-exim" if os.getuid() == 0 else None
        self._ports = {"none": free_port(), "tls": free_port()}
        self._ports["starttls"] = self._ports["none"]
        # Outside of the folders of pytest, which other users cannot enter.
        self.folder = Path(tempfile.mkdtemp(prefix="tokenapp-exim-"))

    def __enter__(self) -> Self:
        certify(self.folder, "localhost")
        values = {"folder": self.folder, "port": self._ports["none"], "tls_port": self._ports["tls"]}
        (self.folder / "configuration").write_text(_CONFIGURATION.format(**values))
        for name in ("spool", "inbox"):
            (self.folder / name).mkdir()
        if self._user:
            for path in (self.folder, *self.folder.iterdir()):
                shutil.chown(path, self._user, self._user)
        command = [self._program, "-bdf", "-C", f"{self.folder}/configuration"]
        with (self.folder / "output").open("wb") as output:
            self._process = subprocess.Popen(
                command,
                user=self._user,
                group=self._user,
                extra_groups=[] if self._user else None,
                cwd="/",
                stdout=output,
                stderr=output,
            )
        wait_until(self._listens, seconds=60, what="Exim")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(60)
        shutil.rmtree(self.folder)

    def url(self, security: str) -> str:
        """Return the value of the setting for this server; with TLS it has a password."""
        if security == "none":
            return f"smtp://127.0.0.1:{self._ports['none']}"
        scheme = {"starttls": "smtp+starttls", "tls": "smtps"}[security]
        return f"{scheme}://tokenapp:secret@localhost:{self._ports[security]}"

    def delivered(self, to: str) -> list[EmailMessage]:
        """Return the messages that were delivered to an address."""
        files = (self.folder / "inbox" / "new").glob("*")
        messages = [message_from_bytes(file.read_bytes(), policy=default) for file in files]
        return [message for message in messages if message["Envelope-to"] == to]

    def wait_for(self, to: str) -> EmailMessage:
        """Wait for a message to an address, and return it; fail if there are several."""
        wait_until(lambda: self.delivered(to) != [], seconds=60, what=f"a mail to {to}")
        (message,) = self.delivered(to)
        return message

    def _listens(self) -> bool:
        assert self._process.poll() is None, f"Exim ended: {(self.folder / 'output').read_text()}"
        try:
            socket.create_connection(("127.0.0.1", self._ports["none"]), timeout=5).close()
        except OSError:
            return False
        return True
