"""The current settings and database are those of the application's context."""

from collections.abc import Iterator
from contextvars import Context
from pathlib import Path

import pytest
from flask import Flask

from tests.conftest import Databases
from tests.support.app import application, create_user
from tests.support.client import Client
from tests.support.concurrency import at_once
from tests.support.sqlite import file_of
from tokenapp import accounts, config, db, errors

Current = tuple[int, Path]


@pytest.fixture
def apps(databases: Databases) -> Iterator[tuple[Flask, Flask]]:
    """Return two applications with different grace periods and databases.

    Only the first has the user alice.
    """
    with (
        application(databases("sqlite"), TOKENAPP_REFRESH_GRACE="11s") as first,
        application(databases("sqlite"), TOKENAPP_REFRESH_GRACE="22s") as second,
    ):
        create_user(first)
        yield first, second


def current() -> Current:
    """Return the grace period and the database file that are current."""
    return config.current().refresh_grace, Path(str(db.current().engine.url.database))


def of(app: Flask) -> Current:
    """Return what is current in a context of `app`."""
    with app.app_context():
        return current()


def has_alice() -> bool:
    """Return whether the current database has the user alice."""
    try:
        accounts.find("alice")
    except errors.TokenappError:
        return False
    return True


def test_each_application_has_its_settings_and_database(apps: tuple[Flask, Flask]) -> None:
    found = [of(app) for app in apps]
    assert [seconds for seconds, _ in found] == [11, 22]
    urls = [str(app.config["SQLALCHEMY_DATABASE_URI"]) for app in apps]
    assert [file for _, file in found] == [file_of(url) for url in urls]


def test_nested_context_is_the_inner_application_and_then_the_outer_again(apps: tuple[Flask, Flask]) -> None:
    first, second = apps
    expected = [of(app) for app in apps]
    with first.app_context():
        assert (current(), has_alice()) == (expected[0], True)
        with second.app_context():
            assert (current(), has_alice()) == (expected[1], False)
            with first.app_context():
                assert (current(), has_alice()) == (expected[0], True)
            assert (current(), has_alice()) == (expected[1], False)
        assert (current(), has_alice()) == (expected[0], True)


def test_outer_application_is_current_again_after_an_error(apps: tuple[Flask, Flask]) -> None:
    first, second = apps

    def fail(outer: Current) -> None:
        with second.app_context():
            assert current() != outer
            raise ZeroDivisionError

    with first.app_context():
        before = current()
        with pytest.raises(ZeroDivisionError):
            fail(before)
        assert current() == before


def test_request_to_one_application_in_the_context_of_another_uses_its_own_database(
    apps: tuple[Flask, Flask],
) -> None:
    first, second = apps
    with second.app_context():
        before = current()
        assert Client(first).login().status == 200
        assert Client(second).login().status == 401
        assert current() == before


def test_threads_have_their_own_current_application(apps: tuple[Flask, Flask]) -> None:
    expected = [of(app) for app in apps]

    def read_many(app: Flask) -> set[Current]:
        return {of(app) for _ in range(200)}

    assert at_once(*[lambda app=app: read_many(app) for app in apps * 2]) == [{each} for each in expected * 2]


def test_nothing_is_current_outside_of_all_contexts(apps: tuple[Flask, Flask]) -> None:
    def read() -> None:
        of(apps[0])
        for get in (config.current, db.current):
            with pytest.raises(LookupError):
                get()

    Context().run(read)
