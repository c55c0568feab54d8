"""Tokens made by hand, with the service's own keys or with others: what an attacker, or a bug, could present."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa
from flask import Flask
from werkzeug.test import TestResponse

from tests.support.app import PASSWORD, create_user
from tokenapp import db, keys
from tokenapp.models import Session

Use = keys.Use


class _Missing:
    """What stands for no value; its name is the same in every process, as the names of tests must be."""

    def __repr__(self) -> str:
        return "missing"


MISSING: Final = _Missing()
BAD_ACCESS: Final = (403, "access_token_invalid", "Access token invalid or expired.")
BAD_REFRESH: Final = (403, "refresh_token_revoked", "Refresh token invalid or revoked.")


def b64(raw: bytes) -> bytes:
    """Encode as base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def unb64(segment: str) -> bytes:
    """Decode base64url without padding."""
    return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))


def compact(value: Any) -> bytes:
    """Write JSON without spaces; text is passed as it is, so that broken JSON can be sent too."""
    return value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()


def changed(members: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """Return `members` with `changes`; `MISSING` takes a member out."""
    return {name: value for name, value in {**members, **changes}.items() if value is not MISSING}


def code_of(response: TestResponse) -> tuple[int, str, str]:
    """Return what tells one refusal from another: status, code and message."""
    problem = response.get_json()
    return response.status_code, problem["code"], problem["message"]


@dataclass(frozen=True)
class Issued:
    """One session of one user, with its good tokens and the keys that signed them."""

    app: Flask
    good: Mapping[Use, str]
    keys: Mapping[Use, keys.Key]

    def header(self, use: Use) -> dict[str, Any]:
        """The header of the good token of that kind."""
        header: dict[str, Any] = json.loads(unb64(self.good[use].split(".")[0]))
        return header

    def claims(self, use: Use) -> dict[str, Any]:
        """The claims of the good token of that kind."""
        claims: dict[str, Any] = json.loads(unb64(self.good[use].split(".")[1]))
        return claims

    def sign(self, use: Use, header: Any = None, claims: Any = None) -> str:
        """Sign `header` and `claims`, by default those of the good token, with the true key of that kind."""
        head = b64(compact(self.header(use) if header is None else header))
        return self.sign_raw(use, head + b"." + b64(compact(self.claims(use) if claims is None else claims)))

    def sign_raw(self, use: Use, message: bytes) -> str:
        """Sign the two segments `message` as they stand with the true key of that kind."""
        return (message + b"." + b64(self.keys[use].sign(message))).decode("latin-1")

    def with_claims(self, use: Use, **changes: Any) -> str:
        """Sign the good token's claims with `changes`."""
        return self.sign(use, claims=changed(self.claims(use), **changes))

    def with_header(self, use: Use, **changes: Any) -> str:
        """Sign the good token's claims under its header with `changes`."""
        return self.sign(use, changed(self.header(use), **changes))

    def protected(self, token: str) -> TestResponse:
        """Present `token` as bearer token."""
        return self._send("GET", "/api/protected", bearer=token)

    def refresh(self, token: str) -> TestResponse:
        """Present `token` as refresh token."""
        return self._send("POST", "/api/token", cookie=token)

    def logout(self, *, cookie: str | None = None, bearer: str | None = None) -> TestResponse:
        """Sign out with one token or the other."""
        return self._send("POST", "/api/logout", cookie=cookie, bearer=bearer)

    def row(self) -> tuple[Any, ...]:
        """The session's row as it is stored."""
        with self.app.app_context():
            row = sa.select(Session.__table__).where(Session.id == self.claims("refresh")["sid"])
            return tuple(db.execute_now(row)[0])

    def assert_refused(self, token: str) -> None:
        """Present `token` in every place: each route gives its one answer, and the session stays as it is."""
        before = self.row()
        answer = self.protected(token)
        assert code_of(answer) == BAD_ACCESS
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="tokenapp-api", error="invalid_token"'
        assert "Set-Cookie" not in answer.headers
        answer = self.refresh(token)
        assert code_of(answer) == BAD_REFRESH
        assert "Set-Cookie" not in answer.headers
        assert self.logout(cookie=token).status_code == 204
        assert self.logout(bearer=token).status_code == 204
        assert self.row() == before

    def _send(self, method: str, path: str, *, cookie: str | None = None, bearer: str | None = None) -> TestResponse:
        headers = {} if cookie is None else {"Cookie": f"refreshToken={_as_header(cookie)}"}
        if bearer is not None:
            headers["Authorization"] = f"Bearer {_as_header(bearer)}"
        return self.app.test_client(use_cookies=False).open(path, method=method, headers=headers)


def issue(app: Flask, username: str = "alice") -> Issued:
    """Create a user, sign in, and return what was issued."""
    create_user(app, username)
    client = app.test_client(use_cookies=False)
    reply = client.post("/api/login", json={"username": username, "password": PASSWORD})
    assert reply.json is not None
    cookie = reply.headers["Set-Cookie"].split(";")[0].partition("=")[2]
    with app.app_context():
        signing = keys.current(datetime.now(UTC)).signing
    return Issued(app, {"access": reply.json["accessToken"], "refresh": cookie}, signing)


def _as_header(text: str) -> str:
    """Bring text beyond Latin-1 to the bytes a client would send, as WSGI shows them."""
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass").decode("latin-1")
    return text
