"""A browser that binds its session to a key, without the browser."""

import json
import re
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from flask import Flask

from tests.support.client import OWN, Client, Response

REGISTRATION: Final = "/api/device-binding/registration"
REFRESH: Final = "/api/device-binding/refresh"
_CHALLENGE: Final = re.compile(r'"([^"]+)"')


class Browser(Client):
    """A client that signs challenges as browsers do; `bound` is its bound cookie."""

    def __init__(self, target: Flask | int, **more: Any) -> None:
        super().__init__(target, **more)
        self.key: Any = ec.generate_private_key(ec.SECP256R1())
        self.algorithm = "ES256"
        self.bound: str | None = None
        self.offer: str | None = None

    @property
    def challenge(self) -> str:
        """The challenge of the last sign-in."""
        assert self.offer is not None
        found = re.search(r'challenge="([^"]+)"', self.offer)
        assert found is not None
        return found[1]

    def sign(self, challenge: str, *, header: Any = None, **claims: Any) -> str:
        """Return a proof; `header` and `claims` replace parts of it."""
        headers = {"typ": "dbsc+jwt", **(header or {})}
        return jwt.encode({"jti": challenge, **claims}, self.key, self.algorithm, headers)

    def jwk(self) -> dict[str, Any]:
        """Return the public key."""
        kind: Any = jwt.get_algorithm_by_name(self.algorithm)
        public: dict[str, Any] = json.loads(kind.to_jwk(self.key.public_key()))
        return {name: value for name, value in public.items() if name != "key_ops"}

    def sign_in(self, username: str = "alice") -> None:
        """Sign in and keep what the service offers."""
        response = self.login(username)
        assert response.status == 200, response.body
        self.offer = response.header("Secure-Session-Registration")

    def register(self, proof: str | None = None) -> Response:
        """Register the key, as browsers do after a sign-in."""
        proof = self.sign(self.challenge, header={"jwk": self.jwk()}) if proof is None else proof
        return self._bound(
            self.send("POST", REGISTRATION, cookie=self.cookie, headers={"Secure-Session-Response": proof})
        )

    def ask(self, sid: str | None = None) -> str:
        """Ask for a challenge."""
        response = self.send("POST", REFRESH, headers={"Sec-Secure-Session-Id": f'"{sid or self.sid}"'})
        assert response.status == 403, response.body
        found = _CHALLENGE.match(response.header("Secure-Session-Challenge") or "")
        assert found is not None
        return found[1]

    def prove(self, proof: str | None = None) -> Response:
        """Renew the bound cookie."""
        proof = self.sign(self.ask()) if proof is None else proof
        headers = {"Sec-Secure-Session-Id": f'"{self.sid}"', "Secure-Session-Response": proof}
        return self._bound(self.send("POST", REFRESH, headers=headers))

    def refresh(self, cookie: str | None = OWN, *, skipped: str | None = None, **more: Any) -> Response:
        """Refresh with the bound cookie, if there is one."""
        cookies = [f"{self.cookie_name}={self.cookie if cookie is OWN else cookie}"]
        cookies += [] if self.bound is None else [f"__Host-bound={self.bound}"]
        headers = {"Cookie": "; ".join(cookies)}
        if skipped is not None:
            headers["Secure-Session-Skipped"] = f'{skipped};session_identifier="{self.sid}"'
        return self._keep(self.send("POST", "/api/token", headers=headers, **more))

    def _bound(self, response: Response) -> Response:
        for line in response.all("Set-Cookie"):
            if line.startswith("__Host-bound="):
                self.bound = line.split(";")[0].partition("=")[2]
        return response


def copy_of(browser: Browser, *, with_cookie: bool = True) -> Browser:
    """Return another browser with a copy of the cookies, and without the key."""
    thief = Browser(browser.target, cookie_name=browser.cookie_name)
    thief.cookie, thief.token = browser.cookie, browser.token
    thief.bound = browser.bound if with_cookie else None
    return thief
