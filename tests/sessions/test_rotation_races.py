"""Simultaneous refreshes: one successor for each token (S1, S2, S5, S6, D4)."""

import random
import socket
from dataclasses import dataclass
from functools import partial
from time import sleep

import pytest

from tests.sessions.service import Service, cookies_with, sole_successor
from tests.support.client import Client, claims_of
from tests.support.concurrency import at_once, wait_until


@pytest.mark.parametrize("clients", [8, 32])
def test_simultaneous_refreshes_of_one_token_rotate_it_once(service: Service, clients: int) -> None:
    client = service.client
    for _ in range(3):
        oldest = newest = service.sign_in()
        for generation in range(1, 4):
            previous, newest = newest, sole_successor(at_once(*[partial(client.refresh, newest)] * clients))
            row = service.row(newest)
            expected = (generation, claims_of(previous)["jti"], claims_of(newest)["jti"])
            assert (row.generation, row.previous_jti, row.current_jti) == expected
            service.end_grace_period(newest)
        assert client.refresh(oldest).status == 403, "S2: a token older than the previous one was accepted"
        assert client.refresh(newest).status == 403, "S5: the session is live after a reuse"
        assert service.row(newest).revoked_reason == "reuse"


def test_simultaneous_refreshes_of_the_replaced_and_the_current_token_agree(service: Service) -> None:
    client = service.client
    first = service.sign_in()
    second = sole_successor([client.refresh(first)])
    for _ in range(5):
        calls = [partial(client.refresh, token) for token in (first, second) * 6]
        assert sole_successor(at_once(*calls)) == second
    assert service.row(second).generation == 1


def test_reuse_that_races_the_current_token_revokes_the_session(service: Service) -> None:
    client = service.client
    for _ in range(5):
        stolen = newest = service.sign_in()
        for _ in range(2):
            newest = sole_successor([client.refresh(newest)])
            service.end_grace_period(newest)
        calls = [partial(client.refresh, token) for token in (stolen, newest, newest, newest)]
        reuse, *others = at_once(*calls)
        assert reuse.status == 403
        for token in [newest, *(response.cookie for response in others if response.cookie)]:
            assert client.refresh(token).status == 403, "S5: a token works after the response to a reuse"


@dataclass
class CookieJar:
    """The refresh cookie that the tabs of a browser share.

    The response that arrives last sets it.
    """

    token: str


def refresh_in_tab(client: Client, jar: CookieJar, delay: float) -> int:
    """Refresh with the cookie in the jar; store the new one after `delay` seconds."""
    response = client.refresh(jar.token)
    sleep(delay)
    if response.cookie:
        jar.token = response.cookie
    return response.status


def test_tabs_that_share_a_cookie_are_never_signed_out(service: Service) -> None:
    client = service.client
    jar = CookieJar(service.sign_in())
    for generation in range(1, 7):
        for _ in range(3):
            tabs = [partial(refresh_in_tab, client, jar, random.uniform(0, 0.03)) for _ in range(6)]
            assert at_once(*tabs) == [200] * 6
        assert service.row(jar.token).generation == generation, "more than one rotation within a grace period"
        service.end_grace_period(jar.token)


def refresh_and_disconnect(service: Service, token: str) -> None:
    """Send a refresh, and close the connection before the response arrives."""
    cookies = cookies_with(token, service.cookies)
    with socket.create_connection(("127.0.0.1", service.server.port)) as connection:
        connection.sendall(f"POST /api/token HTTP/1.1\r\nHost: x\r\nCookie: {cookies}\r\n\r\n".encode())


def refreshes_served(service: Service) -> int:
    """Return the number of refreshes in the server's log."""
    return service.server.log.read_text().count("/api/token")


def test_client_that_loses_responses_can_retry(service: Service) -> None:
    token, served = service.sign_in(), refreshes_served(service)
    for generation in range(1, 7):
        at_once(*[partial(refresh_and_disconnect, service, token)] * generation)
        token = sole_successor([service.client.refresh(token)])
        served += generation + 1
        wait_until(partial(lambda count: refreshes_served(service) == count, served), what="the end of all requests")
        assert service.row(token).generation == generation
        service.end_grace_period(token)
