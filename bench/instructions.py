"""Count the instructions of a rotation and its parts with valgrind.

    valgrind --tool=callgrind --instr-atstart=no --callgrind-out-file=FILE python -m bench.instructions PROGRAM

The counts do not depend on other work on the machine. They cover one process that runs only the application, without
the kernel. DATABASE_URL names the database. The count of each part is written to a separate file.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from flask import Flask, Response
from werkzeug.test import EnvironBuilder

from bench import ours
from bench.programs import PASSWORD, Place
from bench.rivals import prepare, textbook
from tests.support.app import ROOT, application, environment

TIMES = 100
WARM = 20
Environ = dict[str, Any]


def instructions(place: Place) -> dict[str, dict[str, float]]:
    """Return the instructions of one rotation on SQLite, in thousands.

    They are counted for this service, for the parts of its rotation, and for the textbook program.
    """
    found: dict[str, dict[str, float]] = {}
    for program in ("ours", "textbook"):
        out = place.folder / f"{program}.callgrind"
        command = ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={out}"]
        url = place.database("sqlite", f"instructions_{program}")
        done = subprocess.run(
            [*command, sys.executable, "-m", "bench.instructions", program],
            cwd=ROOT,
            env=environment(DATABASE_URL=url),
            capture_output=True,  # includes the log lines, whose cost is counted
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        found[program] = dict(_counts(out))
    return found


def _counts(out: Path) -> Iterator[tuple[str, float]]:
    for file in sorted(out.parent.glob(f"{out.name}.*")):
        text = file.read_text()
        name = re.search(r"^desc: Trigger: dump (\w+)$", text, re.MULTILINE)
        count = re.search(r"^totals: (\d+)$", text, re.MULTILINE)
        if name and count:
            yield name[1], round(int(count[1]) / TIMES / 1000, 1)


def _count(name: str, call: Callable[[], object]) -> None:
    for _ in range(WARM):
        call()
    _control("--instr=on")
    for _ in range(TIMES):
        call()
    _control("--instr=off")
    _control(f"--dump={name}")


def _control(what: str) -> None:
    subprocess.run(["callgrind_control", what, str(os.getpid())], capture_output=True, check=True)


def _call(app: Flask, environ: Environ) -> None:
    status: list[str] = []
    b"".join(app.wsgi_app(environ, lambda line, _fields, _fault=None: status.append(line)))  # type: ignore[arg-type]  # it returns no write function
    assert status == ["200 OK"], status


def _refresh(name: str, token: str) -> Environ:
    return EnvironBuilder("/api/token", method="POST", headers=[("Cookie", f"{name}={token}")]).get_environ()


def _ours(url: str) -> None:
    from tokenapp import db, keys  # noqa: PLC0415 -- one program at a time
    from tokenapp.models import RefreshClaims  # noqa: PLC0415 -- the same
    from tokenapp.sessions import rotation  # noqa: PLC0415 -- the same
    from tokenapp.tokens import verification  # noqa: PLC0415 -- the same

    ours.prepare(url, 1, PASSWORD)
    minted = iter([*ours.open_sessions(url, 3 * (TIMES + WARM))])
    with application(url, **ours.FIXED) as app:
        requests = iter([_refresh("refreshToken", next(minted).refresh_token) for _ in range(TIMES + WARM)])
        _count("rotation", lambda: _call(app, next(requests)))
        with app.app_context():
            now, grace = datetime.now(UTC), timedelta(seconds=30)
            ring = keys.current(now)
            message = b"x" * 400
            _count("es256", lambda: ring.signing["access"].sign(message))
            _count("hs256", lambda: ring.signing["refresh"].sign(message))
            claims = [verification.verify(next(minted).refresh_token, now=now) for _ in range(2 * (TIMES + WARM))]
            shown = iter([RefreshClaims(each["sid"], each["jti"], each["gen"]) for each in claims])
            _count("row", lambda: rotation._rotate(next(shown), now, grace))  # noqa: SLF001 -- the statement without the policy
            statement, dialect = rotation.statement(grace), db.db.engine.dialect
            connection: Any = db.db.engine.raw_connection()
            calls = iter(
                [
                    statement.bind(dialect, rotation.parameters(each, now, grace))
                    for each in [next(shown) for _ in range(TIMES + WARM)]
                ]
            )

            def run() -> None:
                call, cursor = next(calls), connection.cursor()
                cursor.execute(call.sql, call.values)
                assert len(cursor.fetchall()) == 1

            _count("sqlite", run)
            connection.close()
    bare = Flask("bare")
    bare.add_url_rule("/api/token", view_func=lambda: Response("{}"), methods=["POST"])
    environ = _refresh("refreshToken", "x" * 400)
    _count("flask", lambda: _call(bare, dict(environ)))


def _textbook() -> None:
    tokens = [refresh for _, refresh in prepare.textbook(PASSWORD, 1, TIMES + WARM)]
    app = textbook.make_app()
    requests = iter([_refresh("refresh_token_cookie", token) for token in tokens])
    _count("rotation", lambda: _call(app, next(requests)))


if __name__ == "__main__":
    if sys.argv[1] == "ours":
        _ours(os.environ["DATABASE_URL"])
    else:
        _textbook()
