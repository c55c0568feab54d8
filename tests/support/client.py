"""The one HTTP client of the tests, over TCP or in process."""

import base64
import http.client
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from flask import Flask

from tests.support.app import PASSWORD

OWN: Final = "the client's own cookie or token"


@dataclass(frozen=True)
class Response:
    """An HTTP response; `headers` in their order, with repetitions."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    seconds: float = 0.0

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    @property
    def problem(self) -> tuple[int, str, str]:
        """The status, code and message of an error."""
        return self.status, self.code, str(self.json["message"])

    @property
    def code(self) -> str:
        """The code of an error."""
        return str(self.json["code"])

    def all(self, name: str) -> list[str]:
        """All values of the header `name`."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def header(self, name: str) -> str | None:
        """The first value of the header `name`."""
        return next(iter(self.all(name)), None)

    @property
    def cookie(self) -> str | None:
        """The new value of the refresh cookie.

        None if the response does not set the cookie, empty if it clears it.
        """
        for line in self.all("Set-Cookie"):
            name, _, value = line.split(";")[0].partition("=")
            if name.endswith("refreshToken"):
                return value
        return None


class Client:
    """A client of the service at a port, or of an application in this process.

    It keeps the refresh cookie and the access token that it gets, and `refresh`, `logout`, `protected` and `call` send
    them unless they are given others. `send` sends exactly what it is given.
    """

    def __init__(self, target: Flask | int, *, timeout: float = 20, cookie_name: str = "refreshToken") -> None:
        self.target = target
        self.timeout = timeout
        self.cookie_name = cookie_name
        self.cookie: str | None = None
        self.token: str | None = None

    @property
    def sid(self) -> str:
        """The id of the session."""
        assert self.token is not None
        return str(claims_of(self.token)["sid"])

    def send(
        self,
        method: str,
        path: str,
        *,
        body: bytes | Iterable[bytes] | None = None,
        payload: Any = None,
        form: Mapping[str, str] | None = None,
        cookie: str | None = None,
        bearer: str | None = None,
        headers: Mapping[str, str] | None = None,
        environ: Mapping[str, Any] | None = None,
    ) -> Response:
        """Send one request on a new connection and return the response.

        Args:
            body: a body; the parts of an iterable are sent as chunks.
            payload: a body that is sent as JSON.
            form: a body that is sent as a form.
            environ: changes to the WSGI environment, for an application in this process.
        """
        sent = dict(headers or {})
        if payload is not None:
            body = json.dumps(payload).encode()
            sent.setdefault("Content-Type", "application/json")
        if form is not None:
            body = urlencode(form).encode()
            sent.setdefault("Content-Type", "application/x-www-form-urlencoded")
        if cookie is not None:
            sent["Cookie"] = f"{self.cookie_name}={cookie}"
        if bearer is not None:
            sent["Authorization"] = f"Bearer {bearer}"
        began = time.monotonic()
        if isinstance(self.target, Flask):
            client = self.target.test_client(use_cookies=False)
            reply = client.open(path, method=method, data=body, headers=sent, environ_overrides=environ, buffered=True)
            return Response(reply.status_code, list(reply.headers.items()), reply.data, time.monotonic() - began)
        connection = self.connect()
        try:
            connection.request(method, path, body, sent)
            received = connection.getresponse()
            return Response(received.status, received.getheaders(), received.read(), time.monotonic() - began)
        finally:
            connection.close()

    def connect(self) -> http.client.HTTPConnection:
        """Return a connection for one request."""
        assert isinstance(self.target, int)
        return http.client.HTTPConnection("127.0.0.1", self.target, timeout=self.timeout)

    def login(self, username: str = "alice", password: str = PASSWORD, **more: Any) -> Response:
        """Sign in."""
        credentials = {"username": username, "password": password}
        return self._keep(self.send("POST", "/api/login", payload=credentials, **more))

    def refresh(self, cookie: str | None = OWN, **more: Any) -> Response:
        """Refresh."""
        cookie = self.cookie if cookie is OWN else cookie
        return self._keep(self.send("POST", "/api/token", cookie=cookie, **more))

    def logout(self, cookie: str | None = OWN, **more: Any) -> Response:
        """Sign out."""
        cookie = self.cookie if cookie is OWN else cookie
        return self._keep(self.send("POST", "/api/logout", cookie=cookie, **more))

    def protected(self, bearer: str | None = OWN, **more: Any) -> Response:
        """Call the protected route."""
        return self.call("GET", "/api/protected", bearer=bearer, **more)

    def call(self, method: str, path: str, *, bearer: str | None = OWN, **more: Any) -> Response:
        """Call a route with the access token."""
        return self._keep(self.send(method, path, bearer=self.token if bearer is OWN else bearer, **more))

    def _keep(self, response: Response) -> Response:
        if response.cookie is not None:
            self.cookie = response.cookie or None
        if response.status == http.client.OK and b'"accessToken"' in response.body:
            self.token = response.json["accessToken"]
        return response


def sign_in(target: Flask | int, username: str = "alice", password: str = PASSWORD) -> Client:
    """Return a client that is signed in."""
    client = Client(target)
    response = until_available(lambda: client.login(username, password))
    assert response.status == http.client.OK, response.body
    return client


def until_available(send: Callable[[], Response]) -> Response:
    """Send a request again while the service responds 503, as on a busy machine."""
    response = send()
    for _ in range(10):
        if response.status != http.client.SERVICE_UNAVAILABLE:
            break
        time.sleep(0.2)
        response = send()
    return response


def claims_of(token: str) -> dict[str, Any]:
    """Return the claims of a token without verifying it."""
    payload = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims
