"""A flood of sign-ins leaves threads for other requests."""

import threading

import pytest

from tests.conftest import Databases
from tests.support.app import create_user, make_app
from tests.support.client import Client, sign_in
from tokenapp import passwords


@pytest.mark.parametrize(("threads", "places"), [("1", 2), ("4", 2), ("8", 6)])
def test_password_routes_have_two_threads_less(databases: Databases, threads: str, places: int) -> None:
    app = make_app(databases("sqlite"), TOKENAPP_THREADS=threads)
    create_user(app)
    client = sign_in(app)
    entered, leave = threading.Barrier(places + 1), threading.Event()

    def occupy() -> None:
        with app.app_context(), passwords.place():
            entered.wait(60)
            leave.wait(60)

    occupants = [threading.Thread(target=occupy) for _ in range(places)]
    for occupant in occupants:
        occupant.start()
    entered.wait(60)
    try:
        refused = [
            Client(app).login(),
            client.call("POST", "/api/reauthenticate", payload={"password": "any"}),
            client.call("PUT", "/api/me/password", payload={"currentPassword": "any", "newPassword": "any"}),
        ]
        assert client.refresh().status == 200
    finally:
        leave.set()
        for occupant in occupants:
            occupant.join()
    for response in refused:
        assert (response.status, response.code, response.header("Retry-After")) == (503, "service_unavailable", "1")
    assert Client(app).login().status == 200
