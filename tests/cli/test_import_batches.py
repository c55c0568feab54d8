"""``flask users import`` stores many users in batches."""

import subprocess
import sys
from contextvars import Context
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from flask import Flask

from tests.support.app import ROOT, environment
from tests.support.commandline import can_sign_in, error_of, run
from tests.support.user_files import CHEAP_HASH, csv_file
from tokenapp import accounts, audit, db
from tokenapp.models import User

SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def users_file(folder: Path, number: int) -> str:
    header = "username,password_hash"
    return str(csv_file(folder, *(f"user{index},{CHEAP_HASH}" for index in range(number)), header=header))


def count_users() -> int:
    return int(db.execute_now(sa.select(sa.func.count()).select_from(User))[0][0])


@SQLITE
def test_others_write_between_two_batches(app: Flask, database_url: str, tmp_path: Path) -> None:
    number = 4 * accounts.BATCH
    importing = subprocess.Popen(
        [sys.executable, "-m", "flask", "users", "import", users_file(tmp_path, number)],
        cwd=ROOT,
        env=environment(DATABASE_URL=database_url),
        stdout=subprocess.DEVNULL,
    )
    counts = set()
    with app.app_context():
        while importing.poll() is None:
            audit.record_alone("sign_in_failed", datetime.now(UTC))
            counts.add(count_users())
        assert importing.returncode == 0
        assert count_users() == number
    assert counts - {0, number}


def execute(app: Flask, statement: str) -> None:
    def run_statement() -> None:
        with app.app_context(), db.writing() as session:
            session.execute(sa.text(statement))

    Context().run(run_statement)


def test_name_taken_in_a_later_batch_leaves_the_batches_before_it(
    app: Flask, database_url: str, tmp_path: Path
) -> None:
    name = f"user{accounts.BATCH + 1}"
    if database_url.startswith("postgresql"):
        execute(app, f"ALTER TABLE users ADD CHECK (username <> '{name}')")
    else:
        trigger = f"BEFORE INSERT ON users WHEN NEW.username = '{name}' BEGIN SELECT RAISE(ABORT, 'taken'); END"
        execute(app, f"CREATE TRIGGER taken {trigger}")
    result = run(app, "users", "import", users_file(tmp_path, accounts.BATCH + 2), code=1)
    assert error_of(result).startswith(
        "A user name was taken during the import. Only the first 2000 users were imported."
    )
    assert can_sign_in(app, f"user{accounts.BATCH - 1}")
    assert not can_sign_in(app, f"user{accounts.BATCH}")


@SQLITE
def test_database_error_in_a_later_batch_leaves_the_batches_before_it(app: Flask, tmp_path: Path) -> None:
    overflow = "SELECT abs(-9223372036854775807 - 1)"
    trigger = f"BEFORE INSERT ON users WHEN NEW.username = 'user{accounts.BATCH + 1}' BEGIN {overflow}; END"
    execute(app, f"CREATE TRIGGER broken {trigger}")
    result = run(app, "users", "import", users_file(tmp_path, accounts.BATCH + 2), code=1)
    assert result.stderr.startswith("Only the first 2000 users were imported.\nError: the database")
    assert can_sign_in(app, f"user{accounts.BATCH - 1}")
    assert not can_sign_in(app, f"user{accounts.BATCH}")


@SQLITE
def test_repeated_import_creates_the_other_users(app: Flask, tmp_path: Path) -> None:
    run(app, "users", "import", users_file(tmp_path, accounts.BATCH))
    repeated = run(app, "users", "import", users_file(tmp_path, accounts.BATCH + 2), code=1)
    assert repeated.stdout == f"Imported 2 users; found {accounts.BATCH} invalid lines.\n"
    assert f"{accounts.BATCH - 10} more lines: The user name is taken.\n" in repeated.stderr
    assert can_sign_in(app, f"user{accounts.BATCH + 1}")
