"""Revocations that race refreshes and sign-ins (S3, S4, S10, S11)."""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from time import monotonic, sleep

import pytest

from tests.sessions.service import REVOCATION_DELAY, Service, sole_successor
from tests.support.client import Client, Response, claims_of
from tests.support.concurrency import at_once, repeating, wait_until
from tokenapp import accounts, sessions


@dataclass
class Successes:
    """The successful responses that racing clients got.

    Those to sign-ins have the time at which they arrived.
    """

    refreshes: list[Response] = field(default_factory=list)
    sign_ins: list[tuple[float, Response]] = field(default_factory=list)

    def refresh(self, client: Client, token: str) -> None:
        """Refresh, and keep the response."""
        response = client.refresh(token)
        if response.status == 200:
            self.refreshes.append(response)
        else:
            assert (response.status, response.cookie) == (403, None)
            sleep(0.01)

    def sign_in(self, client: Client, username: str) -> None:
        """Sign in, and keep the response."""
        response = client.login(username)
        if response.status == 200:
            self.sign_ins.append((monotonic(), response))
        else:
            # On a serializable database, conflicts with other sign-ins can use up all tries.
            assert response.status in {401, 429, 503}
        sleep(0.03)


def sign_out(service: Service, _username: str, token: str) -> None:
    assert service.client.logout(token).status == 204


def disable(service: Service, username: str, _token: str) -> None:
    with service.app.app_context():
        accounts.disable(accounts.find(username), datetime.now(UTC))


def set_password(service: Service, username: str, _token: str) -> None:
    with service.app.app_context():
        accounts.set_password(accounts.find(username), "another horse, another staple", datetime.now(UTC))


def revoke_all(service: Service, username: str, _token: str) -> None:
    with service.app.app_context():
        sessions.revoke_all_of(accounts.find(username).id, "operator", datetime.now(UTC))


Revoke = Callable[[Service, str, str], None]


def assert_revoked(service: Service, refresh_tokens: set[str], access_tokens: Iterable[str]) -> None:
    """Check that no token works in any worker and that no session is listed."""
    client = service.client
    for token in refresh_tokens:
        assert client.refresh(token).status == 403, "S3: a refresh succeeded after the revocation"
    sleep(REVOCATION_DELAY)
    for token in access_tokens:
        statuses = {response.status for response in at_once(*[partial(client.protected, token)] * 6)}
        assert statuses == {403}, "S11: an access token was accepted after the revocation delay"
    with service.app.app_context():
        live = {row.id for row, _ in sessions.list_sessions(datetime.now(UTC))}
    assert not live & {claims_of(token)["sid"] for token in refresh_tokens}, "S10: a revoked session is listed"


@pytest.mark.parametrize("revoke", [sign_out, disable, set_password, revoke_all])
def test_no_token_survives_a_revocation_that_races_refreshes(service: Service, revoke: Revoke) -> None:
    client = service.client
    for _ in range(2):
        username = service.new_user()
        token = service.sign_in(username)
        second = sole_successor([client.refresh(token)])
        got = Successes()
        with repeating(*[partial(got.refresh, client, each) for each in (token, second, second, second)]):
            sleep(random.uniform(0.05, 0.15))
            service.end_grace_period(second)  # so that rotations take part in the race
            revoke(service, username, second)
            service.end_grace_period(second)
            after = [response.status for response in at_once(*[partial(client.refresh, second)] * 8)]
        assert set(after) == {403}, "S3: a refresh that began after the revocation succeeded"
        refresh_tokens = {response.cookie or "" for response in got.refreshes} | {token, second}
        access_tokens = [response.json["accessToken"] for response in got.refreshes]
        assert_revoked(service, refresh_tokens, {*access_tokens[:4], *access_tokens[-6:]})


@pytest.mark.parametrize("revoke", [disable, set_password, revoke_all])
def test_no_sign_in_survives_a_revocation_of_all_sessions(service: Service, revoke: Revoke) -> None:
    username = service.new_user()
    got = Successes()
    with repeating(*[partial(got.sign_in, service.client, username) for _ in range(4)]):
        wait_until(lambda: len(got.sign_ins) >= 8, what="sign-ins")
        began = monotonic()
        revoke(service, username, "")
        sleep(0.1)
    # An operator's revocation ends the sessions of that time. Disabling or a new password prevents sign-ins, too.
    revoked = [response for at, response in got.sign_ins if at < began or revoke is not revoke_all]
    assert revoked
    access_tokens = {response.json["accessToken"] for response in revoked[-8:]}
    assert_revoked(service, {response.cookie or "" for response in revoked}, access_tokens)
