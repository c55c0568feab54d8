"""The start of servers: several at once, and what precedes the first thread."""

import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import sqlalchemy as sa
from flask import Flask

from tests.conftest import Databases, Servers
from tests.support.app import ROOT, create_user, environment
from tests.support.client import sign_in
from tests.support.concurrency import at_once
from tests.support.server import Server
from tokenapp import db
from tokenapp.models import SigningKey


def test_servers_that_start_at_the_same_time_agree_on_the_keys(app: Flask, database_url: str, serve: Servers) -> None:
    for username in ("alice", "bob"):
        create_user(app, username)
    settings = {"TOKENAPP_ISSUER": "http://one.test", "TOKENAPP_THREADS": "16"}
    with ThreadPoolExecutor(2) as pool:
        servers: list[Server] = list(pool.map(lambda _: serve(database_url, **settings), "ab"))
    clients = at_once(*[partial(sign_in, server.port, name) for server in servers for name in ("alice", "bob") * 4])
    with app.app_context(), db.reading() as session:
        assert sorted(session.scalars(sa.select(SigningKey.use))) == ["access", "refresh"]
    for server in servers:
        for client in clients:
            client.target = server.port
        assert Counter(response.status for response in at_once(*[client.protected for client in clients])) == {200: 16}
        assert Counter(client.refresh().status for client in clients) == {200: 16}


PREPARED = """
import gc, runpy, wsgi
from tokenapp.http.endpoint import described
from tokenapp.tokens import verification

runpy.run_path("gunicorn.conf.py")["when_ready"](None)
endpoints = [described(view) for view in wsgi.app.view_functions.values()]
types = {type for each in endpoints if each for type in (each.body, each.form, each.query) if type}
types |= {decoder.type for decoder in verification._DECODERS.values()}
assert len(types) > 6, types
for type_ in types:
    assert any(type(each).__name__ == "StructInfo" for each in gc.get_referents(type_)), type_
"""


def test_types_of_requests_are_prepared_before_there_are_threads(databases: Databases) -> None:
    # msgspec 0.22 shows a type that it is still preparing to other threads, which then follow null pointers.
    ended = subprocess.run(
        [sys.executable, "-c", PREPARED],
        cwd=ROOT,
        env=environment(DATABASE_URL=databases("sqlite")),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
