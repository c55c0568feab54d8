"""Migrations 0004 and 0005 keep users, sessions and keys, both ways."""

from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from typing import Any, Final

import flask_migrate
import jwt
import pytest
import sqlalchemy as sa
from flask import Flask

from tests.support.app import application, create_user
from tests.support.client import Client, claims_of, sign_in
from tokenapp import db
from tokenapp.keys import lifecycle

PREVIOUS: Final = "0003"
RENAMED: Final = {"credentials_changed_at": "password_changed_at", "encrypted": "sealed"}
# Keys that the version before 0004 stored, encrypted under the SECRET_KEY of the tests.
ACCESS_KEY: Final = (
    "3ff584d8370d5958f2480164eaf2a9e034b0e14b947130196fe636c21104b18aec5ca94a7812b8a406b3387f1b19c6d419bcb3bdc32c3dba"
    "0944f760f4eff7c0a55b941dbff04c5abeac5475cf584faaf63b5e91031e2091b1f6f74384afc3553e7209a58113cdbcff5b515dafd9555b"
    "492929d7139ecd1438d66dc8c5d6796175985958747e6b7e35e51ea5cbc3e1ff97cf8749ec93e155839eb5147511664f268084bbd890"
)
REFRESH_KEY: Final = (
    "3cd45e0a79478a59e630ca165d28e9d7b98c43a132341055f5a3046fe888c1c4a9758260f15e6b8e9fb7df7993424aeccf2481d2a3364a1f"
    "51187ff3"
)
STORED_KEYS: Final = (
    ("2w_g7q9BX7PbLt9yUNzqy3m-CgvC1Evm73_tQWnvUAk", "access", "ES256", ACCESS_KEY),
    ("mmgcmYu0RKCK3Q2F", "refresh", "HS256", REFRESH_KEY),
)


@pytest.fixture(autouse=True)
def in_context(app: Flask) -> Iterator[None]:
    """Keep the application's context, which the commands for migrations need."""
    with app.app_context():
        yield


def rows(table: str) -> list[dict[str, Any]]:
    """Return all rows of `table` as the database stores them."""
    with db.db.engine.connect() as connection:
        return [dict(row) for row in connection.execute(sa.text(f"SELECT * FROM {table} ORDER BY 1")).mappings()]


def as_before(row: dict[str, Any], columns: Collection[str]) -> dict[str, Any]:
    """Return a row as the previous version, with these columns, stores it."""
    stored = {RENAMED.get(name, name): value for name, value in row.items()}
    return {name: value for name, value in stored.items() if name in columns}


def after_upgrade(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row as the upgrade stores it again."""
    return row | dict.fromkeys(("last_ip_address", "last_user_agent")) if row.get("revoked_at") else row


def test_rows_are_kept_in_both_directions(app: Flask) -> None:
    for username in ("alice", "bob"):
        create_user(app, username)
    clients = [sign_in(app, "alice"), sign_in(app, "alice"), sign_in(app, "bob")]
    clients[0].logout()
    clients[1].refresh()
    before = {table: rows(table) for table in ("users", "sessions", "signing_keys", "events")}
    assert [len(each) for each in before.values()] == [2, 3, 2, 8]
    flask_migrate.downgrade(revision=PREVIOUS)
    for table, each in before.items():
        reverted = rows(table)
        assert reverted == [as_before(row, reverted[0].keys()) for row in each]
    flask_migrate.upgrade()
    assert {table: rows(table) for table in before} == {
        table: [after_upgrade(row) for row in each] for table, each in before.items()
    }


def test_sessions_of_the_previous_version_go_on(app: Flask, database_url: str) -> None:
    create_user(app)
    client = sign_in(app)
    flask_migrate.downgrade(revision=PREVIOUS)
    flask_migrate.upgrade()
    with application(database_url) as upgraded:
        client.target = upgraded
        assert client.protected().status == 200
        assert client.refresh().status == 200
        assert claims_of(client.token or "")["amr"] == ["pwd"]
        assert Client(upgraded).login().status == 200


def test_signing_keys_of_the_previous_version_are_decrypted(app: Flask, database_url: str) -> None:
    create_user(app)
    flask_migrate.downgrade(revision=PREVIOUS)
    insert = sa.text(
        "INSERT INTO signing_keys (kid, use, serial, algorithm, sealed, created_at, activates_at)"
        " VALUES (:kid, :use, 1, :algorithm, :sealed, :now, :now)"
    ).bindparams(sa.bindparam("now", datetime.now(UTC), db.Instant()), sa.bindparam("sealed", type_=sa.LargeBinary))
    with db.db.engine.begin() as connection:
        for kid, use, algorithm, sealed in STORED_KEYS:
            values = {"kid": kid, "use": use, "algorithm": algorithm, "sealed": bytes.fromhex(sealed)}
            connection.execute(insert, values)
    flask_migrate.upgrade()
    assert lifecycle.unreadable(datetime.now(UTC)) == []
    with application(database_url) as upgraded:
        client = sign_in(upgraded)
        kids = [jwt.get_unverified_header(token or "")["kid"] for token in (client.token, client.cookie)]
        assert kids == [kid for kid, *_ in STORED_KEYS]
        assert (client.protected().status, client.refresh().status) == (200, 200)
