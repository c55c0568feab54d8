"""The image, built on Debian and run with a read-only root file system."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Databases
from tests.support.app import PASSWORD, ROOT
from tests.support.client import Client, sign_in
from tests.support.concurrency import wait_until
from tests.support.server import free_port

if "CONTAINER" not in os.environ:
    pytest.skip("it takes minutes: make container", allow_module_level=True)

SECRET = "a key for tests that is long enough to be taken"
# In a mount namespace of its own: the root is read-only, and what a container runtime provides is mounted.
ENTER = """
set -e
mount --bind "$1" "$1"
mount -o remount,ro,bind "$1"
mount -t tmpfs -o mode=1777 temporary "$1/tmp"
mount --rbind /dev "$1/dev"
mount -t proc proc "$1/proc"
mount --bind "$2" "$1/var/lib/tokenapp"
root=$1 user=$3; shift 3
exec chroot --userspec="$user" "$root" /usr/bin/env -i "$@"
"""


@dataclass
class Image:
    """A built image: its root folder and its configuration."""

    root: Path
    config: dict[str, Any]

    def command(self, data: Path, command: list[str], **settings: str) -> list[str]:
        """Return how to run `command` as the container's user."""
        os.chown(data, *map(int, self.config["User"].split(":")))
        env = [*self.config["Env"], *(f"{name}={value}" for name, value in settings.items())]
        entered = ["unshare", "--mount", "bash", "-c", ENTER, "-", str(self.root), str(data), self.config["User"]]
        return [*entered, *env, f"--chdir={self.config['WorkingDir']}", *command]


def run(*command: str | Path, seconds: int = 600) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-5000:]
    return done.stdout


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """Build the image on a minimal Debian with this machine's pip configuration."""
    folder = tmp_path_factory.mktemp("image")
    build = ["buildah", "--storage-driver", "vfs", "--root", str(folder / "root"), "--runroot", str(folder / "run")]
    own = ["copy-in /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs"]
    if Path("/etc/xdg/pip").is_dir():
        own += ['mkdir -p "$1/etc/xdg"', "copy-in /etc/xdg/pip /etc/xdg"]
    options = ["--quiet", "--variant=minbase", "--include=python3,python3-venv,ca-certificates"]
    suite = next(line[17:] for line in Path("/etc/os-release").read_text().splitlines() if "CODENAME=" in line)
    run("mmdebstrap", *options, *(f"--customize-hook={hook}" for hook in own), suite, folder / "base.tar")
    base = run(*build, "from", "scratch").strip()
    run(*build, "add", base, folder / "base.tar", "/")
    run(*build, "commit", "--rm", base, "localhost/base")
    bud = ["bud", "--isolation", "chroot", "--format", "docker", "--build-arg", "BASE=localhost/base"]
    run(*build, *bud, "--file", ROOT / "Containerfile", "--tag", "localhost/tokenapp", ROOT)
    container = run(*build, "from", "localhost/tokenapp").strip()
    config = json.loads(run(*build, "inspect", "--type", "image", "localhost/tokenapp"))["Docker"]["config"]
    yield Image(Path(run(*build, "mount", container).strip()), config)
    run(*build, "umount", container)
    shutil.rmtree(folder)


@contextmanager
def serving(image: Image, data: Path, variable: str = "PORT", value: str = "{port}", **settings: str) -> Iterator[int]:
    """Run the image's own command with a port in `variable`; yield the port."""
    port = free_port()
    listening = {variable: value.format(port=port)}
    command = [*image.config["Entrypoint"], *image.config["Cmd"]]
    full = image.command(data, command, **listening, **settings)
    healthy = image.command(data, image.config["Healthcheck"]["Test"][1:], **listening)
    with subprocess.Popen(full) as process:
        try:
            wait_until(lambda: subprocess.run(healthy, check=False).returncode == 0, seconds=60, what="health")
            yield port
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(40) == 0


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_container_migrates_serves_and_is_healthy(
    kind: str, image: Image, databases: Databases, tmp_path: Path
) -> None:
    settings = {"TOKENAPP_ENV": "development", "SECRET_KEY": SECRET}
    if kind == "postgresql":
        settings["DATABASE_URL"] = databases(kind)
    run(*image.command(tmp_path, ["tokenapp", "db", "upgrade"], **settings))
    create = image.command(tmp_path, ["tokenapp", "users", "create", "alice"], **settings)
    subprocess.run(create, input=f"{PASSWORD}\n", text=True, check=True, timeout=60)
    with serving(image, tmp_path, **settings) as port:
        assert Client(port).send("GET", "/healthz").status == 200
        assert Client(port).send("GET", "/readyz").status == 200
        assert sign_in(port).refresh().status == 200


@pytest.mark.timeout(900)
@pytest.mark.parametrize("value", ["0.0.0.0:{port}", "[::]:{port}"])
def test_address_of_the_container_can_have_its_port(value: str, image: Image, tmp_path: Path) -> None:
    with serving(image, tmp_path, "TOKENAPP_BIND", value, TOKENAPP_ENV="development", SECRET_KEY=SECRET) as port:
        assert Client(port).send("GET", "/healthz").status == 200


@pytest.mark.timeout(900)
def test_user_of_the_container_cannot_change_the_program(image: Image, tmp_path: Path) -> None:
    owners = {path.stat().st_uid for path in (image.root / "opt/tokenapp").rglob("*") if not path.is_symlink()}
    assert owners == {0}
    assert run(*image.command(tmp_path, ["id", "-u"])).strip() == "10001"
    writable = image.command(tmp_path, ["find", "/opt", "-perm", "-o+w", "-not", "-type", "l"])
    assert run(*writable) == ""
