"""Files for ``flask users import``, and their import."""

import json
from pathlib import Path
from typing import Any

from flask import Flask
from werkzeug.security import generate_password_hash

from tests.support.app import PASSWORD
from tests.support.commandline import run_json

CHEAP_HASH = generate_password_hash(PASSWORD, "pbkdf2:sha256:1000")


def csv_file(folder: Path, *lines: str, header: str = "username,password", name: str = "users.csv") -> Path:
    """Write a CSV file."""
    file = folder / name
    file.write_text("".join(line + "\n" for line in (header, *lines)))
    return file


def jsonl_file(folder: Path, *objects: Any) -> Path:
    """Write a file of JSON lines."""
    file = folder / "users.jsonl"
    file.write_text("".join(json.dumps(each) + "\n" for each in objects))
    return file


def invalid_lines(app: Flask, file: Path, *options: str) -> dict[int, str]:
    """Import a file with invalid lines; return the reasons by line number."""
    report = run_json(app, "users", "import", str(file), *options, code=1)
    return {invalid["line"]: invalid["reason"] for invalid in report["refused"]}


def usernames(app: Flask) -> list[str]:
    """Return the names of all users."""
    return [user["username"] for user in run_json(app, "users", "list")]
