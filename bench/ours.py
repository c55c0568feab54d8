"""Start this service and open sessions in its database."""

import os
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

import flask_migrate
import sqlalchemy as sa

from bench.load import Request
from tests.support.app import ROOT, application, environment
from tokenapp import accounts, db, passwords, tokens
from tokenapp.models import Grant, Session, User

FIXED = {
    "TOKENAPP_PASSWORD_MEMORY": "19456",
    "TOKENAPP_PASSWORD_PASSES": "2",
    "TOKENAPP_ISSUER": "http://tokenapp.bench",
}
BATCH = 5000


def settings(url: str, **more: str) -> dict[str, str]:
    """Return the environment: the defaults, in development mode without TLS."""
    return environment(DATABASE_URL=url, **FIXED, **more)


def command() -> list[str]:
    """Return the command that starts the service, as in its README."""
    return [sys.executable, "-m", "gunicorn", "-c", str(ROOT / "gunicorn.conf.py")]


def under_granian(port: int) -> list[str]:
    """Return the command for granian with one worker, as in docs/granian.md."""
    command = [sys.executable, "-m", "granian", "--interface", "wsgi", "--http", "1", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1", "--blocking-threads", "4", "--respawn-failed-workers"]
    return [*command, "--workers-kill-timeout", "20", "--http1-buffer-size", "16384", "wsgi:app"]


def prepare(url: str, users: int, password: str) -> str:
    """Create the tables and the users; return the hash that all users share."""
    with application(url, **FIXED) as app, app.app_context():
        flask_migrate.upgrade()
        hashed = passwords.hash_password(password)
        now = datetime.now(UTC)
        drafts = [accounts.draft(accounts.NewUser(name_of(index), password_hash=hashed), now) for index in range(users)]
        accounts.add_all(drafts, now)
        return hashed


def name_of(index: int) -> str:
    """Return the username of the user with this index."""
    return f"user{index:04}"


def open_sessions(
    url: str, number: int, *, minted: int | None = None, under: Mapping[str, str] | None = None
) -> Iterator[tokens.Minted]:
    """Open sessions, spread over the users, in few transactions.

    Yield the tokens of the first `minted` sessions, or of all of them.
    """
    with application(url, **{**FIXED, **(under or {})}) as app, app.app_context():
        with db.reading() as reader:
            users = list(reader.scalars(sa.select(User).order_by(User.username)))
        now = datetime.now(UTC)
        left = number if minted is None else minted
        for start in range(0, number, BATCH):
            rows = [_row(users[index % len(users)], now) for index in range(start, min(start + BATCH, number))]
            with db.writing() as writer:
                writer.execute(sa.insert(Session), rows)
            for row, index in zip(rows, range(start, number), strict=False):
                if left > 0:
                    left -= 1
                    yield tokens.mint(_grant(row, users[index % len(users)]), now)


def refresh(minted: str) -> Request:
    """Return the request that refreshes with a token."""
    return Request("POST", "/api/token", {"Cookie": f"refreshToken={minted}"})


def logout(minted: str) -> Request:
    """Return the request that signs out with a token."""
    return Request("POST", "/api/logout", {"Cookie": f"refreshToken={minted}"})


def _row(user: User, now: datetime) -> dict[str, object]:
    return {
        "id": db.new_id(now),
        "user_id": user.id,
        "current_jti": os.urandom(16).hex(),
        "generation": 0,
        "created_at": now,
        "authenticated_at": now,
        "expires_at": now + timedelta(days=7),
        "ends_at": now + timedelta(days=30),
        "ip_address": "127.0.0.1",
        "user_agent": "wrk",
    }


def _grant(row: dict[str, object], user: User) -> Grant:
    times = {name: row[name] for name in ("expires_at", "ends_at", "authenticated_at")}
    return Grant(
        "opened",
        sid=str(row["id"]),
        user_id=user.id,
        username=user.username,
        jti=str(row["current_jti"]),
        generation=0,
        issued_at=row["created_at"],  # type: ignore[arg-type]  # a row is of any type
        **times,  # type: ignore[arg-type]  # the same
    )
