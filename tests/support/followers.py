"""Clients that keep refreshing while something fails, and their checks."""

import http.client
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from time import monotonic, sleep
from typing import Final

from flask import Flask

from tests.support.client import Client, Response, claims_of, sign_in
from tokenapp import db
from tokenapp.models import Session

# Seconds, by the promises L2 and L1.
RESPONSE_WITHIN: Final = 5.0
BACK_WITHIN: Final = 10.0


@dataclass
class Follower:
    """A signed-in client that repeats every request that got no response or 503.

    `responses` has the time and the route of each response, and `failures` the errors of requests without one.
    """

    client: Client
    pause: float = 0.005
    responses: list[tuple[float, str, Response]] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)

    def step(self) -> None:
        """Refresh, and call the protected route."""
        self._send("token", self.client.refresh)
        self._send("protected", self.client.protected)

    def step_until_failure(self) -> None:
        """Do a step unless a request has failed."""
        if self.failures:
            sleep(0.05)
        else:
            self.step()

    def statuses(self, since: float = 0) -> Counter[int]:
        """Count the responses since the time `since`, by status."""
        return Counter(response.status for at, _, response in self.responses if at >= since)

    def is_settled(self, since: float) -> bool:
        """Return whether both routes responded 200 since then, or the session is lost."""
        return self.back(since) < math.inf or 403 in self.statuses()

    def back(self, since: float) -> float:
        """Return the time from which both routes had responded 200 again."""
        first = {
            route: at for at, route, response in reversed(self.responses) if at >= since and response.status == 200
        }
        return max(first.values()) if len(first) == 2 else math.inf

    def last_responses(self) -> str:
        """Describe the last responses and the last failure."""
        seen = [f"{route} {response.status} in {response.seconds:.1f} s" for _, route, response in self.responses[-4:]]
        return f"{', '.join(seen)}; {self.failures[-1:]}"

    def _send(self, route: str, call: Callable[[], Response]) -> None:
        try:
            response = call()
        except (OSError, http.client.HTTPException) as error:
            self.failures.append(error)
            sleep(0.05)
            return
        self.responses.append((monotonic(), route, response))
        sleep(self.pause if response.status == 200 else 0.2)


def followers(target: Flask | int, count: int, *, pause: float = 0.005) -> list[Follower]:
    """Sign in `count` clients, each of which pauses `pause` seconds after a success."""
    return [Follower(sign_in(target), pause) for _ in range(count)]


def wait_until_settled(crowd: Iterable[Follower], since: float, *, seconds: float = BACK_WITHIN) -> None:
    """Wait until all followers are settled (L1)."""
    deadline = monotonic() + seconds
    while late := [each for each in crowd if not each.is_settled(since)]:
        assert monotonic() < deadline, f"L1: not back after {seconds} s: {[each.last_responses() for each in late]}"
        sleep(0.05)


def responses_of(crowd: Iterable[Follower]) -> list[Response]:
    """Return all responses that the followers got."""
    return [response for follower in crowd for _, _, response in follower.responses]


def statuses_of(crowd: Iterable[Follower]) -> set[int]:
    """Return the statuses of all responses that the followers got."""
    return {response.status for response in responses_of(crowd)}


def failures_of(crowd: Iterable[Follower]) -> list[Exception]:
    """Return the errors of all requests that got no response."""
    return [error for follower in crowd for error in follower.failures]


def assert_served_or_unavailable(responses: Iterable[Response]) -> None:
    """Check X1 and L2: each response is 200, or a 503 with Retry-After, and in time."""
    for response in responses:
        assert response.status in {200, 503}, response.body
        assert response.seconds < RESPONSE_WITHIN, f"L2: a response took {response.seconds:.1f} s"
        if response.status == 503:
            assert response.header("Content-Type") == "application/problem+json"
            assert int(response.header("Retry-After") or 0) > 0
            assert response.cookie is None


def assert_nothing_lost(app: Flask, crowd: Sequence[Follower], target: Flask | int) -> None:
    """Check D1 and D4: no acknowledged rotation is lost, and each session is live."""
    for follower in crowd:
        token = follower.client.cookie or ""
        acknowledged = claims_of(token)["gen"]
        assert acknowledged <= _generation(app, token) <= acknowledged + 1, "D1: an acknowledged rotation is lost"
        assert Client(target).refresh(token).status == 200, "D4: a session is lost"
    assert statuses_of(crowd) <= {200, 503}, "D4: a session is lost"


def _generation(app: Flask, token: str) -> int:
    with app.app_context(), db.reading() as session:
        return session.get_one(Session, claims_of(token)["sid"]).generation
