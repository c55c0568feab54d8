"""Fixtures and helpers for guessing passwords, and for counts of guesses."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Final

import pytest
import sqlalchemy as sa
import time_machine
from flask import Flask

from tests.support.app import application
from tests.support.client import Client, Response
from tests.support.servers import Redis
from tokenapp import db
from tokenapp.models import AddressCount
from tokenapp.throttle import rate_limit

WRONG: Final = "not the password at all"
LIMIT: Final = 10
LOW: Final = {"TOKENAPP_ADDRESS_FAILURES": str(LIMIT)}
PROXIED: Final = {"TOKENAPP_TRUSTED_PROXIES": "127.0.0.1"}
START: Final = datetime(2031, 5, 6, 7, 8, 20, tzinfo=UTC)
_names = (f"user-{number}" for number in count())


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    """Stop the clock. The test moves it."""
    with time_machine.travel(START, tick=False) as traveller:
        yield traveller


@pytest.fixture
def limited(database_url: str) -> Iterator[Flask]:
    """Provide the application with a low limit, behind a proxy."""
    with application(database_url, **LOW, **PROXIED) as app:
        yield app


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    """Provide a Redis or Valkey server."""
    with Redis(tmp_path) as server:
        yield server


def guess(
    target: Flask | int, address: str = "192.0.2.1", *, name: str | None = None, password: str = WRONG
) -> Response:
    """Guess the password of `name`, by default of an unused account."""
    return Client(target).login(name or next(_names), password, headers={"X-Forwarded-For": address})


def use_up(app: Flask, address: str = "192.0.2.1", times: int = LIMIT) -> None:
    """Send so many wrong passwords from `address`, by default as many as are allowed."""
    assert {guess(app, address).status for _ in range(times)} == {401}


def counted(app: Flask) -> dict[str, int]:
    """Return the counts of wrong passwords in the database by address."""
    with app.app_context():
        passwords = AddressCount.key.startswith("tokenapp/passwords/")
        rows = db.execute_now(sa.select(AddressCount.key, AddressCount.count).where(passwords))
    return {key.split("/")[2]: number for key, number in map(tuple, rows)}


def storage() -> rate_limit.DatabaseStorage:
    """Return the storage of the current application's counts."""
    stored = db.per_process(rate_limit._Limiter).storage
    assert isinstance(stored, rate_limit.DatabaseStorage)
    return stored


def current_minute() -> int:
    """Return the number of the current minute of the clock."""
    return int(time.time() // rate_limit.WINDOW)
