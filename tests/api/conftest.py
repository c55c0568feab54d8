"""An application with users, and a clock that tests move."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

import pytest
import time_machine
from flask import Flask

from tests.conftest import Databases
from tests.support.app import application, create_user

START: Final = datetime(2031, 5, 6, 7, 8, 0, tzinfo=UTC)


@pytest.fixture
def service(app: Flask) -> Flask:
    """Return the application with the users alice and bob."""
    create_user(app, "alice")
    create_user(app, "bob")
    return app


@pytest.fixture(scope="module")
def shared_app(databases: Databases) -> Iterator[Flask]:
    """Return an application without users, on SQLite."""
    with application(databases("sqlite")) as app:
        yield app


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    """Return a clock that stands still unless the test moves it."""
    with time_machine.travel(START, tick=False) as clock:
        yield clock
