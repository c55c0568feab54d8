"""Migration 0007 gives every user a login name, and loses none on the way back."""

import flask_migrate
import pytest
import sqlalchemy as sa
from flask import Flask

from tests.support.app import application, create_user
from tests.support.client import sign_in
from tokenapp import db
from tokenapp.models import LoginName


@pytest.fixture
def previous(app: Flask) -> Flask:
    """Return the application on the tables of the previous version, with users."""
    for name in ("alice", "bob@example.com"):
        create_user(app, name)
    with app.app_context():
        flask_migrate.downgrade(revision="0006")
    return app


def names(app: Flask) -> list[str]:
    with app.app_context():
        return sorted(row.name for row in db.execute_now(sa.select(LoginName.name)))


def test_users_of_the_previous_version_sign_in(previous: Flask, database_url: str) -> None:
    with previous.app_context():
        flask_migrate.upgrade()
    assert names(previous) == ["alice", "bob@example.com"]
    with application(database_url) as upgraded:
        for name in ("alice", "Bob@example.com"):
            sign_in(upgraded, name)


def test_name_with_a_domain_in_punycode_keeps_working(previous: Flask) -> None:
    with previous.app_context():
        with db.db.engine.begin() as connection:
            connection.execute(
                sa.text("UPDATE users SET username = 'a@xn--bcher-kva.example' WHERE username = 'alice'")
            )
        flask_migrate.upgrade()
    assert names(previous) == ["a@b\u00fccher.example", "bob@example.com"]
    for name in ("a@xn--bcher-kva.example", "a@b\u00fccher.example"):
        sign_in(previous, name)
