"""For other services: key set, metadata, introspection, revocation, the feed of ended sessions, forward checks."""

import json
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

import jwt as pyjwt
import pytest
import sqlalchemy as sa
from flask import Flask
from joserfc import jwt as jose
from joserfc.jwk import KeySet
from werkzeug.test import TestResponse

from tests.conftest import Servers
from tests.support.app import PASSWORD, create_user
from tests.support.server import run_flask
from tokenapp import accounts, clients, db, keys, sessions
from tokenapp.models import Client, Session

DEAD = b'{"active":false}'


class Party:
    """A user who is signed in, and another service with credentials."""

    def __init__(self, app: Flask, username: str = "alice") -> None:
        self.app, self.username = app, username
        self.user_id = create_user(app, username)
        self.http = app.test_client(use_cookies=False)
        with app.app_context():
            client, secret = clients.create("shop", datetime.now(UTC))
        self.credentials = (client.id, secret)
        self.sign_in()

    def sign_in(self) -> None:
        """Sign in anew."""
        reply = self.http.post("/api/login", json={"username": self.username, "password": PASSWORD})
        assert reply.json is not None
        self.access: str = reply.json["accessToken"]
        self.refresh: str = reply.headers["Set-Cookie"].partition(";")[0].partition("=")[2]

    def ask(self, path: str, token: str | None, credentials: tuple[str, str] | None = None) -> TestResponse:
        """Send `token` as a client would."""
        return self.http.post(path, data={"token": token}, headers=basic(*(credentials or self.credentials)))

    def introspect(self, token: str) -> bytes:
        """Return what introspection says of `token`."""
        reply = self.ask("/api/introspect", token)
        assert reply.status_code == 200
        return bytes(reply.data)

    def sid(self) -> str:
        """Return the id of the session."""
        return str(pyjwt.decode(self.access, options={"verify_signature": False})["sid"])


@pytest.fixture
def party(app: Flask) -> Party:
    """Give a user who is signed in, and a client."""
    return Party(app)


def basic(name: str, secret: str) -> dict[str, str]:
    return {"Authorization": "Basic " + b64encode(f"{name}:{secret}".encode()).decode()}


def test_the_key_set_holds_public_members_only_and_may_be_kept_as_long_as_a_new_key_waits(party: Party) -> None:
    reply = party.http.get("/.well-known/jwks.json")
    assert (reply.status_code, reply.mimetype) == (200, "application/jwk-set+json")
    assert reply.headers["Cache-Control"] == "public, max-age=300"
    (jwk,) = json.loads(reply.data)["keys"]
    assert set(jwk) == {"kty", "crv", "x", "y", "kid", "use", "alg"}
    assert jwk["kid"] == keys.thumbprint(jwk)


def test_others_verify_our_tokens_with_the_published_keys(party: Party) -> None:
    published = json.loads(party.http.get("/.well-known/jwks.json").data)
    claims = jose.decode(party.access, KeySet.import_key_set(published), algorithms=["ES256"]).claims
    assert claims["username"] == "alice"
    key = pyjwt.PyJWKSet.from_dict(published)[pyjwt.get_unverified_header(party.access)["kid"]]
    decoded = pyjwt.decode(party.access, key, algorithms=["ES256"], audience="tokenapp-api")
    assert decoded == claims


def test_pyjwts_own_client_finds_the_key_over_http(app: Flask, database_url: str, serve: Servers) -> None:
    create_user(app)
    server = serve(database_url)
    token = server.client.login().json["accessToken"]
    key = pyjwt.PyJWKClient(f"http://127.0.0.1:{server.port}/.well-known/jwks.json").get_signing_key_from_jwt(token)
    assert pyjwt.decode(token, key, algorithms=["ES256"], audience="tokenapp-api")["username"] == "alice"
    with pytest.raises(pyjwt.InvalidAudienceError):
        pyjwt.decode(token, key, algorithms=["ES256"], audience="another")


def test_the_metadata_lists_routes_that_are_there(party: Party) -> None:
    reply = party.http.get("/.well-known/oauth-authorization-server")
    assert reply.json is not None
    issuer = reply.json["issuer"]
    paths = {value.removeprefix(issuer) for name, value in reply.json.items() if name.endswith(("_uri", "_endpoint"))}
    assert paths == {"/.well-known/jwks.json", "/api/introspect", "/api/revoke"}
    assert paths <= {rule.rule for rule in party.app.url_map.iter_rules()}


def test_introspection_tells_what_a_live_token_is_worth(party: Party) -> None:
    for token, kind in ((party.access, "Bearer"), (party.refresh, "refresh_token")):
        said, claims = json.loads(party.introspect(token)), pyjwt.decode(token, options={"verify_signature": False})
        assert (said["active"], said["token_type"]) == (True, kind)
        assert {name: said[name] for name in ("iss", "sub", "aud", "exp", "iat", "jti", "sid")} == {
            name: claims[name] for name in ("iss", "sub", "aud", "exp", "iat", "jti", "sid")
        }


def sign_out(party: Party) -> None:
    party.http.post("/api/logout", headers={"Cookie": f"refreshToken={party.refresh}"})


def disable(party: Party) -> None:
    with party.app.app_context():
        accounts.disable(accounts.find(party.username), datetime.now(UTC))


def change_password(party: Party) -> None:
    with party.app.app_context():
        accounts.set_password(accounts.find(party.username), "another long pass phrase", datetime.now(UTC))


def drop_keys(party: Party) -> None:
    with party.app.app_context():
        for info in keys.lifecycle.list_keys(datetime.now(UTC)):
            keys.lifecycle.retire(info.kid, datetime.now(UTC), at_once=True)


def pass_the_end(party: Party) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    with party.app.app_context():
        db.execute_now(sa.update(Session).values(expires_at=past, ends_at=past))


@pytest.mark.parametrize("end", [sign_out, disable, change_password, drop_keys, pass_the_end])
def test_a_token_is_inactive_at_the_very_next_call_after_its_end(party: Party, end: Callable[[Party], None]) -> None:
    assert party.introspect(party.access) != DEAD
    assert party.introspect(party.refresh) != DEAD
    end(party)
    assert party.introspect(party.access) == DEAD
    assert party.introspect(party.refresh) == DEAD


@pytest.mark.parametrize("token", ["x", "a.b.c", "é", "x" * 9000])
def test_what_is_no_token_of_ours_is_as_dead_as_any(party: Party, token: str) -> None:
    assert party.introspect(token) == DEAD


def test_a_replaced_refresh_token_is_active_in_its_window_only(party: Party) -> None:
    party.http.post("/api/token", headers={"Cookie": f"refreshToken={party.refresh}"})
    assert party.introspect(party.refresh) != DEAD
    with party.app.app_context():
        db.execute_now(sa.update(Session).values(rotated_at=datetime.now(UTC) - timedelta(seconds=31)))
    assert party.introspect(party.refresh) == DEAD


@pytest.mark.parametrize("path", ["/api/introspect", "/api/revoke"])
def test_whoever_is_no_client_learns_and_changes_nothing(party: Party, path: str) -> None:
    name, secret = party.credentials
    for credentials in ((name, "wrong"), ("nobody", secret), (secret, name), (name, "")):
        reply = party.ask(path, party.access, credentials)
        assert (reply.status_code, reply.json and reply.json["error"]) == (401, "invalid_client")
        assert reply.headers["WWW-Authenticate"].startswith("Basic realm=")
    assert party.http.post(path, data={"token": party.access}).status_code == 401
    assert party.introspect(party.access) != DEAD


@pytest.mark.parametrize("path", ["/api/introspect", "/api/revoke"])
@pytest.mark.parametrize("form", [b"", b"token=", b"token=a&token=b", b"other=1", b"token=%ff"])
def test_a_form_without_one_token_is_an_invalid_request(party: Party, path: str, form: bytes) -> None:
    headers = basic(*party.credentials)
    reply = party.http.post(path, data=form, headers=headers, content_type="application/x-www-form-urlencoded")
    assert (reply.status_code, reply.json and reply.json["error"]) == (400, "invalid_request")
    assert party.http.post(path, json={"token": party.access}, headers=headers).status_code == 400


def test_revocation_ends_the_session_of_either_token_and_tells_nothing(party: Party) -> None:
    for kind in ("access", "refresh"):
        party.sign_in()
        assert (party.ask("/api/revoke", getattr(party, kind)).data, party.ask("/api/revoke", "x").data) == (b"{}",) * 2
        reply = party.http.post("/api/token", headers={"Cookie": f"refreshToken={party.refresh}"})
        assert reply.status_code == 403
        with party.app.app_context():
            row = sessions.get(party.sid())
        assert row is not None
        assert row.revoked_reason == "revoked_by_client"


def test_a_proxy_is_told_whose_request_it_is(app: Flask) -> None:
    party = Party(app, "zoë müller")
    reply = party.http.get("/api/verify", headers={"Authorization": f"Bearer {party.access}"})
    assert (reply.status_code, reply.data) == (204, b"")
    assert unquote(reply.headers["X-Auth-User"]) == "zoë müller"
    assert (reply.headers["X-Auth-Subject"], reply.headers["X-Auth-Session"]) == (party.user_id, party.sid())
    assert party.http.get("/api/verify").status_code == 401
    assert party.http.get("/api/verify", headers={"Authorization": "Bearer x"}).status_code == 403


def test_of_all_credentials_each_route_takes_its_own_only(party: Party) -> None:
    bearer = {kind: {"Authorization": f"Bearer {getattr(party, kind)}"} for kind in ("access", "refresh")}
    cookie = {kind: {"Cookie": f"refreshToken={getattr(party, kind)}"} for kind in ("access", "refresh")}
    ways: dict[str, dict[str, str]] = {
        "nothing": {},
        "access as bearer": bearer["access"],
        "refresh as bearer": bearer["refresh"],
        "access as cookie": cookie["access"],
        "refresh as cookie": cookie["refresh"],
        "client": basic(*party.credentials),
    }
    form: Any = {"data": {"token": "x"}}
    routes = [
        ("GET", "/api/protected", {}, "access as bearer"),
        ("GET", "/api/me", {}, "access as bearer"),
        ("GET", "/api/sessions", {}, "access as bearer"),
        ("GET", "/api/verify", {}, "access as bearer"),
        ("POST", "/api/token", {}, "refresh as cookie"),
        ("POST", "/api/introspect", form, "client"),
        ("POST", "/api/revoke", form, "client"),
        ("GET", "/api/revocations", {}, "client"),
    ]
    for method, path, sent, right in routes:
        taken = {
            way
            for way, headers in ways.items()
            if party.http.open(path, method=method, headers=headers, **sent).status_code < 400
        }
        assert taken == {right}, path


def test_the_feed_tells_of_every_session_that_ended(party: Party, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokenapp.sessions.listing.FEED_PAGE", 3)  # an amount: pages of ten thousand take too long
    ended = []
    for _ in range(7):
        ended.append(party.sid())
        sign_out(party)
        party.sign_in()
    told, cursor, pages = drain(party, None)
    assert (told, pages) == (ended, 3)
    ended.append(party.sid())
    sign_out(party)
    assert ended[-1] in drain(party, cursor)[0]


def drain(party: Party, cursor: str | None) -> tuple[list[str], str, int]:
    """Read the feed from `cursor` to its end; return what it told, the next cursor and the number of pages."""
    told: list[str] = []
    pages, more = 0, True
    while more:
        query = {"since": cursor} if cursor else {}
        page: Any = party.http.get("/api/revocations", query_string=query, headers=basic(*party.credentials)).json
        told += [item["sid"] for item in page["items"]]
        cursor, more, pages = page["cursor"], page["more"], pages + 1
    return told, cursor or "", pages


def test_a_client_is_made_listed_and_deleted_and_its_secret_shown_once(app: Flask, database_url: str) -> None:
    made = json.loads(run_flask(database_url, "clients", "create", "shop", "--json").stdout)
    party = Party(app)
    assert party.ask("/api/introspect", party.access, (made["id"], made["secret"])).status_code == 200
    listed = run_flask(database_url, "clients", "list", "--json").stdout
    assert made["id"] in listed
    assert made["secret"] not in listed
    with app.app_context():
        stored = db.execute_now(sa.select(Client.secret_hash).where(Client.id == made["id"]))
    assert made["secret"] not in str(stored)
    assert run_flask(database_url, "clients", "delete", made["id"]).returncode == 0
    assert party.ask("/api/introspect", party.access, (made["id"], made["secret"])).status_code == 401
    assert "There is no such client." in run_flask(database_url, "clients", "delete", made["id"]).stderr
