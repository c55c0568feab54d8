"""Files that other users of the machine can read or change."""

import os
import stat
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

from tokenapp import db
from tokenapp.cli.doctor.finding import Check, Finding
from tokenapp.config import FILE_SETTINGS, Settings, env_files


def _check_modes(settings: Settings, _now: datetime) -> Iterator[Finding]:
    secret = settings.instance_path / "secret_key"
    yield from _check_mode("error", secret.name, secret)
    for name in sorted(FILE_SETTINGS & os.environ.keys()):
        yield from _check_mode("error", name, Path(os.environ[name].strip()))
    for file in env_files.find_secrets():
        yield from _check_mode("error", file.name, file)
    if settings.database_url.drivername.startswith("sqlite"):
        database = Path(str(db.db.engine.url.database).removeprefix("file:"))
        for path in (database, database.with_name(f"{database.name}-wal")):
            yield from _check_mode("warning", path.name, path)


def _check_mode(severity: str, subject: str, path: Path) -> Iterator[Finding]:
    if path.is_file() and path.stat().st_mode & (stat.S_IRWXO | stat.S_IWGRP):
        yield Finding(
            "error" if severity == "error" else "warning",
            subject,
            f"its mode is {stat.S_IMODE(path.stat().st_mode):04o}",
            "other users of this machine can read or change it",
            f"run `chmod 600 {path}`",
        )


CHECKS: Final[tuple[Check, ...]] = (_check_modes,)
