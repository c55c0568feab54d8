"""SQLite: locked, read-only or missing files, and a full disk (D1, D4, L1, L2)."""

import math
import resource
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic

import pytest
import sqlalchemy as sa
from flask import Flask
from sqlalchemy.exc import DBAPIError

from tests.conftest import Databases, Servers
from tests.support.app import application, create_user
from tests.support.client import Client, claims_of, sign_in
from tests.support.concurrency import at_once, repeating, wait_until
from tests.support.followers import (
    Follower,
    assert_nothing_lost,
    assert_served_or_unavailable,
    followers,
    responses_of,
    statuses_of,
    wait_until_settled,
)
from tests.support.sqlite import file_of, write_lock
from tokenapp import db
from tokenapp.models import Session

only_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@only_sqlite
def test_responses_are_timely_while_another_program_locks_the_file(
    app: Flask, database_url: str, serve: Servers
) -> None:
    create_user(app)
    server = serve(database_url, TOKENAPP_REFRESH_GRACE="2s")
    crowd = followers(server.port, 24)
    leaving = sign_in(server.port)
    with repeating(*[follower.step for follower in crowd]):
        with write_lock(database_url):
            wait_until(lambda: 503 in statuses_of(crowd), what="503")
            rejected = leaving.logout()
            wait_until(lambda: all(each.statuses()[503] >= 3 for each in crowd), what="503 for each client")
        healed = monotonic()
        wait_until_settled(crowd, healed)
    assert (rejected.status, rejected.all("Set-Cookie")) == (503, []), "the cookie must stay until the end is stored"
    assert_served_or_unavailable([rejected, *responses_of(crowd)])
    assert _statuses_of_route(crowd, "protected") == {200}
    assert _statuses_of_route(crowd, "token") == {200, 503}
    assert_nothing_lost(app, crowd, server.port)


def _statuses_of_route(crowd: list[Follower], wanted: str) -> set[int]:
    return {response.status for each in crowd for _, route, response in each.responses if route == wanted}


@only_sqlite
def test_two_writes_of_a_request_share_its_time(app: Flask, database_url: str) -> None:
    with app.app_context(), write_lock(database_url):
        db.deadline.set(monotonic() + 1.0)  # as after a statement that waited for 2 s
        began = monotonic()
        with pytest.raises(DBAPIError, match="locked"):
            db.execute_now(sa.update(Session).values(generation=0))
        assert monotonic() - began < 1.5
        db.end_budget()


@only_sqlite
def test_800_rotations_in_several_processes_find_no_lock(app: Flask, database_url: str, serve: Servers) -> None:
    create_user(app)
    server = serve(database_url, TOKENAPP_REFRESH_GRACE="0", WEB_CONCURRENCY="3", TOKENAPP_THREADS="16")

    def rotate_100_times() -> int:
        client = sign_in(server.port)
        for _ in range(100):
            client.refresh()
        return int(claims_of(client.cookie or "")["gen"])

    assert at_once(*[rotate_100_times] * 8) == [100] * 8
    assert "locked" not in server.log.read_text()


@only_sqlite
def test_read_only_database_is_503(app: Flask, database_url: str) -> None:
    create_user(app)
    cookie = sign_in(app).cookie
    with application(database_url.replace("sqlite:///", "sqlite:///file:") + "?mode=ro&uri=true") as read_only:
        client = Client(read_only)
        for response in (client.refresh(cookie), client.logout(cookie)):
            assert (response.status, response.all("Set-Cookie")) == (503, [])
        assert client.login().status == 503


@pytest.mark.parametrize("opened", [False, True])
def test_missing_folder_of_the_database_is_503_until_it_is_back(
    databases: Databases, tmp_path: Path, *, opened: bool
) -> None:
    home, url = tmp_path / "home", f"sqlite:///{tmp_path}/home/tokenapp.db"
    home.mkdir()
    shutil.copy(file_of(databases("sqlite")), home / "tokenapp.db")
    with application(url) as app:
        create_user(app)
    with application(url) as app:
        client = sign_in(app) if opened else Client(app)
        home.rename(tmp_path / "away")
        assert client.login().status == 503
        assert not opened or client.refresh().status == 503
        home.mkdir()
        assert client.login().status == 503, "an empty folder has no database"
        assert not opened or not list(home.iterdir()), "a new database replaced the lost one"
        shutil.rmtree(home)
        (tmp_path / "away").rename(home)
        assert Client(app).login().status == 200
        assert not opened or client.refresh().status == 200


@only_sqlite
def test_full_disk_is_503_and_loses_nothing_that_was_acknowledged(
    app: Flask, database_url: str, serve: Servers
) -> None:
    create_user(app)
    server = serve(database_url, TOKENAPP_REFRESH_GRACE="1s")
    crowd = followers(server.port, 2)
    for follower in crowd:
        follower.step()
    with app.app_context():  # the next refresh of each is a rotation
        db.execute_now(sa.update(Session).values(rotated_at=datetime.now(UTC) - timedelta(seconds=10)))
    size = Path(f"{file_of(database_url)}-wal").stat().st_size
    for pid in server.workers():
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size + 5000, resource.RLIM_INFINITY))
    for follower in crowd * 2:
        follower.step()
    assert 503 in statuses_of(crowd)
    for pid in server.workers():
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    healed = monotonic()
    for follower in crowd:
        follower.step()
        assert follower.back(healed) < math.inf
    assert_nothing_lost(app, crowd, server.port)
