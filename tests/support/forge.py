"""Forge tokens, with the service's own keys or with other keys."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa
from flask import Flask

from tests.support.app import create_user
from tests.support.client import Client, Response, sign_in
from tokenapp import db, keys
from tokenapp.models import Session

Use = keys.Use


class _Missing:
    """The absence of a member.

    Its representation is the same in every process, because test ids contain it.
    """

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
    """Serialize as JSON without spaces.

    Bytes are returned unchanged, so that malformed JSON can be sent too.
    """
    return value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()


def changed(members: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """Return `members` with `changes`; `MISSING` removes a member."""
    return {name: value for name, value in {**members, **changes}.items() if value is not MISSING}


def header_of(token: str) -> dict[str, Any]:
    """Return the header of a token."""
    header: dict[str, Any] = json.loads(unb64(token.partition(".")[0]))
    return header


def kid_of(token: str) -> str:
    """Return the id of the key that signed a token, according to its header."""
    return str(header_of(token)["kid"])


@dataclass(frozen=True)
class Issued:
    """One session of one user, with its valid tokens and the keys that signed them."""

    app: Flask
    good: Mapping[Use, str]
    keys: Mapping[Use, keys.Key]

    def header(self, use: Use) -> dict[str, Any]:
        """Return the header of the valid token."""
        return header_of(self.good[use])

    def claims(self, use: Use) -> dict[str, Any]:
        """Return the claims of the valid token."""
        claims: dict[str, Any] = json.loads(unb64(self.good[use].split(".")[1]))
        return claims

    def sign(self, use: Use, header: Any = None, claims: Any = None) -> str:
        """Sign `header` and `claims` with the service's key for `use`.

        They are those of the valid token by default.
        """
        head = b64(compact(self.header(use) if header is None else header))
        return self.sign_raw(use, head + b"." + b64(compact(self.claims(use) if claims is None else claims)))

    def sign_raw(self, use: Use, message: bytes) -> str:
        """Sign the two encoded segments `message` with the service's key for `use`."""
        return (message + b"." + b64(self.keys[use].sign(message))).decode("latin-1")

    def with_claims(self, use: Use, **changes: Any) -> str:
        """Sign the valid token's claims with `changes`."""
        return self.sign(use, claims=changed(self.claims(use), **changes))

    def with_header(self, use: Use, **changes: Any) -> str:
        """Sign the valid token's claims under its header with `changes`."""
        return self.sign(use, changed(self.header(use), **changes))

    def protected(self, token: str) -> Response:
        """Present `token` as a bearer token."""
        return Client(self.app).protected(_as_header(token))

    def refresh(self, token: str) -> Response:
        """Present `token` as a refresh token."""
        return Client(self.app).refresh(_as_header(token))

    def present(self, use: Use, token: str) -> Response:
        """Present `token` where tokens of that use belong."""
        return self.protected(token) if use == "access" else self.refresh(token)

    def logout(self, *, cookie: str | None = None, bearer: str | None = None) -> Response:
        """Sign out with a refresh token or an access token."""
        return Client(self.app).logout(
            None if cookie is None else _as_header(cookie), bearer=None if bearer is None else _as_header(bearer)
        )

    def row(self) -> tuple[Any, ...]:
        """Return the session's row in the database."""
        with self.app.app_context():
            row = sa.select(Session.__table__).where(Session.id == self.claims("refresh")["sid"])
            return tuple(db.execute_now(row)[0])

    def assert_rejected(self, token: str) -> None:
        """Check that every route rejects `token`, and that the session does not change."""
        before = self.row()
        response = self.protected(token)
        assert response.problem == BAD_ACCESS
        assert response.header("WWW-Authenticate") == 'Bearer realm="tokenapp-api", error="invalid_token"'
        assert response.cookie is None
        response = self.refresh(token)
        assert response.problem == BAD_REFRESH
        assert response.cookie is None
        assert self.logout(cookie=token).status == 204
        assert self.logout(bearer=token).status == 204
        assert self.row() == before


def issue(app: Flask, username: str = "alice") -> Issued:
    """Create a user, sign in, and return the issued tokens with their keys."""
    create_user(app, username)
    client = sign_in(app, username)
    assert client.token is not None
    assert client.cookie is not None
    with app.app_context():
        signing = keys.current(datetime.now(UTC)).signing
    return Issued(app, {"access": client.token, "refresh": client.cookie}, signing)


def _as_header(text: str) -> str:
    """Return the bytes that a client sends for `text`, as WSGI presents them."""
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass").decode("latin-1")
    return text
