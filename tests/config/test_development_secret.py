"""The secret that development creates at its first start."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support.app import ROOT, environment
from tests.support.settings import problems_of, production
from tokenapp.config import load


def test_development_secret_is_created_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    instance = tmp_path / "new" / "instance"
    before = os.umask(0)
    try:
        first = load({"TOKENAPP_ENV": "development"}, instance)
    finally:
        os.umask(before)
    second = load({"TOKENAPP_ENV": "development"}, instance)
    assert first.secret_key == second.secret_key
    assert problems_of(production(SECRET_KEY=first.secret_key), tmp_path) == []
    assert (instance / "secret_key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in instance.iterdir()] == ["secret_key"]


def test_production_creates_no_secret(tmp_path: Path) -> None:
    problems_of({}, tmp_path)
    problems_of({"TOKENAPP_ENV": "dev"}, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_empty_development_secret_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "secret_key").write_text("")
    [problem] = problems_of({"TOKENAPP_ENV": "development"}, tmp_path)
    assert problem.startswith("SECRET_KEY is not set")


def test_development_secret_that_cannot_be_stored_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    problems = problems_of(
        {"TOKENAPP_ENV": "development", "DATABASE_URL": "sqlite:////x.db"}, tmp_path / "file" / "instance"
    )
    assert [problem.split()[0] for problem in problems] == ["SECRET_KEY"]


def test_processes_that_start_at_the_same_time_create_one_secret(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; from tokenapp.config import load; print('ready', flush=True); sys.stdin.readline(); "
    )
    program += "places = [pathlib.Path(sys.argv[1]) / str(number) for number in range(100)]; "
    program += "print([load({'TOKENAPP_ENV': 'development'}, place).secret_key for place in places])"
    command = [sys.executable, "-c", program, str(tmp_path)]
    processes = [
        subprocess.Popen(command, cwd=ROOT, env=environment(), text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    made = {process.communicate(timeout=100)[0] for process in processes}
    assert len(made) == 1
    assert {path.name for path in tmp_path.glob("*/*")} == {"secret_key"}
